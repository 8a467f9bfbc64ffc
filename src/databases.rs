//! Databases as the configuration wants them: made if they are not there, each with its durability and its retention.
//!
//! Promise: what `config print` shows is what is in force. A durability is kept by the store, so every database is told
//! its own again at a start and at a reload, also one that the configuration names no longer. A retention that the
//! configuration does not name stays as it was set: nothing is kept shorter or longer because a line is missing. One exception:
//! energies by quarter of an hour outlive the points that a rule of their database lets go, unless they have a rule of their own.
//!
//! A disk that is full or failing does not stop the start: the outcome is logged and tried again until it is done.

use crate::config::{Config, DurabilityPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_derived::energy::QUARTERS;
use wattlog_engine::{Durability, Engine, Rule, WriteError};

/// Between two attempts while the store refuses.
const RETRY: Duration = Duration::from_secs(5);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Databases {
    /// Made if they are not there.
    wanted: BTreeMap<String, Durability>,
    /// Database, measurement and rule: those of measurements first, so that none is cut by the rule of its database before its
    /// own is there.
    retentions: Vec<(String, Option<String>, Rule)>,
    /// The database whose energies stay for ever, unless they have a rule of their own by then.
    with_energies: Option<String>,
    /// Of all others.
    usual: Durability,
}

impl Databases {
    /// The databases that `config` names, and `own_database`, which the collector writes to.
    pub(crate) fn of(config: &Config, own_database: &str) -> Self {
        let usual = durability(config.engine.durability);
        let mut wanted = BTreeMap::from([(own_database.to_owned(), usual)]);
        wanted.extend(
            config
                .databases
                .iter()
                .map(|(name, section)| (name.clone(), section.durability.map_or(usual, durability))),
        );
        let (mut retentions, mut with_energies) = (Vec::new(), None);
        for (name, section) in &config.databases {
            let own = section.measurements.iter().filter_map(|(measurement, section)| {
                Some((name.clone(), Some(measurement.clone()), section.retention?.rule()))
            });
            retentions.extend(own);
            // The sums of a year take less room than a day of its points.
            let is_told =
                section.measurements.get(QUARTERS).is_some_and(|section| section.retention.is_some());
            if name == own_database && section.retention.is_some() && !is_told {
                with_energies = Some(name.clone());
            }
            retentions.extend(section.retention.map(|keep| (name.clone(), None, keep.rule())));
        }
        Self { wanted, retentions, with_energies, usual }
    }

    /// Makes and tells all that can be; what is right already costs no write.
    ///
    /// # Errors
    /// The first database that failed, and why; the others are done. One has no rule of its own yet if that of one of its
    /// measurements failed.
    fn apply(&self, engine: &Engine) -> Result<(), (String, WriteError)> {
        let mut failed = None;
        let mut note = |name: &str, outcome: Result<(), WriteError>| {
            if let Err(error) = outcome {
                failed.get_or_insert((name.to_owned(), error));
            }
        };
        for name in self.wanted.keys() {
            note(name, engine.create_database(name).map(|_made| ()));
        }
        for database in engine.databases() {
            let durability = self.wanted.get(&database.name).copied().unwrap_or(self.usual);
            for policy in &database.retention_policies {
                note(&database.name, engine.set_durability(&database.name, Some(policy), durability));
            }
        }
        let mut incomplete = BTreeSet::new();
        let has_own = |name: &str| {
            let mut known = engine.retentions().into_iter();
            known.any(|rule| rule.database == name && rule.measurement.as_deref() == Some(QUARTERS))
        };
        if let Some(name) = self.with_energies.as_ref().filter(|name| !has_own(name)) {
            let kept = engine.set_retention(name, None, Some(QUARTERS), Rule::Forever);
            if kept.is_err() {
                incomplete.insert(name);
            }
            note(name, kept.map(|_rule| ()));
        }
        for (database, measurement, rule) in &self.retentions {
            // What the rule of a measurement would protect is hidden for good by that of its database.
            if measurement.is_none() && incomplete.contains(database) {
                continue;
            }
            let set = engine.set_retention(database, None, measurement.as_deref(), *rule);
            if set.is_err() {
                incomplete.insert(database);
            }
            note(database, set.map(|_rule| ()));
        }
        failed.map_or(Ok(()), Err)
    }
}

pub(crate) fn durability(policy: DurabilityPolicy) -> Durability {
    match policy {
        DurabilityPolicy::Always => Durability::Always,
        DurabilityPolicy::Interval(span) => Durability::Interval(span.0),
    }
}

/// One attempt; true if nothing is left to do.
pub(crate) async fn settle(engine: &Engine, databases: &Arc<Databases>) -> bool {
    match attempt(engine, databases).await {
        None => true,
        Some((database, error)) => {
            tracing::error!(
                database,
                %error,
                "databases, their durability and retention are not yet as configured: writes may be refused, or answered by \
                 the former durability; look at the disk; this is tried again"
            );
            false
        }
    }
}

/// Tries again until nothing is left to do, or `over`.
pub(crate) async fn keep_settling(engine: Engine, databases: Arc<Databases>, over: CancellationToken) {
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
        match attempt(&engine, &databases).await {
            None => return tracing::info!("databases, their durability and retention are now as configured"),
            Some((_, WriteError::Closed)) => return,
            Some((database, error)) => {
                tracing::debug!(database, %error, "databases are not yet as configured");
            }
        }
    }
}

