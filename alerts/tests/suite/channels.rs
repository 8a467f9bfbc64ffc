//! What each kind of channel sends, and how it judges what comes back.

use crate::support::http::{Act, Server};
use crate::support::{broker, smtp};
use serde_json::{Value, json};
use std::time::Duration;
use wattlog_alerts::{AlertsConfig, Receipt, SendError, TestError, send_test};
use wattlog_model::Timestamp;

fn config(channel: Value) -> AlertsConfig {
    let config: AlertsConfig = serde_json::from_value(json!({"channels": {"x": channel}})).unwrap();
    config.check().unwrap();
    config
}

async fn sent(config: &AlertsConfig) -> Result<Receipt, SendError> {
    match send_test(config, "x", Timestamp(1_772_359_200_000_000_000)).await {
        Ok(receipt) => Ok(receipt),
        Err(TestError::Send { error, .. }) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_webhook_gets_json_its_key_headers_and_a_signature_that_can_be_checked() {
    let server = Server::start(vec![]).await;
    let config = config(
        json!({"webhook": {"url": server.url(), "headers": {"X-Home": "ours"}, "signing_key": "k3y"}}),
    );
    sent(&config).await.unwrap();
    let taken = server.taken().remove(0);
    assert_eq!(taken.key(), "test/1772359200000000000/firing");
    assert_eq!(
        (&taken.headers["x-home"], &taken.headers["content-type"]),
        (&"ours".parse().unwrap(), &"application/json".parse().unwrap())
    );
    assert_eq!(taken.body["key"], "test/1772359200000000000/firing");
    assert_eq!(
        (&taken.body["state"], &taken.body["severity"], &taken.body["at"]),
        (&json!("firing"), &json!("info"), &json!("2026-03-01T10:00:00Z"))
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"k3y");
    let told =
        taken.headers["x-wattlog-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap().to_owned();
    let tag: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&told[at..at + 2], 16).unwrap()).collect();
    ring::hmac::verify(&key, &taken.bytes, &tag).unwrap();
}

#[tokio::test]
async fn a_status_says_whether_it_is_tried_again() {
    let server = Server::start(vec![]).await;
    let config = config(json!({"webhook": {"url": server.url()}, "timeout": "500ms"}));
    for (status, after, wait) in [
        (401, None, None),
        (403, None, None),
        (404, None, None),
        (407, None, None),
        (408, None, None),
        (425, None, None),
        (429, Some("7"), Some(7)),
        (500, None, None),
        (503, Some("120"), Some(120)),
    ] {
        server.then([Act::Answer(status, after)]);
        let expected = SendError::Failed { reason: String::new(), wait: wait.map(Duration::from_secs) };
        match (sent(&config).await.unwrap_err(), expected) {
            (SendError::Failed { reason, wait }, SendError::Failed { wait: expected, .. }) => {
                assert_eq!(wait, expected, "{status}");
                assert!(reason.contains(&status.to_string()), "{reason}");
            }
            (other, _) => panic!("{status}: {other:?}"),
        }
    }
    for status in [301, 400, 405, 410, 413, 422] {
        server.then([Act::Answer(status, None)]);
        assert!(matches!(sent(&config).await, Err(SendError::Refused { .. })), "{status}");
    }
    for status in [200, 202, 204] {
        server.then([Act::Answer(status, None)]);
        sent(&config).await.unwrap();
    }
    server.then([Act::Drop, Act::Hang]);
    for says in ["", "no answer within 500ms"] {
        let error = sent(&config).await.unwrap_err();
        assert!(matches!(&error, SendError::Failed { reason, .. } if reason.contains(says)), "{error:?}");
    }
}

#[tokio::test]
async fn no_error_shows_the_address_or_a_secret() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config(json!({"webhook": {"url": format!("http://user:s3cret@{refused}/s3cret?k=s3cret")}}));
    let error = sent(&config).await.unwrap_err();
    assert!(matches!(error, SendError::Failed { .. }), "{error:?}");
    let text = format!("{error:?} {error} {config:?}");
    assert!(!text.contains("s3cret") && !text.contains("http://"), "{text}");
}

#[tokio::test]
async fn ntfy_gets_title_priority_and_tags_and_gives_a_number() {
    let server =
        Server::start(vec![Act::Answer(200, None), Act::Answer(507, None), Act::Answer(413, None)]).await;
    let config = config(
        json!({"ntfy": {"url": format!("http://{}", server.address), "topic": "home", "token": "tk_1"}}),
    );
    assert_eq!(sent(&config).await.unwrap(), Receipt(Some("m1".to_owned())));
    let taken = server.taken().remove(0);
    assert_eq!(taken.headers["authorization"], "Bearer tk_1");
    assert_eq!(taken.body["topic"], "home");
    assert_eq!((&taken.body["title"], &taken.body["priority"]), (&json!("wattlog: test"), &json!(3)));
    assert!(taken.body["message"].as_str().unwrap().contains("Nothing is wrong"));
    assert!(matches!(sent(&config).await, Err(SendError::Failed { .. })));
    assert!(matches!(sent(&config).await, Err(SendError::Refused { .. })));
}

