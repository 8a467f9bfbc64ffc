//! Texts and numbers that a database may trip over.

use crate::on_both;
use crate::support::actor;
use serde_json::json;
use wattlog_ledger::schema::{Annotation, Preference, Session};
use wattlog_ledger::{Actor, LedgerError, Listing};

on_both! {
    async fn any_text_comes_back_or_is_refused_the_same_on_both(place) {
        let ledger = place.open().await;
        let texts = [
            "'; DROP TABLE annotations; --", "\"quoted\" `ticks` $1 ?2 :x", "za\u{17c}\u{f3}\u{142}\u{107} g\u{119}\u{15b}l\u{105} ja\u{17a}\u{144}",
            "\u{1f50b}\u{200d}\u{2600}\u{fe0f}", "\u{202e}backwards", "line\r\nbreak\ttab", "\u{feff}mark", "\\x00\\u0000",
        ];
        for text in texts {
            let told = json!({"start": "2026-03-01T10:00:00Z", "title": "t", "text": text, "tags": [text]});
            let record: Annotation = serde_json::from_value(told).unwrap();
            let stored = ledger.insert(record.clone(), &actor()).await.unwrap();
            assert_eq!(ledger.get::<Annotation>(stored.id).await.unwrap().unwrap().record, record, "{text:?}");
            let wish = Preference { owner: text.replace(['\r', '\n', '\t'], " "), name: "n".into(), value: json!({text: text}) };
            let stored = ledger.insert(wish.clone(), &actor()).await.unwrap();
            assert_eq!(ledger.get::<Preference>(stored.id).await.unwrap().unwrap().record, wish, "{text:?}");
        }
        let told = json!({"start": "2026-03-01T10:00:00Z", "title": "t", "text": "a\u{0}b"});
        let refused = ledger.insert(serde_json::from_value::<Annotation>(told).unwrap(), &actor()).await.unwrap_err();
        assert!(matches!(&refused, LedgerError::Invalid { invalid, .. } if invalid.field == "text"), "{refused}");
        // Inside JSON a NUL is written as six characters.
        let wish = Preference { owner: String::new(), name: "nul".into(), value: json!("a\u{0}b") };
        let stored = ledger.insert(wish.clone(), &actor()).await.unwrap();
        assert_eq!(ledger.get::<Preference>(stored.id).await.unwrap().unwrap().record, wish);
    }

    async fn numbers_keep_their_bits_and_what_is_none_is_refused(place) {
        let ledger = place.open().await;
        let told = json!({"session_id": "n", "kind": "charging", "start": "2026-03-01T10:00:00Z", "source": "grid", "status": "active",
            "origin": "reported"});
        let mut session: Session = serde_json::from_value(told).unwrap();
        for cost in [0.1 + 0.2, -0.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, 1.0 / 3.0, 9_007_199_254_740_993.0] {
            session.total_cost = Some(cost);
            ledger.put(session.clone(), &actor()).await.unwrap();
            let read = ledger.list::<Session>(&Listing::all()).await.unwrap().records.remove(0).record.total_cost.unwrap();
            // SQLite keeps no sign of a zero that it can store as an integer.
            assert!(read.to_bits() == cost.to_bits() || (read == 0.0 && cost == 0.0), "{read} {cost}");
        }
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            session.total_cost = Some(wrong);
            let refused = ledger.put(session.clone(), &actor()).await.unwrap_err();
            assert!(matches!(&refused, LedgerError::Invalid { invalid, .. } if invalid.field == "total_cost"), "{refused}");
        }
    }

    async fn a_number_that_was_not_known_in_one_record_is_stored_in_the_next(place) {
        // A null took the place of four bytes in the statement that PostgreSQL keeps, and the first number of eight was refused.
        let ledger = place.open().await;
        let energies = [None, Some(5.5), None, Some(-0.0), Some(0.25)];
        for (number, energy) in energies.into_iter().enumerate() {
            let told = json!({"session_id": number.to_string(), "kind": "charging", "start": "2026-03-01T10:00:00Z", "source": "grid",
                "status": "active", "energy_kwh": energy, "total_cost": energy});
            ledger.insert(serde_json::from_value::<Session>(told).unwrap(), &actor()).await.unwrap();
        }
        let stored = ledger.list::<Session>(&Listing::all()).await.unwrap().records;
        let stored: Vec<Option<f64>> = stored.into_iter().map(|one| one.record.energy_kwh).collect();
        assert_eq!(stored, energies);
    }

    async fn what_is_too_long_is_refused_and_a_long_name_of_an_actor_is_cut(place) {
        let ledger = place.open().await;
        let wish = |bytes: usize| Preference { owner: String::new(), name: "n".into(), value: json!("x".repeat(bytes)) };
        ledger.put(wish((1 << 20) - 2), &Actor::new(&"\u{142}".repeat(1000))).await.unwrap();
        let refused = ledger.put(wish((1 << 20) - 1), &actor()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Invalid { .. }), "{refused}");
        let stored = ledger.list::<Preference>(&Listing::all()).await.unwrap().records.remove(0);
        assert_eq!(stored.created.by.chars().count(), Actor::MAX_CHARS);
    }

    async fn a_name_of_a_device_is_no_longer_than_an_index_takes(place) {
        // 10 kB in an indexed column: SQLite took it, PostgreSQL did not.
        let ledger = place.open().await;
        let told = json!({"start": "2026-03-01T10:00:00Z", "title": "t", "device_id": "x".repeat(10_000)});
        let refused = ledger.insert(serde_json::from_value::<Annotation>(told).unwrap(), &actor()).await.unwrap_err();
        assert!(matches!(&refused, LedgerError::Invalid { invalid, .. } if invalid.field == "device_id"), "{refused}");
    }

    async fn a_long_history_comes_in_pages(place) {
        let ledger = place.open().await;
        let wish = |number: usize| Preference { owner: String::new(), name: "n".into(), value: json!(format!("{number}{}", "x".repeat(1 << 19))) };
        for number in 0..40 {
            ledger.put(wish(number), &actor()).await.unwrap();
        }
        let id = ledger.list::<Preference>(&Listing::all()).await.unwrap().records[0].id;
        let (mut versions, mut after) = (Vec::new(), 0);
        loop {
            let (changes, next) = ledger.history::<Preference>(id, after).await.unwrap();
            assert!(changes.len() <= 32, "{}", changes.len());
            versions.extend(changes.iter().map(|change| change.version));
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    }
}
