//! Listings: ranges, filters, pages.

use crate::on_both;
use crate::support::actor;
use serde_json::json;
use wattlog_ledger::schema::{AlertRule, Annotation, Session};
use wattlog_ledger::{Listing, Order, Record as _};
use wattlog_model::Timestamp;

const HOUR_NS: i64 = 3_600_000_000_000;

fn session(number: i64, hour: i64, device: Option<&str>) -> Session {
    let mut told = json!({
        "session_id": format!("s{number}"), "kind": if number % 3 == 0 { "selling" } else { "charging" },
        "start": "2026-01-01T00:00:00Z", "source": "grid", "status": "active", "origin": "reported"});
    told["device_id"] = json!(device);
    let mut session: Session = serde_json::from_value(told).unwrap();
    session.start = Timestamp(hour * HOUR_NS);
    session
}

on_both! {
    async fn pages_of_any_size_are_the_whole_in_order(place) {
        let ledger = place.open().await;
        // Several of one instant, told out of order.
        let hours: Vec<i64> = (0..40).map(|number| number * 7 % 10).collect();
        let sessions = hours.iter().enumerate().map(|(number, hour)| session(number as i64, *hour, None));
        ledger.put_all(sessions.collect(), &actor()).await.unwrap();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let whole = Listing { order, ..Listing::all() };
            let all = ledger.list::<Session>(&whole).await.unwrap();
            assert_eq!((all.records.len(), all.next), (40, None));
            let mut places: Vec<_> = all.records.iter().map(|one| (one.record.start, one.id)).collect();
            if order == Order::NewestFirst {
                places.reverse();
            }
            assert!(places.is_sorted());
            for limit in [1, 3, 39, 40, 41] {
                let mut gathered = Vec::new();
                let mut after = None;
                loop {
                    let page = ledger.list::<Session>(&Listing { limit, after, ..whole.clone() }).await.unwrap();
                    assert!(page.records.len() <= limit);
                    gathered.extend(page.records);
                    after = page.next;
                    let Some(next) = after else { break };
                    // A client gets it as text.
                    after = Some(next.to_string().parse().unwrap());
                }
                assert_eq!(gathered, all.records, "{order:?}, pages of {limit}");
            }
        }
    }

    async fn a_listing_leaves_out_what_it_must_not_have(place) {
        let ledger = place.open().await;
        let sessions = (0..9).map(|number| session(number, number, [None, Some("roof"), Some("shed")][number as usize % 3]));
        ledger.put_all(sessions.collect(), &actor()).await.unwrap();
        let numbers = async |listing: Listing| -> Vec<String> {
            let page = ledger.list::<Session>(&listing).await.unwrap();
            page.records.into_iter().map(|one| one.record.session_id).collect()
        };
        let others = Listing::all().without_text("device_id", "shed");
        assert_eq!(numbers(others.clone()).await, ["s0", "s1", "s3", "s4", "s6", "s7"], "also those of no device");
        assert_eq!(numbers(others.with_text("kind", "charging")).await, ["s1", "s4", "s7"]);
    }

    async fn a_page_of_large_records_ends_early_and_the_next_goes_on(place) {
        let ledger = place.open().await;
        for number in 0..12 {
            let told = json!({"start": "2026-03-01T10:00:00Z", "title": format!("{number}"), "text": "x".repeat(1 << 20)});
            ledger.insert(serde_json::from_value::<Annotation>(told).unwrap(), &actor()).await.unwrap();
        }
        let first = ledger.list::<Annotation>(&Listing::all()).await.unwrap();
        assert_eq!(first.records.len(), 8);
        let second = ledger.list::<Annotation>(&Listing { after: first.next, ..Listing::all() }).await.unwrap();
        let titles: Vec<_> = first.records.iter().chain(&second.records).map(|one| one.record.title.clone()).collect();
        assert_eq!(titles, (0..12).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(second.next, None);
    }

    async fn ranges_are_half_open_and_filters_also_find_what_is_missing(place) {
        let ledger = place.open().await;
        let sessions = (0..10).map(|number| session(number, number, (number % 2 == 0).then_some("roof")));
        ledger.put_all(sessions.collect(), &actor()).await.unwrap();
        let count = async |listing: Listing| ledger.list::<Session>(&listing).await.unwrap().records.len();
        let hours = |range: std::ops::Range<i64>| Timestamp(range.start * HOUR_NS)..Timestamp(range.end * HOUR_NS);
        assert_eq!(count(Listing::all().within(hours(2..5))).await, 3);
        assert_eq!(count(Listing::all().with_text("device_id", "roof")).await, 5);
        assert_eq!(count(Listing::all().with("device_id", wattlog_ledger::Value::Text(None))).await, 5);
        assert_eq!(count(Listing::all().with_text("kind", "selling").within(hours(0..4))).await, 2);
    }

    async fn filters_as_text_are_of_the_type_of_their_field(place) {
        let ledger = place.open().await;
        for (name, enabled) in [("a", true), ("b", false)] {
            let told = json!({"name": name, "severity": "info", "enabled": enabled, "definition": {}});
            ledger.insert(serde_json::from_value::<AlertRule>(told).unwrap(), &actor()).await.unwrap();
        }
        let (column, value) = AlertRule::filter("enabled", "false").unwrap();
        let found = ledger.list::<AlertRule>(&Listing::all().with(column, value)).await.unwrap().records;
        assert_eq!(found.iter().map(|rule| rule.record.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(AlertRule::filter("enabled", "perhaps").is_err());
        assert!(AlertRule::filter("severity", "loud").is_err());
        assert!(AlertRule::filter("note", "x").unwrap_err().to_string().contains("severity"));
        assert!(Annotation::filter("title; DROP TABLE annotations", "x").is_err());
    }
}
