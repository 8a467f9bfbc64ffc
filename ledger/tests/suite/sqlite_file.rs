//! The file of SQLite: how it is written, copied, and what becomes of a damaged one.

use crate::support::{Place, actor};
use serde_json::json;
use std::path::{Path, PathBuf};
use wattlog_ledger::schema::Annotation;
use wattlog_ledger::{Backend, Ledger, LedgerError, LedgerOptions, Listing};

fn numbered(number: usize) -> Annotation {
    let text = format!("{number} ").repeat(50);
    serde_json::from_value(
        json!({"start": "2026-03-01T10:00:00Z", "title": format!("n{number}"), "text": text}),
    )
    .unwrap()
}

fn file_of(place: &Place) -> PathBuf {
    match &place.backend {
        Backend::Sqlite(file) => file.clone(),
        Backend::Postgres { .. } => unreachable!("these tests are about the file"),
    }
}

async fn filled(place: &Place, count: usize) -> Ledger {
    let ledger = place.open().await;
    ledger.put_all((0..count).map(numbered).collect(), &actor()).await.unwrap();
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_while_others_write_is_whole_and_of_one_moment() {
    let place = Place::sqlite();
    let ledger = filled(&place, 200).await;
    let writing = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            for number in 0..200 {
                // Two in one change: a copy has both or none.
                ledger.put_all(vec![numbered(number), numbered(number)], &actor()).await.unwrap();
            }
        }
    });
    let folder = file_of(&place).parent().unwrap().to_owned();
    let mut sizes = Vec::new();
    for copy in 0..5 {
        let file = folder.join(format!("copy-{copy}.db"));
        ledger.copy_to(&file).await.unwrap();
        let options = LedgerOptions::new(Backend::Sqlite(file));
        let copied = Ledger::new(options, place.clock.clone()).unwrap();
        copied.ready().await.unwrap();
        assert_eq!(copied.opened().unwrap().set_aside, None);
        let listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
        let count = copied.list::<Annotation>(&listing).await.unwrap().records.len();
        assert_eq!(count % 2, 0);
        sizes.push(count);
        copied.close().await;
    }
    writing.await.unwrap();
    assert!(sizes.is_sorted() && sizes[0] >= 200, "{sizes:?}");
    let again = ledger.copy_to(&folder.join("copy-0.db")).await.unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
}

async fn opened_after(damage: impl FnOnce(&Path)) -> (Place, Ledger) {
    let place = Place::sqlite();
    filled(&place, 300).await.close().await;
    damage(&file_of(&place));
    let ledger = place.open().await;
    (place, ledger)
}

async fn is_new_and_says_so(place: &Place, ledger: &Ledger, before: &[u8]) {
    let (aside, _reason) = ledger.opened().unwrap().set_aside.clone().unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), before, "what was set aside is as it was found");
    assert_ne!(aside, file_of(place));
    let health = ledger.health().await;
    assert!(health.available && health.reason.unwrap().contains("set aside"));
    assert!(ledger.list::<Annotation>(&Listing::all()).await.unwrap().records.is_empty());
    ledger.insert(numbered(1), &actor()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_a_new_ledger_begins() {
    let mut before = Vec::new();
    let (place, ledger) = opened_after(|file| {
        // A page in the middle that is no page of a tree.
        before = std::fs::read(file).unwrap();
        let middle = before.len() / 2 / 4096 * 4096;
        before[middle..middle + 4096].fill(0xa5);
        std::fs::write(file, &before).unwrap();
    })
    .await;
    is_new_and_says_so(&place, &ledger, &before).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside_too() {
    let text = b"this was a ledger once, and is long enough to have a header of a hundred bytes, which it does have now....".to_vec();
    let (place, ledger) = opened_after(|file| std::fs::write(file, &text).unwrap()).await;
    is_new_and_says_so(&place, &ledger, &text).await;
}

/// Pages of the second half become none of a tree.
fn overwrite(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..].fill(0xa5);
    std::fs::write(file, &bytes).unwrap();
}

#[tokio::test]
async fn damage_that_is_met_while_it_runs_is_told_and_remembered() {
    let place = Place::sqlite();
    // So many that the roots of the tables lie in the first half.
    filled(&place, 2000).await.close().await;
    let ledger = place.open().await;
    assert_eq!((ledger.health().await.damaged, ledger.health().await.reason), (None, None));
    overwrite(&file_of(&place));
    let everything = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
    let error = ledger.list::<Annotation>(&everything).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Damaged { file, .. } if *file == file_of(&place)), "{error:?}");
    assert!(!error.may_pass());
    let health = ledger.health().await;
    assert!(health.damaged.as_ref().unwrap().contains("list"), "{health:?}");
    assert!(health.reason.as_ref().unwrap().contains("the ledger is damaged"), "{health:?}");
    // What lies elsewhere is still read, and that changes nothing.
    ledger.get::<Annotation>(1).await.unwrap().unwrap();
    assert_eq!(ledger.health().await.damaged, health.damaged);
    // The next start sets it aside.
    ledger.close().await;
    let again = place.open().await;
    assert!(again.opened().unwrap().set_aside.is_some());
    assert_eq!(again.health().await.damaged, None);
}

