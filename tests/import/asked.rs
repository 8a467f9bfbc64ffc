//! Everything that a running wattlog answers, in a form that can be compared.

use crate::Home;
use crate::support::Server;
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows of every measurement and records of every table.
#[derive(Debug, PartialEq)]
pub struct Answers {
    /// By measurement: sorted rows of the export.
    pub points: BTreeMap<String, Vec<String>>,
    /// By route: sorted records, without what tells when and how often they were written.
    pub records: BTreeMap<&'static str, Vec<String>>,
}

const LISTS: [&str; 6] = ["decisions", "sessions", "reports", "tariffs", "configs", "imports"];

impl Answers {
    pub fn of(home: &Home) -> Self {
        let server = home.serve();
        let answers = Self::of_server(&server);
        assert!(server.stop().success());
        answers
    }

    pub fn of_server(server: &Server) -> Self {
        let measurements = server.get("/api/v1/measurements?db=wattlog");
        // What wattlog computes from points follows them a moment later, and tells nothing of the import.
        let computed = ["energy_quarters", "derived_state"];
        let names = names_of(&measurements).into_iter().filter(|name| !computed.contains(&name.as_str()));
        let points = names.map(|name| (name.clone(), in_order(rows(server, &name)))).collect();
        let records = LISTS.into_iter().map(|list| (list, listed(server, list))).collect();
        Self { points, records }
    }

    /// Where two differ, in a few words.
    pub fn assert_same(&self, other: &Self, when: &str) {
        for (name, rows) in &self.points {
            let others = other.points.get(name).map(Vec::as_slice).unwrap_or_default();
            let missing: Vec<_> = rows.iter().filter(|row| !others.contains(row)).take(5).collect();
            let instead: Vec<_> = others.iter().filter(|row| !rows.contains(row)).take(5).collect();
            assert!(
                missing.is_empty() && rows.len() == others.len(),
                "{when}: {name}: {} and {} rows; {missing:#?}, instead {instead:#?}",
                rows.len(),
                others.len()
            );
        }
        for (list, records) in &self.records {
            let others = &other.records[list];
            let missing: Vec<_> = records.iter().filter(|record| !others.contains(record)).take(3).collect();
            assert!(
                missing.is_empty() && records.len() == others.len(),
                "{when}: {list}: {} and {}; {missing:#?}",
                records.len(),
                others.len()
            );
        }
        assert_eq!(self.points.keys().collect::<Vec<_>>(), other.points.keys().collect::<Vec<_>>(), "{when}");
    }
}

/// Rows with the fields by name: a store has them in the order of their first write, and which batch that was in depends on
/// how fast the machine is.
fn in_order(rows: Vec<String>) -> Vec<String> {
    let plain = |row: &String| {
        let row: Value = serde_json::from_str(row).expect("a row");
        let fields: BTreeMap<&String, &Value> = row["fields"].as_object().expect("fields").iter().collect();
        let fields = serde_json::to_string(&fields).expect("plain data");
        format!("{} {} {fields}", row["time"], row["tags"])
    };
    let mut rows: Vec<String> = rows.iter().map(plain).collect();
    rows.sort();
    rows
}

fn names_of(measurements: &Value) -> Vec<String> {
    let list = measurements["measurements"].as_array().or_else(|| measurements.as_array()).expect("a list");
    let name = |item: &Value| item.as_str().or_else(|| item["name"].as_str()).expect("a name").to_owned();
    list.iter().map(name).collect()
}

/// NDJSON rows of a measurement over all time.
pub fn rows(server: &Server, measurement: &str) -> Vec<String> {
    let target = format!(
        "/api/v1/export?measurement={measurement}&start=2020-01-01T00:00:00Z&end=2030-01-01T00:00:00Z&format=ndjson&time_format=ns"
    );
    let (status, text) = server.try_get(&target).expect("an answer");
    assert_eq!(status, 200, "{text}");
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

/// A row, its time in nanoseconds.
pub struct Row {
    pub time_ns: i64,
    pub tags: Value,
    pub fields: Value,
}

impl Row {
    pub fn of(line: &str) -> Self {
        let row: Value = serde_json::from_str(line).unwrap();
        let time_ns = row["time"].as_str().expect("nanoseconds as text").parse().unwrap();
        Self { time_ns, tags: row["tags"].clone(), fields: row["fields"].clone() }
    }
}

/// Records of a table, all pages.
pub fn records(server: &Server, list: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let order = if list == "configs" { "" } else { "&order=asc&limit=1000" };
        let page =
            server.get(&format!("/api/v1/{list}?{}", format!("{order}{after}").trim_start_matches('&')));
        let records = page["records"]
            .as_array()
            .or_else(|| page.as_array())
            .unwrap_or_else(|| panic!("{list}: {page}"));
        // What wattlog finds in the points comes a moment later, and is not the import's.
        let is_found = |record: &&Value| ["detected", "computed"].iter().any(|of| record["origin"] == **of);
        all.extend(records.iter().filter(|record| !is_found(record)).cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

fn listed(server: &Server, list: &str) -> Vec<String> {
    let mut all: Vec<String> = records(server, list)
        .into_iter()
        .map(|mut record| {
            let members = record.as_object_mut().expect("a record");
            for changing in ["id", "version", "created", "updated", "started", "finished", "report"] {
                members.remove(changing);
            }
            // As many files are done; a mark names the store too.
            if let Some(done) = members.get("progress").and_then(|progress| progress["done"].as_str()) {
                let marks: std::collections::BTreeSet<&[u8]> = done.as_bytes().chunks(16).collect();
                members.insert("progress".to_owned(), marks.len().into());
            }
            record.to_string()
        })
        .collect();
    all.sort();
    all
}
