//! Many writers at once: nothing is lost, and who comes late is told.

use crate::on_both;
use crate::support::actor;
use serde_json::json;
use wattlog_ledger::schema::{Configuration, Preference};
use wattlog_ledger::{Actor, Expected, Ledger, LedgerError, Listing};

const WRITERS: i64 = 8;
const STEPS: i64 = 12;

fn counter(value: i64) -> Preference {
    Preference { owner: String::new(), name: "counter".into(), value: json!(value) }
}

/// Adds one, however often others come in between; gives how often they did.
async fn add_one(ledger: &Ledger, id: i64, actor: &Actor) -> u32 {
    let mut conflicts = 0;
    loop {
        let seen = ledger.get::<Preference>(id).await.unwrap().unwrap();
        let next = counter(seen.record.value.as_i64().unwrap() + 1);
        match ledger.update(id, Expected::Version(seen.version), next, actor).await {
            Ok(_) => return conflicts,
            Err(LedgerError::Conflict { .. }) => conflicts += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

on_both! {
    async fn no_change_of_many_writers_is_lost(place) {
        let (ledger, other) = (place.open().await, place.open().await);
        let id = ledger.insert(counter(0), &actor()).await.unwrap().id;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let ledger = if writer % 2 == 0 { ledger.clone() } else { other.clone() };
            writers.spawn(async move {
                let actor = Actor::new(&format!("writer {writer}"));
                let mut conflicts = 0;
                for _ in 0..STEPS {
                    conflicts += add_one(&ledger, id, &actor).await;
                }
                conflicts
            });
        }
        let conflicts: u32 = writers.join_all().await.into_iter().sum();
        let last = ledger.get::<Preference>(id).await.unwrap().unwrap();
        assert_eq!(last.record.value, json!(WRITERS * STEPS), "{conflicts} conflicts");
        assert_eq!(last.version, WRITERS * STEPS + 1);
        assert_eq!(ledger.history::<Preference>(id, 0).await.unwrap().0.len() as i64, WRITERS * STEPS + 1);
    }

    async fn the_same_new_record_from_many_writers_is_made_once(place) {
        let ledger = place.open().await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let ledger = ledger.clone();
            writers.spawn(async move { ledger.put(counter(writer), &actor()).await });
        }
        let outcomes = writers.join_all().await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(ledger.list::<Preference>(&Listing::all()).await.unwrap().records.len(), 1);
    }

    async fn one_configuration_is_active_whoever_saves_at_the_same_time(place) {
        let ledger = place.open().await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let ledger = ledger.clone();
            writers.spawn(async move {
                let data = json!({"writer": writer});
                ledger.save_configuration("optimiser", None, data, None, Expected::Any, &actor()).await
            });
        }
        let saved = writers.join_all().await;
        assert!(saved.iter().all(Result::is_ok), "{saved:?}");
        let all = ledger.list::<Configuration>(&Listing::all().with_text("name", "optimiser")).await.unwrap().records;
        let mut revisions: Vec<i64> = all.iter().map(|one| one.record.revision).collect();
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=WRITERS).collect::<Vec<_>>());
        let active = Listing::all().with("active", wattlog_ledger::Value::Int(Some(1)));
        assert_eq!(ledger.list::<Configuration>(&active).await.unwrap().records.len(), 1);
    }
}