#[tokio::test]
async fn a_file_that_became_no_database_is_told_by_that_and_not_as_a_timeout() {
    let place = Place::sqlite();
    filled(&place, 3).await.close().await;
    let wait = std::time::Duration::from_secs(2);
    let options = LedgerOptions { wait, ..LedgerOptions::new(place.backend.clone()) };
    let ledger = Ledger::new(options, place.clock.clone()).unwrap();
    ledger.ready().await.unwrap();
    std::fs::write(file_of(&place), vec![b'x'; 100_000]).unwrap();
    assert!(ledger.insert(numbered(0), &actor()).await.is_err());
    let health = ledger.health().await;
    assert!(
        !health.available && health.reason.as_ref().unwrap().contains("the ledger is damaged"),
        "{health:?}"
    );
    assert!(health.damaged.unwrap().contains("not a database"));
}

#[tokio::test]
async fn a_torn_log_gives_what_was_committed_before() {
    // The last frames of a log that a power cut left: SQLite drops them, and the file is sound.
    let place = Place::sqlite();
    let ledger = filled(&place, 10).await;
    for number in 10..20 {
        ledger.insert(numbered(number), &actor()).await.unwrap();
    }
    let file = file_of(&place);
    let log = file.with_extension("db-wal");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ledger.db");
    std::fs::copy(&file, &copy).unwrap();
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(copy.with_extension("db-wal"), &bytes[..bytes.len() - 1000]).unwrap();
    let cut = Ledger::new(LedgerOptions::new(Backend::Sqlite(copy)), place.clock.clone()).unwrap();
    cut.ready().await.unwrap();
    assert_eq!(cut.opened().unwrap().set_aside, None);
    let kept = cut.list::<Annotation>(&Listing::all()).await.unwrap().records;
    assert_eq!(kept.len(), 19);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::sqlite();
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("missing/ledger.db")));
    // It may come, as a disk that is mounted late: each call asks again.
    let ledger = Ledger::new(options, place.clock.clone()).unwrap();
    let error = ledger.insert(numbered(0), &actor()).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    assert!(!ledger.health().await.available);
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    ledger.insert(numbered(0), &actor()).await.unwrap();
    assert!(ledger.health().await.available);
}

#[tokio::test]
async fn a_record_that_lost_what_it_refers_to_is_told_and_costs_nothing_else() {
    // The sqlite3 program checks no foreign keys, so one hand-made DELETE is enough: it emptied the ledger at the next start.
    use sqlx::{Connection as _, Executor as _};
    let place = Place::sqlite();
    filled(&place, 3).await.close().await;
    let mut tool = sqlx::AnyConnection::connect(&place.url()).await.unwrap();
    tool.execute("PRAGMA foreign_keys = OFF").await.unwrap();
    let orphan = "INSERT INTO alert_states (version, created_ns, created_by, updated_ns, updated_by, rule_id, state, evaluated_ns) \
                  VALUES (1, 0, 'x', 0, 'x', 4711, '{}', 0)";
    tool.execute(orphan).await.unwrap();
    tool.close().await.unwrap();
    let ledger = place.open().await;
    assert_eq!(ledger.opened().unwrap().set_aside, None);
    let health = ledger.health().await;
    assert!(health.available && health.reason.unwrap().contains("alert_states"));
    assert_eq!(ledger.list::<Annotation>(&Listing::all()).await.unwrap().records.len(), 3);
}

#[tokio::test]
async fn a_name_with_signs_of_a_url_is_the_name_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("100%41 #1 ?x=y");
    std::fs::create_dir(&below).unwrap();
    let file = below.join("ledger.db");
    let ledger =
        Ledger::new(LedgerOptions::new(Backend::Sqlite(file.clone())), Place::sqlite().clock).unwrap();
    ledger.insert(numbered(0), &actor()).await.unwrap();
    assert!(file.is_file());
}
