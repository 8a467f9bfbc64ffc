//! What one client, one request and all together may use: each limit answers in its way and is counted by its name.

use super::support::{BIG, GatedClock, Running, Setup, assert_big, chunks, gzip, request};
use serde_json::json;
use wattlog_server::{Limits, Size, Span};

fn small_bodies(limits: &mut Limits) {
    limits.body = Size::kib(64);
    limits.decompressed_body = Size::kib(128);
}

/// That the store holds nothing.
async fn assert_empty(server: &Running) {
    assert_eq!(server.engine.storage().points, 0);
}

#[tokio::test]
async fn a_body_too_long_is_413_also_for_a_client_that_sends_it_all_before_it_reads() {
    let server = Setup::limits(small_bodies).start().await;
    let long = b"m v=1 1\n".repeat(1 << 20);
    let mut client = server.connect().await;
    client.send(request("POST", "/write?db=a", &[], &long)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()), (413, json!({ "error": "Request Entity Too Large" })));
    client.ended().await;
    let mut client = server.connect().await;
    client
        .send("POST /api/v2/write?bucket=a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send(chunks(&long, 10_000)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (413, json!("request too large")));
    let answer = server.post("/api/energy-data", &long).await;
    assert_eq!(answer.status, 413);
    assert!(answer.refusal().1.contains("64KiB"));
    assert_eq!(server.limit_reached("body").await, 3.0);
    assert_empty(&server).await;
}

#[tokio::test]
async fn a_body_that_unpacks_to_too_much_is_413_by_size_and_by_ratio() {
    let server = Setup::limits(small_bodies).start().await;
    let headers = [("content-encoding", "gzip")];
    let answer = server.ask("POST", "/write?db=a", &headers, gzip(&b"m v=1 1\n".repeat(20_000))).await;
    assert_eq!(answer.status, 413);
    assert_eq!(server.limit_reached("decompressed_body").await, 1.0);
    let server = Setup::default().start().await;
    let answer = server.ask("POST", "/write?db=a", &headers, gzip(&vec![b' '; 16 << 20])).await;
    assert_eq!(answer.status, 413);
    assert_eq!(server.limit_reached("decompression_ratio").await, 1.0);
    assert_empty(&server).await;
}

#[tokio::test]
async fn a_body_whose_points_take_too_much_memory_is_413() {
    let server = Setup::limits(|limits| limits.batch = Size::kib(64)).start().await;
    let lines: String = (0..1000).map(|n| format!("m,n={n} v=1\n")).collect();
    assert_eq!(server.post("/write?db=a", &lines).await.status, 413);
    let list: Vec<_> = (0..1000).map(|n| json!({ "device_id": n.to_string(), "v": 1 })).collect();
    let answer = server.post("/api/energy-data", json!(list).to_string()).await;
    assert_eq!((answer.status, answer.refusal().0), (413, "request too large".to_owned()));
    assert_eq!(server.limit_reached("batch").await, 2.0);
    assert_empty(&server).await;
}

#[tokio::test]
async fn a_line_too_long_is_refused_alone_and_counted() {
    let server = Setup::limits(|limits| limits.line = Size::kib(1)).start().await;
    let answer = server.post("/write?db=a", format!("m v=1 1\nm s=\"{}\"\nm v=2 2", "x".repeat(1024))).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("partial write: unable to parse 'm s=") && error.contains("longer than 1024"),
        "{error}"
    );
    assert_eq!(server.engine.storage().points, 2);
    assert_eq!(server.limit_reached("line").await, 1.0);
}

#[tokio::test]
async fn a_head_that_cannot_be_taken_is_told_so_in_our_words() {
    let server = Setup::default().start().await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(40_000));
    for (bytes, status, text) in [
        (long, 431, "16KiB"),
        (many, 431, "100 headers"),
        (path, 431, "16KiB"),
        ("nonsense\r\n\r\n".to_owned(), 400, "no HTTP"),
        ("GET / HTTP/1.1\r\nbad header: x\r\n\r\n".to_owned(), 400, "no HTTP"),
    ] {
        let mut client = server.connect().await;
        client.send(&bytes).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, "close"));
        let (_, message) = answer.refusal();
        assert!(message.contains(text), "{message}");
        client.ended().await;
    }
    assert_eq!(server.limit_reached("header").await, 2.0);
    assert_eq!(server.limit_reached("header_count").await, 1.0);
    // The same after a good request on the same connection.
    let mut client = server.connect().await;
    client.send(request("GET", "/ping", &[], b"")).await;
    assert_eq!(client.answer().await.status, 204);
    client.send("nonsense\r\n\r\n").await;
    assert_eq!(client.answer().await.refusal().0, "invalid");
}

#[tokio::test]
async fn silent_and_slow_connections_are_cut() {
    let server = Setup::limits(|limits| {
        limits.header_time = Span::millis(50);
        limits.keep_alive_time = Span::millis(100);
    });
    let server = server.start().await;
    let mut idle = server.connect().await;
    idle.ended().await;
    let mut slow = server.connect().await;
    slow.send("GET / HTTP/1.1\r\nhos").await;
    slow.ended().await;
    assert_eq!(server.limit_reached("header_time").await, 1.0);
}

