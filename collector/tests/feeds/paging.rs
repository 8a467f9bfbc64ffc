//! Pages of PSE whose links to the next one name another scheme and host, as behind the service's proxy.

use crate::shapes::at;
use crate::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wattlog_collector::Feeds;
use wattlog_collector::config::{FeedsConfig, PseConfig, PseProduct};
use wattlog_model::{Clock as _, FieldValue, ManualClock};

/// The clock is put back on this day.
const DAY: &str = "2026-10-25";
const QUARTER_NS: i64 = 900_000_000_000;

/// Quarter `n` of the day in hundredths of PLN/MWh: every one differs, some are below zero.
fn hundredths(n: i64) -> i64 {
    n * 137 - 2_000
}

/// The 100 rows of the day; no local label is right, only the UTC time of the end counts.
fn rows() -> Vec<Value> {
    let start = at("2026-10-24T22:00:00Z").0;
    let end = |n: i64| jiff::Timestamp::from_nanosecond(i128::from(start + (n + 1) * QUARTER_NS)).unwrap();
    let utc = |n: i64| end(n).to_string()[..19].replace('T', " ");
    let row = |n: i64| {
        json!({ "dtime": "2026-10-25 02a:15:00", "dtime_utc": utc(n), "business_date": DAY,
            "rce_pln": hundredths(n) as f64 / 100.0, "publication_ts_utc": "2026-10-24 11:45:12.000000" })
    };
    (0..100).map(row).collect()
}

/// Answers until the test ends: pages of `len` rows, each with a link to the next, the last one to a page that is empty.
async fn serve(listener: TcpListener, len: usize) {
    let rows = rows();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "a whole request");
            head.extend_from_slice(&piece[..read]);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        assert!(target.starts_with("/api/rce-pln?$filter=business_date"), "{target}");
        // One day, or a range whose dates compare as texts do.
        let dates: Vec<&str> = target.split("%27").skip(1).step_by(2).collect();
        let has_day =
            dates.first().is_some_and(|first| *first <= DAY) && dates.last().is_some_and(|last| DAY <= *last);
        let (base, from) = target.split_once("&$after=").unwrap_or((target, "0"));
        let from: usize = from.parse().unwrap();
        let page: &[Value] = if has_day { &rows[from..(from + len).min(rows.len())] } else { &[] };
        let mut body = json!({ "value": page });
        if !page.is_empty() {
            body["nextLink"] =
                json!(format!("http://pse-internal.invalid:8081{base}&$after={}", from + page.len()));
        }
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn the_day_is_whole(len: usize, requests: u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener, len));
    let clock = Arc::new(ManualClock::new(at("2026-10-25T09:00:00Z")));
    let config = FeedsConfig {
        pse: Some(PseConfig { url, products: vec![PseProduct::RcePln] }),
        backfill_days: 1,
        ..FeedsConfig::default()
    };
    let store = Arc::new(Store::default());
    let clock_of_feeds = Arc::clone(&clock);
    let mut feeds =
        Feeds::new(&config, Arc::clone(&store) as _, Arc::clone(&store) as _, clock_of_feeds as _, 1)
            .unwrap();
    let key = "prices,area=PL,product=rce-pln,source=pse";
    let mut stored = store.of(key);
    for _ in 0..20 {
        let due = feeds.step().await.expect("a feed");
        stored = store.of(key);
        if !stored.is_empty() {
            break;
        }
        let wait = (due.0 - clock.wall().0).max(1_000_000).unsigned_abs();
        clock.advance(Duration::from_nanos(wait));
    }
    let status = feeds.status().remove(0);
    let start = at("2026-10-24T22:00:00Z").0;
    let expected: Vec<(i64, f64)> =
        (0..100).map(|n| (start + n * QUARTER_NS, hundredths(n) as f64 / 1e5)).collect();
    let told: Vec<(i64, f64)> = stored
        .iter()
        .map(|(time, fields)| match &fields["market_price"] {
            FieldValue::Float(price) => (*time, *price),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, expected, "{status:?}");
    assert_eq!((status.failed_looks, status.refused_rows, status.stored), (0, 0, 100), "{status:?}");
    assert!(status.requests >= requests, "{status:?}");
    server.abort();
}

#[tokio::test]
async fn the_25_hour_day_fills_a_page_whose_link_names_another_host() {
    // Such a link made the whole day unusable, although its rows were all there.
    the_day_is_whole(100, 2).await;
}

#[tokio::test]
async fn a_day_of_many_pages_is_followed_at_our_own_address() {
    the_day_is_whole(30, 5).await;
}
