//! The process is killed while it writes: what it was told is stored is there.

use crate::on_both;
use crate::support::actor;
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use wattlog_ledger::schema::Annotation;
use wattlog_ledger::{Backend, Ledger, LedgerOptions, Listing};
use wattlog_model::ManualClock;

const ADDRESS: &str = "WATTLOG_TEST_LEDGER";

fn numbered(number: u64) -> Annotation {
    serde_json::from_value(json!({"start": "2026-03-01T10:00:00Z", "title": format!("n{number}")})).unwrap()
}

/// What the killed process does: this test, run again with an address.
#[tokio::test]
async fn writer() {
    let Ok(url) = std::env::var(ADDRESS) else { return };
    let backend = Backend::from_url(&url, None, Path::new("/")).unwrap();
    let ledger = Ledger::new(LedgerOptions::new(backend), Arc::new(ManualClock::default())).unwrap();
    for number in 0.. {
        ledger.insert(numbered(number), &actor()).await.unwrap();
        println!("stored {number}");
    }
}

on_both! {
    async fn nothing_that_was_acknowledged_is_lost(place) {
        let ledger = place.open().await;
        let url = match &place.backend {
            Backend::Sqlite(file) => format!("sqlite:{}", file.display()),
            Backend::Postgres { url, .. } => url.clone(),
        };
        let mut before = 0;
        for round in 1..=4_u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "kill::writer", "--nocapture"])
                .env(ADDRESS, &url)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut acknowledged = 0;
            while acknowledged < 5 * round * round {
                let line = lines.next().expect("the writer goes on").unwrap();
                acknowledged += u64::from(line.contains("stored "));
            }
            child.kill().unwrap();
            acknowledged += lines.map_while(Result::ok).filter(|line| line.contains("stored ")).count() as u64;
            child.wait().unwrap();
            let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
            let all = ledger.list::<Annotation>(&listing).await.unwrap().records;
            let here = &all[before..];
            // One more may be stored whose answer nobody heard.
            assert!((acknowledged..=acknowledged + 1).contains(&(here.len() as u64)), "{acknowledged} {}", here.len());
            for (number, stored) in (0..).zip(here) {
                assert_eq!(stored.record.title, format!("n{number}"));
                assert_eq!(ledger.history::<Annotation>(stored.id, 0).await.unwrap().0.len(), 1);
            }
            before = all.len();
        }
        assert!(before > 100);
    }
}
