//! docs/api.md says what the server does: its examples are run, its tables are compared with the code.

use super::support::Setup;
use std::collections::BTreeSet;
use wattlog_ledger::{Backend, Ledger, LedgerOptions};
use wattlog_server::Limits;

const API: &str = include_str!("../../../docs/api.md");

/// A request and what should come back.
#[derive(Default)]
struct Example {
    method: String,
    target: String,
    body: String,
    status: u16,
    answer: String,
}

/// The blocks marked `http`: `> METHOD TARGET`, the body, `< STATUS`, the answer.
fn examples() -> Vec<Example> {
    let blocks = API.split("```http\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks
        .map(|block| {
            let (request, answer) = block.split_once("\n< ").expect("an answer");
            let (first, body) = request.split_once('\n').unwrap_or((request, ""));
            let (method, target) = first.strip_prefix("> ").unwrap().split_once(' ').unwrap();
            let (status, answer) = answer.split_once('\n').unwrap();
            Example {
                method: method.to_owned(),
                target: target.to_owned(),
                body: body.to_owned(),
                status: status.parse().unwrap(),
                answer: answer.to_owned(),
            }
        })
        .collect()
}

/// Whether `text` is `pattern`, in which `...` stands for anything and white space does not count.
fn matches(pattern: &str, text: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let (pattern, text) = (plain(pattern), plain(text));
    let mut parts = pattern.split("...");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        match if last { rest.rfind(part).filter(|at| at + part.len() == rest.len()) } else { rest.find(part) }
        {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[tokio::test]
async fn every_example_is_answered_as_it_says() {
    let server = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    server.state.set_ledger(Ledger::new(options, server.clock.clone()).unwrap());
    let (mut shown, mut wrong) = (BTreeSet::new(), Vec::new());
    for example in examples() {
        let Example { method, target, body, status, answer } = example;
        let found = server.ask(&method, &target, &[], &body).await;
        let text = found.text();
        if found.status != status || !matches(&answer, &text) {
            wrong.push(format!(
                "{method} {target}\nanswers {} {text}\nwhere docs/api.md has {status} {answer}",
                found.status
            ));
        }
        shown.insert(format!("{method} {}", target.split('?').next().unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(shown.len() > 15, "{shown:?}");
}

#[tokio::test]
async fn every_route_is_listed() {
    let server = Setup::default().start().await;
    let description = server.get("/openapi.json").await.json();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let row = format!("| `{} {path}` |", method.to_uppercase());
            assert!(API.contains(&row), "no row {row}");
        }
    }
}

#[test]
fn every_limit_is_listed_with_its_default() {
    let limits = serde_json::to_value(Limits::default()).unwrap();
    for (name, default) in limits.as_object().unwrap() {
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let row = format!("| `{name}` | `{default}` |");
        assert!(API.contains(&row), "no row {row}");
    }
}

#[test]
fn a_pattern_matches_what_it_leaves_open_and_nothing_else() {
    for (pattern, text, expected) in [
        ("{\"a\": 1}", "{\"a\":1}\n", true),
        ("{\"a\":...,\"b\":2}", "{\"a\":17,\"b\":2}", true),
        ("{\"a\":...,\"b\":2}", "{\"a\":17,\"b\":23}", false),
        ("a...", "abc", true),
        ("...c", "abd", false),
        ("a", "ab", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