/// Off the event loop: each step waits for the disk.
async fn attempt(engine: &Engine, databases: &Arc<Databases>) -> Option<(String, WriteError)> {
    let (engine, databases) = (engine.clone(), Arc::clone(databases));
    let done = tokio::task::spawn_blocking(move || databases.apply(&engine)).await;
    done.map_or_else(|gone| Some((String::new(), WriteError::Disk(gone.to_string()))), Result::err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wattlog_engine::io::Disk;
    use wattlog_engine::io::sim::{SimDisk, SyncName};
    use wattlog_engine::{Options, WriteBatch};
    use wattlog_model::{FieldValue, ManualClock, Point, TagSet, Timestamp};

    fn open(disk: &Arc<SimDisk>, auto_create_databases: bool) -> Engine {
        let options = Options { auto_create_databases, ..Options::default() };
        let disk: Arc<dyn Disk> = disk.clone();
        Engine::open(disk, options, Arc::new(ManualClock::new(Timestamp(0))), [1; 16]).unwrap()
    }

    fn config(yaml: serde_json::Value) -> Config {
        serde_json::from_value(yaml).unwrap()
    }

    /// Whether a write to `database` waits for a sync of its own.
    fn is_synced(engine: &Engine, disk: &SimDisk, database: &str) -> bool {
        let before = disk.counts().syncs_of(SyncName::WalFile);
        let mut batch = WriteBatch::new(database, None);
        let point = Point {
            measurement: "m".into(),
            tags: TagSet::default(),
            time: Some(Timestamp(1)),
            fields: vec![("v".into(), FieldValue::Float(1.0))],
        };
        batch.push(&point, Timestamp(1), 0);
        engine.write(batch).unwrap();
        disk.counts().syncs_of(SyncName::WalFile) > before
    }

    #[test]
    fn a_durability_that_is_configured_no_longer_is_taken_back() {
        // The key was deleted, `config print` said `always`, and writers went on to be answered before the sync.
        let disk = Arc::new(SimDisk::new(1));
        let lazy = config(json!({ "databases": { "home": { "durability": "interval 60s" } } }));
        let engine = open(&disk, true);
        Databases::of(&lazy, "wattlog").apply(&engine).unwrap();
        assert!(!is_synced(&engine, &disk, "home"));
        assert!(is_synced(&engine, &disk, "wattlog"));
        engine.close().unwrap();

        let engine = open(&disk, true);
        Databases::of(&config(json!({})), "wattlog").apply(&engine).unwrap();
        assert!(is_synced(&engine, &disk, "home"));
        engine.close().unwrap();
    }

    #[test]
    fn retention_is_set_where_it_is_named_and_left_alone_where_it_is_not() {
        let disk = Arc::new(SimDisk::new(3));
        let engine = open(&disk, true);
        let yaml = json!({ "databases": { "home": {
            "retention": "30d", "measurements": { "energy": { "retention": "inf" }, "power": { "retention": "2d" } },
        }, "lab": {} } });
        engine.create_database("lab").unwrap();
        let day = Timestamp::DAY_NS.unsigned_abs();
        engine.set_retention("lab", None, None, Rule::Keep { ns: 3 * day }).unwrap();
        let rules = |engine: &Engine| -> Vec<(String, Option<String>, Rule)> {
            let of = |info: wattlog_engine::RetentionInfo| (info.database, info.measurement, info.rule);
            engine.retentions().into_iter().map(of).collect()
        };
        Databases::of(&config(yaml), "wattlog").apply(&engine).unwrap();
        let found = rules(&engine);
        for (database, measurement, rule) in [
            ("home", None, Rule::Keep { ns: 30 * day }),
            ("home", Some("energy"), Rule::Forever),
            ("home", Some("power"), Rule::Keep { ns: 2 * day }),
            ("lab", None, Rule::Keep { ns: 3 * day }),
        ] {
            let wanted = (database.to_owned(), measurement.map(str::to_owned), rule);
            assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
        }
        Databases::of(&config(json!({})), "wattlog").apply(&engine).unwrap();
        assert_eq!(rules(&engine), found);
        engine.close().unwrap();
    }

    #[test]
    fn energies_outlive_the_points_that_a_rule_of_their_database_lets_go() {
        // Three months of points were all that a year's energy knew.
        let days = |keep: u64| Rule::Keep { ns: keep * Timestamp::DAY_NS.unsigned_abs() };
        for (measurements, own, wanted) in [
            (json!({}), "home", Some(Rule::Forever)),
            (json!({ "energy_quarters": { "retention": "400d" } }), "home", Some(days(400))),
            (json!({}), "wattlog", None),
        ] {
            let engine = open(&Arc::new(SimDisk::new(5)), true);
            let yaml =
                json!({ "databases": { "home": { "retention": "90d", "measurements": measurements } } });
            Databases::of(&config(yaml.clone()), own).apply(&engine).unwrap();
            let of = |name: Option<&str>| {
                let rule = |info: wattlog_engine::RetentionInfo| {
                    (info.measurement.as_deref() == name).then_some(info.rule)
                };
                engine.retentions().into_iter().find_map(rule)
            };
            assert_eq!((of(None), of(Some("energy_quarters"))), (Some(days(90)), wanted), "{own}");
            // One that was set by hand since stays, over a start and a reload.
            engine.set_retention("home", None, Some("energy_quarters"), days(730)).unwrap();
            Databases::of(&config(yaml), own).apply(&engine).unwrap();
            let told = wanted.filter(|rule| *rule != Rule::Forever).unwrap_or(days(730));
            assert_eq!(of(Some("energy_quarters")), Some(told), "{own}");
            engine.close().unwrap();
        }
    }

    #[test]
    fn a_database_gets_no_rule_before_those_of_all_its_measurements() {
        // A full disk refused the name of the measurement and took the rule of the database, which hid what `inf` was to keep.
        let disk = Arc::new(SimDisk::new(4));
        let engine = open(&disk, true);
        engine.create_database("home").unwrap();
        engine.create_database("wattlog").unwrap();
        engine.close().unwrap();
        let yaml = json!({ "databases": { "home": {
            "retention": "30d", "measurements": { "energy": { "retention": "inf" } },
        } } });
        let wanted = Databases::of(&config(yaml), "wattlog");
        // Above what the manifest needs, below what writes leave free.
        disk.set_capacity_bytes(Some(disk.used_bytes() + 64 * 1024));
        let engine = open(&disk, true);
        let (database, error) = wanted.apply(&engine).unwrap_err();
        assert!(database == "home" && matches!(error, WriteError::DiskFull(_)), "{database}: {error:?}");
        assert!(engine.retentions().is_empty(), "{:?}", engine.retentions());
        disk.set_capacity_bytes(None);
        wanted.apply(&engine).unwrap();
        assert_eq!(engine.retentions().len(), 2);
        engine.close().unwrap();
    }

    #[test]
    fn what_a_full_disk_refuses_is_done_once_there_is_room() {
        let disk = Arc::new(SimDisk::new(2));
        let wanted = Databases::of(&config(json!({ "databases": { "home": {} } })), "wattlog");
        let engine = open(&disk, false);
        disk.set_capacity_bytes(Some(disk.used_bytes()));
        let (_, error) = wanted.apply(&engine).unwrap_err();
        assert!(matches!(error, WriteError::DiskFull(_)), "{error:?}");
        disk.set_capacity_bytes(None);
        wanted.apply(&engine).unwrap();
        let names: Vec<String> = engine.databases().into_iter().map(|database| database.name).collect();
        assert_eq!(names, ["home", "wattlog"], "also where writing makes no database");
        engine.close().unwrap();
    }
}