#[tokio::test]
async fn a_mail_is_acknowledged_by_its_250_and_refused_by_5xx() {
    let acts = vec![
        smtp::Act::Say("250 ok"),
        smtp::Act::Say("451 greylisted, come again"),
        smtp::Act::SayToRecipient("550 no such user"),
        smtp::Act::Say("554 spam"),
        smtp::Act::Drop,
        smtp::Act::Hang,
    ];
    let server = smtp::Server::start(acts).await;
    let config = mail_to(&server, &["Anna <anna@home.example>"]);
    sent(&config).await.unwrap();
    let mail = server.mails().remove(0);
    for line in [
        "Message-ID: <wattlog.test.1772359200000000000.firing@home.example>",
        "Subject: [info] wattlog: test",
        "From: wattlog@home.example",
        "Date: Sun, 01 Mar 2026 10:00:00 ",
    ] {
        assert!(mail.contains(line), "{line} in {mail}");
    }
    for (is_refused, says) in [(false, "451"), (true, "550"), (true, "554"), (false, ""), (false, "")] {
        let error = sent(&config).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Refused { .. }), is_refused, "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

fn mail_to(server: &smtp::Server, to: &[&str]) -> AlertsConfig {
    config(
        json!({"email": {"host": "127.0.0.1", "port": server.address.port(), "tls": "none", "from": "wattlog@home.example",
        "to": to}, "timeout": "500ms"}),
    )
}

#[tokio::test]
async fn a_recipient_who_is_refused_does_not_keep_a_mail_from_the_others() {
    // One address that was gone silenced all: the alert was given up at once, and nobody heard of it.
    use smtp::Act::{Hang, Say, SayToRecipient};
    let server = smtp::Server::start(vec![]).await;
    let config = mail_to(&server, &["Anna <anna@home.example>", "jan@home.example"]);
    let gone = || SayToRecipient("550 no such user");
    sent(&config).await.unwrap();
    assert_eq!(server.mails().len(), 1, "one mail for all who are taken");
    // To both at once, then to each.
    for (acts, mails) in [
        (vec![gone(), Say("250 ok"), gone()], 1),
        (vec![gone(), gone(), Say("250 ok")], 1),
        (vec![SayToRecipient("451 later"), Say("250 ok"), SayToRecipient("451 later")], 1),
        // Whoever has it is not asked again because another is slow.
        (vec![gone(), Say("250 ok"), Hang], 2),
    ] {
        let before = server.mails().len();
        server.then(acts);
        sent(&config).await.unwrap();
        assert_eq!(server.mails().len() - before, mails);
        assert!(server.mails().last().unwrap().contains("jan@home.example"), "all stand in it");
    }
    for (acts, is_refused) in [
        (vec![gone(), gone(), gone()], true),
        (vec![gone(), gone(), SayToRecipient("451 later")], false),
        (vec![gone(), SayToRecipient("451 later"), gone()], false),
        // Nobody else is asked by a server that closes or does not know us.
        (vec![SayToRecipient("421 closing")], false),
        (vec![SayToRecipient("530 log in")], false),
    ] {
        server.then(acts);
        let error = sent(&config).await.unwrap_err();
        assert_eq!(matches!(error, SendError::Refused { .. }), is_refused, "{error:?}");
    }
    sent(&config).await.unwrap();
}

#[tokio::test]
async fn a_message_to_a_broker_is_acknowledged_by_its_puback() {
    use broker::Act;
    let broker =
        broker::Broker::start(vec![Act::Acknowledge, Act::LoseAck, Act::Hang, Act::RefuseLogin]).await;
    let config = config(
        json!({"mqtt": {"host": "127.0.0.1", "port": broker.address.port(), "topic": "home/alerts", "username": "u", "password": "s3cret"},
        "timeout": "500ms"}),
    );
    sent(&config).await.unwrap();
    let (topic, body, _) = broker.messages().remove(0);
    assert_eq!((topic.as_str(), &body["key"]), ("home/alerts", &json!("test/1772359200000000000/firing")));
    assert_eq!(broker.logins()[0], Some(("u".to_owned(), "s3cret".to_owned())));
    for says in ["", "no answer within 500ms", "refuses the connection: NotAuthorized"] {
        let error = sent(&config).await.unwrap_err();
        assert!(matches!(&error, SendError::Failed { reason, .. } if reason.contains(says)), "{error:?}");
    }
    assert_eq!(broker.messages().len(), 3);
}

#[tokio::test]
async fn a_channel_that_is_not_there_is_named_with_those_that_are() {
    let config = config(json!({"ntfy": {"topic": "t"}}));
    let error = send_test(&config, "phone", Timestamp(0)).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no channel \"phone\"; configured are: x");
}
