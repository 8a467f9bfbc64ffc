//! Connections from their first byte to their end, and the end of the server.

use super::support::{BIG, GatedClock, Setup, assert_big, chunks, request};
use wattlog_server::Span;

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_their_order() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    let mut bytes = request("GET", "/ping", &[], b"");
    bytes.extend(request("POST", "/write?db=wattlog", &[], b"m v=1 1"));
    bytes.extend(request("GET", "/api/v1/measurements", &[], b""));
    bytes.extend(request("GET", "/nowhere", &[], b""));
    client.send(bytes).await;
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(client.answer().await.json()["measurements"], serde_json::json!(["m"]));
    assert_eq!(client.answer().await.status, 404);
    client.send(request("GET", "/ping", &[], b"")).await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test]
async fn a_line_end_after_the_body_holds_no_answer_back_and_begins_no_request() {
    let server = Setup::limits(|limits| limits.header_time = Span::millis(50)).start().await;
    let mut client = server.connect().await;
    let write = [request("POST", "/write?db=a", &[], b"m v=1 1"), b"\r\n".to_vec()].concat();
    client.send(&write).await;
    assert_eq!(client.answer().await.status, 204);
    // Alone, so that it cannot be taken for the rest of the body before it.
    client.send("\r\n").await;
    // When this one is cut, a request that began with the line end would have been cut as well.
    let mut slow = server.connect().await;
    slow.send("GET / HT").await;
    slow.ended().await;
    client.send(&write).await;
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(server.limit_reached("header_time").await, 1.0);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Setup::default().start().await;
    let long = vec![b'x'; 8 << 20];
    for (target, status) in [("/write", 400), ("/nowhere", 404), ("/api/v2/write?bucket=a&precision=x", 400)]
    {
        let mut client = server.connect().await;
        client.send(format!("POST {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")).await;
        client.send(chunks(&long, 1 << 16)).await;
        assert_eq!(client.answer().await.status, status, "{target}");
        let mut client = server.connect().await;
        client.send(request("POST", target, &[], &long)).await;
        assert_eq!(client.answer().await.status, status, "{target}");
    }
}

#[tokio::test]
async fn a_slow_download_outlives_the_idle_time_and_the_stop_of_the_server() {
    let mut server = Setup::limits(|limits| limits.keep_alive_time = Span::millis(100)).start().await;
    server.store_big().await;
    let mut slow = server.connect().await;
    slow.send(request("GET", BIG, &[], b"")).await;
    assert!(slow.take().await);
    // When this one is cut as idle, the time is over for the other as well.
    let mut idle = server.connect().await;
    idle.send(request("GET", "/ping", &[], b"")).await;
    assert_eq!(idle.answer().await.status, 204);
    idle.ended().await;
    server.begin_stop();
    server.until("the listener to go", async |server| server.refuses_connections().await).await;
    assert_big(&slow.answer().await);
    slow.ended().await;
    assert_eq!(server.stopped().await.cut, 0);
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_stop_and_idle_connections_end_at_once() {
    let clock = GatedClock::new();
    let setup = Setup { engine_clock: clock.clone(), ..Setup::default() };
    let mut server = setup.start().await;
    let mut idle = server.connect().await;
    idle.send(request("GET", "/ping", &[], b"")).await;
    assert_eq!(idle.answer().await.status, 204);
    clock.shut();
    let mut busy = server.connect().await;
    busy.send(request("POST", "/write?db=a", &[("expect", "100-continue")], b"m v=1 1")).await;
    // "Continue" comes when the handler asks for the body: from then on the request is under way.
    assert!(busy.take().await);
    server.begin_stop();
    idle.ended().await;
    server.until("the listener to go", async |server| server.refuses_connections().await).await;
    clock.open();
    assert_eq!(busy.answer().await.status, 100);
    assert_eq!(busy.answer().await.status, 204);
    busy.ended().await;
    assert_eq!(server.stopped().await.cut, 0);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_when_the_time_to_drain_is_over() {
    let mut server = Setup::limits(|limits| limits.drain_time = Span::millis(50)).start().await;
    let mut client = server.connect().await;
    client
        .send("POST /write?db=a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n")
        .await;
    assert!(client.take().await);
    server.begin_stop();
    client.ended().await;
    assert_eq!(server.stopped().await.cut, 1);
}
