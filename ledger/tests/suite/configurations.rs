//! Configurations with their revisions.

use crate::on_both;
use crate::support::actor;
use serde_json::{Value, json};
use wattlog_ledger::schema::Configuration;
use wattlog_ledger::{Expected, Ledger, LedgerError, Listing};

async fn save(ledger: &Ledger, data: Value, expected: Expected) -> Result<i64, LedgerError> {
    let saved = ledger.save_configuration("optimiser", None, data, None, expected, &actor()).await;
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
        let all: Vec<_> = ledger.list::<Configuration>(&Listing::all().with_text("name", "optimiser")).await.unwrap().records;
        let shown: Vec<_> = all.iter().map(|one| (one.record.revision, one.record.active)).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(shown.iter().filter(|(_, active)| *active).collect::<Vec<_>>(), [&(3, true)]);
        let missing = ledger.activate_configuration("optimiser", 9, &actor()).await.unwrap_err();
        assert!(matches!(missing, LedgerError::Missing { .. }), "{missing}");
    }

    async fn a_note_is_put_to_the_revision_in_force_and_every_change_is_told(place) {
        let ledger = place.open().await;
        let noted = async |data: i64, note: Option<&str>| {
            let note = note.map(str::to_owned);
            let saved = ledger.save_configuration("optimiser", None, json!(data), note, Expected::Any, &actor()).await.unwrap();
            (saved.record.revision, saved.record.note)
        };
        ledger.save_configuration("other", None, json!(0), None, Expected::Any, &actor()).await.unwrap();
        assert_eq!(noted(1, Some("first")).await, (1, "first".to_owned()));
        assert_eq!(noted(1, Some("better said")).await, (1, "better said".to_owned()));
        assert_eq!(noted(1, None).await, (1, "better said".to_owned()), "nothing is said of it");
        assert_eq!(noted(1, Some("")).await, (1, String::new()));
        assert_eq!(noted(2, None).await, (2, String::new()));
        ledger.activate_configuration("optimiser", 1, &actor()).await.unwrap();

        let (changes, next) = ledger.configuration_history("optimiser", 0).await.unwrap();
        let told: Vec<_> = changes.iter().map(|change| {
            let record = &change.record;
            (change.action.as_str(), record["revision"].as_i64().unwrap(), record["active"].as_bool().unwrap(), record["note"].as_str().unwrap())
        }).collect();
        assert_eq!(told, [
            ("created", 1, true, "first"), ("changed", 1, true, "better said"), ("changed", 1, true, ""),
            ("changed", 1, false, ""), ("created", 2, true, ""), ("changed", 2, false, ""), ("changed", 1, true, ""),
        ]);
        assert_eq!(next, None);
        assert!(changes.iter().all(|change| change.changed.by == "test"));
        assert_eq!(ledger.configuration_history("third", 0).await.unwrap(), (Vec::new(), None));
    }

    async fn the_history_of_a_configuration_goes_by_pages(place) {
        let ledger = place.open().await;
        let text = "x".repeat(1 << 19);
        for number in 0..12 {
            save(&ledger, json!([number, text]), Expected::Any).await.unwrap();
        }
        // Each but the first is two changes: the old one goes out of force, the new one comes.
        let (mut told, mut pages, mut after) = (Vec::new(), 0, 0);
        loop {
            let (changes, next) = ledger.configuration_history("optimiser", after).await.unwrap();
            told.extend(changes.iter().map(|change| (change.record["revision"].as_i64().unwrap(), change.version)));
            pages += 1;
            let Some(next) = next else { break };
            after = next;
        }
        let expected: Vec<_> = [(1, 1)].into_iter().chain((2..13).flat_map(|number| [(number - 1, 2), (number, 1)])).collect();
        assert_eq!(told, expected);
        assert_eq!(pages, 2);
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
