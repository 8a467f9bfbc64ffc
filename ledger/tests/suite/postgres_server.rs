//! PostgreSQL over the network: TLS, passwords, and a server that comes and goes.

use crate::support::{Cluster, Place, actor, database};
use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use wattlog_ledger::schema::Annotation;
use wattlog_ledger::{Backend, Ledger, LedgerError, LedgerOptions, Listing};

fn annotation() -> Annotation {
    serde_json::from_value(json!({"start": "2026-03-01T10:00:00Z", "title": "t"})).unwrap()
}

async fn open(url: &str, password: Option<&str>) -> Result<Ledger, LedgerError> {
    let backend = Backend::Postgres { url: url.to_owned(), password: password.map(str::to_owned) };
    let ledger = Ledger::new(LedgerOptions::new(backend), Place::sqlite().clock)?;
    ledger.ready().await?;
    Ok(ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_asked_for_checked_and_used() {
    let Some(cluster) = Cluster::start(&["tls"]) else { return };
    let local = database(&cluster).await;
    let mut admin = sqlx::PgConnection::connect(&local).await.unwrap();
    admin.execute("ALTER USER wattlog PASSWORD 'g e/h@eim'").await.unwrap();
    let database = local.split('/').nth(3).unwrap().split('?').next().unwrap();
    let authority = format!("{}/ca.crt", cluster.folder);
    let url = |host: &str, mode: &str, more: &str| {
        format!("postgresql://wattlog@{host}:{}/{database}?sslmode={mode}{more}", cluster.port)
    };
    let root = format!("&sslrootcert={authority}");
    let secret = Some("g e/h@eim");

    let ledger = open(&url("localhost", "verify-full", &root), secret).await.unwrap();
    ledger.insert(annotation(), &actor()).await.unwrap();
    let row = admin
        .fetch_one(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'wattlog'",
        )
        .await
        .unwrap();
    assert!(sqlx::Row::get::<i64, _>(&row, 0) >= 1);
    // Without a word about it TLS is taken when the server has it.
    open(&url("localhost", "prefer", ""), secret)
        .await
        .unwrap()
        .insert(annotation(), &actor())
        .await
        .unwrap();

    // The certificate is for localhost, not for this name of the same machine.
    let wrong_name = open(&url("127.0.0.1", "verify-full", &root), secret).await;
    assert!(refused(wrong_name).await);
    // By its authority alone it is right.
    open(&url("127.0.0.1", "verify-ca", &root), secret)
        .await
        .unwrap()
        .insert(annotation(), &actor())
        .await
        .unwrap();
    // Nobody that this machine trusts has signed it.
    assert!(refused(open(&url("localhost", "verify-full", ""), secret).await).await);
    // The server takes nothing without TLS, and no other password.
    assert!(refused(open(&url("localhost", "disable", ""), secret).await).await);
    let wrong = open(&url("localhost", "require", ""), Some("falsch")).await;
    let text = wrong.as_ref().unwrap_err().to_string();
    assert!(text.contains("password") && !text.contains("falsch"), "{text}");
    assert!(refused(wrong).await);
}

/// True if it could not be opened, or is opened and cannot be used.
async fn refused(opened: Result<Ledger, LedgerError>) -> bool {
    match opened {
        Err(_) => true,
        Ok(ledger) => ledger.insert(annotation(), &actor()).await.is_err(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_yet_is_asked_again() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    // The database is what is missing: it is made later, as by an installer that runs at the same time.
    let url = database(&cluster).await;
    let name = url.split('/').nth(3).unwrap().split('?').next().unwrap().to_owned();
    let admin_url = url.replace(&name, "postgres");
    let mut admin = sqlx::PgConnection::connect(&admin_url).await.unwrap();
    admin.execute(sqlx::AssertSqlSafe(format!("DROP DATABASE {name}"))).await.unwrap();
    let backend = Backend::Postgres { url: url.clone(), password: None };
    let ledger = Ledger::new(LedgerOptions::new(backend), Place::sqlite().clock).unwrap();
    assert!(!ledger.health().await.available);
    let error = ledger.insert(annotation(), &actor()).await.unwrap_err();
    assert!(error.may_pass(), "{error:?}");
    admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    ledger.insert(annotation(), &actor()).await.unwrap();

    // All its connections end, as at a restart of the server: the next call has a new one.
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.execute(sqlx::AssertSqlSafe(end)).await.unwrap();
    ledger.insert(annotation(), &actor()).await.unwrap();
    assert_eq!(ledger.list::<Annotation>(&Listing::all()).await.unwrap().records.len(), 2);
    drop(cluster);
    let gone = ledger.insert(annotation(), &actor()).await.unwrap_err();
    assert!(gone.may_pass(), "{gone:?}");
    assert!(!ledger.health().await.available);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_connections_and_says_nothing_holds_up_no_probe() {
    // As behind a firewall that drops: a listener that nobody reads.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://wattlog@{}/db", listener.local_addr().unwrap());
    let wait = std::time::Duration::from_secs(1);
    let options = LedgerOptions { wait, ..LedgerOptions::new(Backend::Postgres { url, password: None }) };
    let ledger = Ledger::new(options, Place::sqlite().clock).unwrap();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.insert(annotation(), &actor()).await.unwrap_err().may_pass() })
        })
        .collect();
    let begun = std::time::Instant::now();
    assert!(!ledger.health().await.available);
    assert!(begun.elapsed() < wait, "a probe waited for the database");
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    // Not one after the other, 20 s.
    assert!(begun.elapsed() < wait * 8, "{:?}", begun.elapsed());
    ledger.close().await;
}
