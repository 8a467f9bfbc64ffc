//! What is left of alerts: deliveries that wait or were given up, and events that are old enough to go.
//!
//! Invariants
//! 1. The events of an episode (pending, firing, its end) go together, by the instant of its end: none is left that looks as if
//!    its episode went on, and none goes before the end is known.
//! 2. Nothing of an episode goes while one of its deliveries is still to be sent.

use super::{AlertDelivery, AlertEvent, DeliveryStatus};
use crate::database;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::record::{Actor, Value};
use crate::store::{bind, failed};
use serde::Serialize;
use sqlx::Row as _;
use wattlog_model::Timestamp;

/// Deliveries that did not reach their channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AlertBacklog {
    /// To be sent, or sent again.
    pub pending: u64,
    /// When the oldest of them was made.
    pub oldest_pending: Option<Timestamp>,
    /// Given up.
    pub dead: u64,
}

/// What one step of forgetting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlertsForgotten {
    /// Episodes that were looked at; as many as were asked for: there may be more.
    pub episodes: usize,
    /// Events that went, each with its deliveries.
    pub events: u64,
}

/// Ends of keys of one episode.
const ENDINGS: [&str; 4] = ["pending", "firing", "ok", "resolved"];

impl AlertDelivery {
    /// The same, to be sent again as if it never had been; none unless it was given up. Its event and so its key stay.
    #[must_use]
    pub fn again(&self, now: Timestamp) -> Option<Self> {
        (self.status == DeliveryStatus::Dead).then(|| Self {
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt: now,
            ..self.clone()
        })
    }
}

impl Ledger {
    /// How many deliveries wait or were given up.
    ///
    /// # Errors
    /// The database.
    pub async fn alert_backlog(&self) -> Result<AlertBacklog, LedgerError> {
        self.noted(async {
        let pool = self.pool().await?;
        let sql = "SELECT COUNT(CASE WHEN status = 'pending' THEN 1 END), \
                   MIN(CASE WHEN status = 'pending' THEN created_ns END), \
                   COUNT(CASE WHEN status = 'dead' THEN 1 END) FROM alert_deliveries WHERE status <> 'delivered'";
        let read = async {
            let row = bind(sql, &[]).fetch_one(&pool).await?;
            let count = |at: usize| row.try_get::<i64, _>(at).map(i64::unsigned_abs);
            Ok(AlertBacklog {
                pending: count(0)?,
                oldest_pending: row.try_get::<Option<i64>, _>(1)?.map(Timestamp),
                dead: count(2)?,
            })
        };
        read.await.map_err(|error| failed::<AlertDelivery>("count", error))
        })
        .await
    }

    /// Takes away the events and deliveries of at most `most` episodes that ended before `before`, the oldest first, in one
    /// transaction; those with a delivery that is still to be sent stay.
    ///
    /// # Errors
    /// The database; nothing is taken away then.
    pub async fn forget_alerts(
        &self,
        before: Timestamp,
        most: usize,
        actor: &Actor,
    ) -> Result<AlertsForgotten, LedgerError> {
        self.noted(async {
        let mut writing = self.write(actor).await?;
        let to_be_sent = "SELECT 1 FROM alert_deliveries AS due JOIN alert_events AS told ON told.id = due.event_id \
                          WHERE due.status = 'pending' AND told.event_key IN";
        let stem = "substr(ended.event_key, 1, length(ended.event_key) - \
                    CASE WHEN ended.event_key LIKE '%/resolved' THEN 8 ELSE 2 END)";
        let keys = ENDINGS.map(|ending| format!("{stem} || '{ending}'")).join(", ");
        let sql = format!(
            "SELECT {stem} FROM alert_events AS ended WHERE ended.state = 'resolved' AND ended.at_ns < $1 \
             AND (ended.event_key LIKE '%/resolved' OR ended.event_key LIKE '%/ok') \
             AND NOT EXISTS ({to_be_sent} ({keys})) ORDER BY ended.at_ns, ended.id LIMIT {most}"
        );
        let rows = bind(&sql, &[Value::Int(Some(before.0))]).fetch_all(writing.connection()).await;
        let stems =
            rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>());
        let stems = stems.map_err(|error| failed::<AlertEvent>("list", error))?;
        let keep = format!(
            "SELECT due.id FROM alert_deliveries AS due WHERE due.event_id IN \
             (SELECT id FROM alert_events WHERE event_key IN ($1, $2, $3, $4)){}",
            database::for_update(self.backend())
        );
        let drop = format!(
            "DELETE FROM alert_events WHERE event_key IN ($1, $2, $3, $4) AND NOT EXISTS ({to_be_sent} ($1, $2, $3, $4))"
        );
        let mut done = AlertsForgotten { episodes: stems.len(), events: 0 };
        for stem in stems {
            let keys = ENDINGS.map(|ending| Value::Text(Some(format!("{stem}{ending}"))));
            // Whoever is sending one of them again is waited for, and then seen.
            let kept = bind(&keep, &keys).fetch_all(writing.connection()).await;
            kept.map_err(|error| failed::<AlertDelivery>("read", error))?;
            let dropped = bind(&drop, &keys).execute(writing.connection()).await;
            done.events += dropped.map_err(|error| failed::<AlertEvent>("remove", error))?.rows_affected();
        }
        writing.commit(done).await
        })
        .await
    }
}
