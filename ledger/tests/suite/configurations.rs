//! Configurations with their revisions.

use crate::on_both;
use crate::support::actor;
use serde_json::{Value, json};
use wattlog_ledger::{Expected, Ledger, LedgerError};

async fn save(ledger: &Ledger, data: Value, expected: Expected) -> Result<i64, LedgerError> {
    let saved = ledger.save_configuration("optimiser", None, data, String::new(), expected, &actor()).await;
    saved.map(|saved| saved.record.revision)
}

on_both! {
    async fn saving_makes_a_revision_and_an_old_one_can_be_put_in_force_again(place) {
        let ledger = place.open().await;
        let first = json!({"battery": {"capacity_kwh": 10}, "tariff": "g11"});
        let second = json!({"battery": {"capacity_kwh": 20, "type": "LFP"}, "tariff": "g11"});
        assert_eq!(save(&ledger, first.clone(), Expected::Any).await.unwrap(), 1);
        assert_eq!(save(&ledger, second.clone(), Expected::Version(1)).await.unwrap(), 2);
        // The same again makes none.
        assert_eq!(save(&ledger, second.clone(), Expected::Any).await.unwrap(), 2);
        let late = save(&ledger, json!({}), Expected::Version(1)).await.unwrap_err();
        assert!(matches!(late, LedgerError::Conflict { expected: 1, found: 2, .. }), "{late}");

        let active = ledger.configuration("optimiser", None).await.unwrap().unwrap();
        assert_eq!((active.record.revision, active.record.data), (2, second.clone()));
        let difference = ledger.configuration_difference("optimiser", 1, 2).await.unwrap();
        let mut patched = first.clone();
        json_patch::patch(&mut patched, &difference.patch).unwrap();
        assert_eq!(patched, second);
        assert_eq!(difference.patch.0.len(), 2, "{:?}", difference.patch);

        ledger.activate_configuration("optimiser", 1, &actor()).await.unwrap();
        let active = ledger.configuration("optimiser", None).await.unwrap().unwrap();
        assert_eq!((active.record.revision, active.record.data), (1, first));
        // Going on from there does not reuse a number.
        assert_eq!(save(&ledger, json!({"x": 1}), Expected::Version(1)).await.unwrap(), 3);
        let all: Vec<_> = ledger.configuration_revisions("optimiser").await.unwrap();
        let shown: Vec<_> = all.iter().map(|one| (one.record.revision, one.record.active)).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(shown.iter().filter(|(_, active)| *active).collect::<Vec<_>>(), [&(3, true)]);
        let missing = ledger.activate_configuration("optimiser", 9, &actor()).await.unwrap_err();
        assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    }
}
