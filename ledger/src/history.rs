//! Reading what became of records, page by page.

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::listing::Listing;
use crate::record::{Change, Changed, Column as _, Record, Value};
use crate::schema::Configuration;
use crate::store::{bind, failed};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use wattlog_model::Timestamp;

/// Changes of one statement: each may be as large as a record.
const CHUNK: usize = 8;

impl Ledger {
    /// What became of number `id` after version `after` (0: all), the oldest change first, and where to go on if there is more. Empty
    /// if there never was one, or its kind leaves no history.
    ///
    /// # Errors
    /// The database.
    pub async fn history<R: Record>(
        &self,
        id: i64,
        after: i64,
    ) -> Result<(Vec<Change>, Option<i64>), LedgerError> {
        let of = "entity_id = $3";
        self.noted(self.changes::<R>("version", of, &[Value::Int(Some(id))], after)).await
    }

    /// What became of all revisions of a configuration, as [`Ledger::history`]; `after` is a place among the changes of the ledger.
    ///
    /// # Errors
    /// The database.
    pub async fn configuration_history(
        &self,
        name: &str,
        after: i64,
    ) -> Result<(Vec<Change>, Option<i64>), LedgerError> {
        let of = "entity_id IN (SELECT id FROM configurations WHERE name = $3)";
        let name = [Value::Text(Some(name.to_owned()))];
        self.noted(self.changes::<Configuration>("id", of, &name, after)).await
    }

    /// Changes of a kind for which `of` holds, in the order of the column `place`, after `after`.
    async fn changes<R: Record>(
        &self,
        place: &str,
        of: &str,
        values: &[Value],
        mut after: i64,
    ) -> Result<(Vec<Change>, Option<i64>), LedgerError> {
        let pool = self.pool().await?;
        let sql = format!(
            "SELECT {place}, version, action, at_ns, actor, record FROM history \
             WHERE entity = $1 AND {place} > $2 AND {of} ORDER BY {place} LIMIT {}",
            CHUNK + 1
        );
        let (mut changes, mut bytes) = (Vec::new(), 0);
        loop {
            let mut bound = vec![Value::Text(Some(R::TABLE.to_owned())), Value::Int(Some(after))];
            bound.extend_from_slice(values);
            let rows = bind(&sql, &bound).fetch_all(&pool).await;
            let rows = rows.map_err(|error| failed::<R>("read the history", error))?;
            for row in rows.iter().take(CHUNK) {
                let (at, change, len) = read(row).map_err(|error| failed::<R>("read the history", error))?;
                after = at;
                bytes += len;
                changes.push(change);
            }
            if rows.len() <= CHUNK {
                return Ok((changes, None));
            }
            if bytes >= Listing::MAX_PAGE_BYTES || changes.len() >= Listing::MAX_LIMIT {
                return Ok((changes, Some(after)));
            }
        }
    }
}

/// A change, its place, and the bytes of its record.
fn read(row: &AnyRow) -> Result<(i64, Change, usize), sqlx::Error> {
    let text: String = row.try_get(5)?;
    let change = Change {
        version: row.try_get(1)?,
        action: row.try_get(2)?,
        changed: Changed { at: Timestamp(row.try_get(3)?), by: row.try_get(4)? },
        record: serde_json::Value::read(row, 5)?,
    };
    Ok((row.try_get(0)?, change, text.len()))
}
