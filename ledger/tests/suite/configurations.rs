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
        let all: Vec<_> = ledger.configuration_revisions("optimiser", None).await.unwrap().records;
        let shown: Vec<_> = all.iter().map(|one| (one.record.revision, one.record.active)).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(shown.iter().filter(|(_, active)| *active).collect::<Vec<_>>(), [&(3, true)]);
        let missing = ledger.activate_configuration("optimiser", 9, &actor()).await.unwrap_err();
        assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    }

    async fn one_connection_is_enough_for_every_call(place) {
        // Reading by another connection inside a change waited for itself: with one connection it never ended well.
        let options = wattlog_ledger::LedgerOptions { max_connections: 1, ..wattlog_ledger::LedgerOptions::new(place.backend.clone()) };
        let ledger = Ledger::new(options, place.clock.clone()).unwrap();
        save(&ledger, json!({"a": 1}), Expected::Any).await.unwrap();
        save(&ledger, json!({"a": 2}), Expected::Any).await.unwrap();
        let back = ledger.activate_configuration("optimiser", 1, &actor()).await.unwrap();
        assert_eq!(back.record.data, json!({"a": 1}));
    }

    async fn a_difference_that_would_take_gigabytes_is_refused(place) {
        let ledger = place.open().await;
        let wide = |value: i64| json!({"k".repeat(300_000): vec![value; 100_000]});
        save(&ledger, wide(0), Expected::Any).await.unwrap();
        save(&ledger, wide(1), Expected::Any).await.unwrap();
        let refused = ledger.configuration_difference("optimiser", 1, 2).await.unwrap_err();
        assert!(matches!(refused, LedgerError::TooLarge { .. }), "{refused}");
    }
}