#[tokio::test]
async fn an_upload_that_stalls_is_503_so_that_no_client_throws_it_away() {
    let server = Setup::limits(|limits| limits.body_idle_time = Span::millis(50)).start().await;
    for (target, expected) in [
        ("/write?db=a", json!({ "error": "timeout" })),
        (
            "/api/v2/write?bucket=a",
            json!({ "code": "unavailable", "message": "no byte of the body came for 50ms" }),
        ),
    ] {
        let mut client = server.connect().await;
        client.send(format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nm v=1 1")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()), (503, expected));
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
        client.ended().await;
    }
    assert_eq!(server.limit_reached("body_idle_time").await, 2.0);
    assert_empty(&server).await;
}

#[tokio::test]
async fn an_upload_that_trickles_is_503() {
    let server = Setup::limits(|limits| {
        limits.body_idle_time = Span::millis(200);
        limits.transfer_rate = Size::mib(1);
    });
    let server = server.start().await;
    let mut client = server.connect().await;
    client.send("POST /write?db=a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    while server.limit_reached("transfer_rate").await == 0.0 {
        client.send("1\r\n#\r\n").await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.json()), (503, json!({ "error": "timeout" })));
}

#[tokio::test]
async fn unfinished_uploads_of_one_address_leave_room_and_give_it_back() {
    let server = Setup::limits(|limits| {
        small_bodies(limits);
        limits.bodies_per_address = Size::kib(192);
        limits.bodies_in_memory = Size::mib(1);
    });
    let server = server.start().await;
    let body = b"m v=1 1\n".repeat(8000);
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client
            .send(format!("POST /write?db=a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len()))
            .await;
        client.send(&body[1..]).await;
        unfinished.push(client);
    }
    server.until("a refusal", async |server| server.post("/write?db=a", &body).await.status == 503).await;
    assert!(server.limit_reached("bodies_per_address").await >= 1.0);
    drop(unfinished);
    server.until("room again", async |server| server.post("/write?db=a", &body).await.status == 204).await;
}

#[tokio::test]
async fn a_store_that_is_busy_is_503_with_a_time_to_come_back_and_metrics_are_still_whole() {
    let clock = GatedClock::new();
    let mut setup = Setup { engine_clock: clock.clone(), ..Setup::default() };
    setup.server.limits.concurrent_writes = 1;
    setup.server.limits.queue_time = Span::millis(20);
    let server = setup.start().await;
    server.store("m v=1 1").await;
    clock.shut();
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.send(request("POST", "/write?db=wattlog", &[], b"m v=2 2")).await;
    second.send(request("POST", "/write?db=wattlog", &[], b"m v=3 3")).await;
    let (refused, waiting) = tokio::select! {
        answer = first.answer() => (answer, second),
        answer = second.answer() => (answer, first),
    };
    assert_eq!((refused.status, refused.json()), (503, json!({ "error": "timeout" })));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(server.limit_reached("concurrent_writes").await, 1.0);
    assert_eq!(server.metric("wattlog_series").await, 1.0);
    clock.open();
    let mut waiting = waiting;
    assert_eq!(waiting.answer().await.status, 204);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    for (limit, change) in [
        ("connections", (|limits| limits.connections = 2) as fn(&mut Limits)),
        ("connections_per_address", |limits| limits.connections_per_address = 2),
    ] {
        let server = Setup::limits(change).start().await;
        let (mut one, mut two) = (server.connect().await, server.connect().await);
        for client in [&mut one, &mut two] {
            client.send(request("GET", "/ping", &[], b"")).await;
            assert_eq!(client.answer().await.status, 204);
        }
        let mut refused = server.connect().await;
        refused.send(request("POST", "/write?db=a", &[], &vec![b'#'; 1 << 20])).await;
        let answer = refused.answer().await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert_eq!(answer.json()["error"], "timeout");
        assert!(answer.refusal().1.contains(limit));
        one.send(request("GET", "/metrics", &[], b"")).await;
        let text = one.answer().await.text();
        assert!(text.contains(&format!("wattlog_http_limit_reached_total{{limit=\"{limit}\"}} 1")));
    }
}

#[tokio::test]
async fn an_answer_too_long_is_422() {
    let server = Setup::limits(|limits| limits.answer = Size::mib(1)).start().await;
    server.store_big().await;
    for format in ["json", "csv", "ndjson"] {
        let answer = server.get(&format!("{BIG}&format={format}")).await;
        assert_eq!((answer.status, answer.refusal().0), (422, "limit exceeded".to_owned()));
    }
    assert_eq!(server.limit_reached("answer").await, 3.0);
}

#[tokio::test]
async fn answers_that_are_not_taken_count_until_they_are() {
    let server = Setup::limits(|limits| {
        limits.answer = Size::mib(32);
        limits.answers_per_address = Size::mib(64);
        limits.answers_in_memory = Size::mib(64);
    });
    let server = server.start().await;
    server.store_big().await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    for client in [&mut one, &mut two] {
        client.send(request("GET", BIG, &[], b"")).await;
        assert!(client.take().await);
    }
    let refused = server.get(BIG).await;
    assert_eq!(refused.status, 503, "{}", refused.body.len());
    assert!(!refused.header("retry-after").is_empty());
    let (one, two) = (one.answer().await, two.answer().await);
    assert_big(&one);
    assert_big(&two);
    server.until("the memory to be free", async |server| server.get(BIG).await.status == 200).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    let server = Setup::limits(|limits| limits.body_idle_time = Span::millis(100)).start().await;
    server.store_big().await;
    let mut client = server.connect().await;
    client.send(request("GET", BIG, &[], b"")).await;
    server.until("the cut", async |server| server.limit_reached("body_idle_time").await == 1.0).await;
}

#[tokio::test]
async fn a_client_that_takes_its_answer_drop_by_drop_is_cut() {
    let server = Setup::limits(|limits| {
        limits.body_idle_time = Span::secs(1);
        limits.transfer_rate = Size::mib(1024);
    });
    let server = server.start().await;
    server.store_big().await;
    let mut client = server.connect().await;
    client.send(request("GET", BIG, &[], b"")).await;
    assert!(client.take().await);
    server
        .until("the cut", async |server| {
            client.take_if_there().await;
            server.limit_reached("transfer_rate").await == 1.0
        })
        .await;
}
