//! Several changes of one kind of record in one transaction: one commit, and one sync, for all of them.

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::record::{Actor, Record, Value, checked_values};
use crate::store::{Action, Expected};

/// One change of [`Ledger::edit_all`].
#[derive(Debug, Clone, PartialEq)]
pub enum Edit<R> {
    /// Makes a record.
    Insert(R),
    /// Puts another record in the place of that number.
    Update(i64, Expected, R),
    /// Takes that number away.
    Remove(i64, Expected),
}

impl<R: Record> Edit<R> {
    fn checked_values(&self) -> Result<Vec<Value>, LedgerError> {
        match self {
            Self::Insert(record) | Self::Update(_, _, record) => checked_values(record),
            Self::Remove(..) => Ok(Vec::new()),
        }
    }
}

impl Ledger {
    /// Makes all of the changes in their order, or none; what was done stands in the same order. Others that change something wait
    /// meanwhile, so they should be few: some hundreds.
    ///
    /// # Errors
    /// As [`Ledger::insert`], [`Ledger::update`] and [`Ledger::remove`], for the first change that fails.
    pub async fn edit_all<R: Record>(
        &self,
        edits: &[Edit<R>],
        actor: &Actor,
    ) -> Result<Vec<Action>, LedgerError> {
        self.noted(async {
            let values: Vec<Vec<Value>> = edits.iter().map(Edit::checked_values).collect::<Result<_, _>>()?;
            let mut writing = self.write(actor).await?;
            let mut done = Vec::with_capacity(edits.len());
            for (edit, values) in edits.iter().zip(values) {
                done.push(match edit {
                    Edit::Insert(record) => {
                        writing.create(record.clone(), &values).await?;
                        Action::Created
                    }
                    Edit::Update(id, expected, record) => {
                        let old = writing.expect::<R>(*id, *expected).await?;
                        writing.change(old, record.clone(), &values).await?.action
                    }
                    Edit::Remove(id, expected) => {
                        let old = writing.expect::<R>(*id, *expected).await?;
                        writing.remove(&old).await?;
                        Action::Removed
                    }
                });
            }
            writing.commit(done).await
        })
        .await
    }
}
