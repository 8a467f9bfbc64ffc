//! Tables of every released version become those of this one, and what is not ours is left alone.

use crate::constraints::aside;
use crate::on_both;
use crate::support::{Place, actor};
use sqlx::Executor as _;
use wattlog_ledger::schema::{Decision, Session, Tariff};
use wattlog_ledger::{Backend, LedgerError, Listing};

/// Rows as a program of that version wrote them; the same statements on both databases. A file for each released version,
/// kept for ever.
const RELEASED: &[(i64, &str)] = &[(1, include_str!("../released/0001.sql"))];

on_both! {
    async fn rows_of_every_released_version_are_read_after_it_is_brought_up_to_date(place) {
        let ledger = place.open().await;
        let newest = ledger.opened().unwrap().schema_version;
        assert_eq!(RELEASED.last().unwrap().0, newest, "keep rows of the newest version");
        for (version, rows) in RELEASED {
            // Tables of that version: those that it and the ones before it made.
            let place = match place.backend {
                Backend::Sqlite(_) => Place::sqlite(),
                Backend::Postgres { .. } => Place::postgres().await.unwrap(),
            };
            place.make_tables_of(*version).await;
            let mut aside = aside(&place).await;
            aside.execute(sqlx::raw_sql(*rows)).await.unwrap();
            drop(aside);
            let ledger = place.open().await;
            let sessions = ledger.list::<Session>(&Listing::all()).await.unwrap().records;
            assert_eq!(sessions.len(), 2, "version {version}");
            assert_eq!(sessions[0].record.session_id, "20251212_1");
            assert_eq!(sessions[0].record.total_cost, Some(4.93));
            assert_eq!(ledger.list::<Decision>(&Listing::all()).await.unwrap().records.len(), 1);
            assert_eq!(ledger.list::<Tariff>(&Listing::all()).await.unwrap().records.len(), 1);
            assert_eq!(ledger.history::<Session>(sessions[0].id, 0).await.unwrap().0.len(), 1);
            // And it can be written to.
            let mut next = sessions[1].record.clone();
            next.session_id = "another".into();
            ledger.insert(next, &actor()).await.unwrap();
        }
    }

    async fn opening_again_changes_nothing(place) {
        place.open().await.close().await;
        place.open().await.close().await;
        let mut aside = aside(place).await;
        let row = aside.fetch_one("SELECT COUNT(*) FROM _sqlx_migrations").await.unwrap();
        assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), RELEASED.last().unwrap().0);
    }

    async fn tables_of_a_newer_program_are_refused_with_what_to_do(place) {
        place.open().await.close().await;
        let mut aside = aside(place).await;
        aside.execute("UPDATE _sqlx_migrations SET version = 999").await.unwrap();
        drop(aside);
        let refused = place.handle().ready().await.unwrap_err();
        assert!(matches!(refused, LedgerError::Schema { .. }), "{refused:?}");
        assert!(refused.to_string().contains("newer program"), "{refused}");
    }

    async fn a_migration_that_was_other_statements_is_refused(place) {
        place.open().await.close().await;
        let mut aside = aside(place).await;
        let other = match place.backend {
            Backend::Sqlite(_) => "UPDATE _sqlx_migrations SET checksum = x'00'",
            Backend::Postgres { .. } => "UPDATE _sqlx_migrations SET checksum = '\\x00'",
        };
        aside.execute(other).await.unwrap();
        drop(aside);
        let refused = place.handle().ready().await.unwrap_err();
        assert!(refused.to_string().contains("version 1"), "{refused}");
    }
}
