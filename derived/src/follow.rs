//! A place in the change feed that outlives the process, and what its owner wants to know there when it comes back.
//!
//! Both lie in one row of the measurement [`STATE`], under the tag `of`. The owner writes it after its work: what a crash takes is
//! told again, and done again.
//!
//! A log that was sealed goes, and with it every place that names it: the feed then tells of everything. So the place is written
//! again as soon as it lies in another log than the one that was written, and at a stop until both are the same.
//!
//! A delete of the row means that all is to be done again: its owner hears of it and writes no place before it has begun anew.

use crate::energy::{RAW, STATE, times};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use wattlog_engine::query::{
    CancelFlag, QueryControl, QueryError, QueryRequest, ResultValues, Shape, TagFilter, TagPredicate,
};
use wattlog_engine::{
    Cause, ChangeCursor, ChangeEvent, ChangeReader, ChangeRequest, ChangeStart, Changes, DEFAULT_POLICY,
    Engine, WriteBatch, WriteError,
};
use wattlog_model::{Clock, TagSet, Timestamp};

/// The place is written this often, whether or not there was anything to do; what a restart does again is bounded by it.
const STATE_EVERY: Duration = Duration::from_secs(3600);

/// Events of [`STATE`] that are taken at a time, and how often before the owner goes on with its work.
const EVENTS: usize = 100;
const MOST_LOOKS: usize = 100;

/// Why it does not get on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("a row of {STATE} was refused: {0}")]
    Refused(String),
}

impl FollowError {
    /// Nobody wrote to the database yet: no failure.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::Query(QueryError::DatabaseNotFound(_)))
    }
}

/// Who follows, and where what it knows is kept.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) engine: Engine,
    pub(crate) database: String,
    /// Value of the tag `of`.
    pub(crate) name: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Owner {
    /// Before there are points there is nothing to remember, and no database is made for it.
    fn has_points(&self) -> bool {
        self.engine.measurement(&self.database, RAW).is_ok_and(|known| known.is_some())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Followed {
    owner: Owner,
    reader: ChangeReader,
    /// What was written last, and when.
    text: String,
    at: Duration,
    /// The place that was written last; none if nothing was.
    cursor: Option<ChangeCursor>,
    /// What becomes of the row.
    states: ChangeReader,
    /// When the row is that was written last.
    row: Option<Timestamp>,
    is_forgotten: bool,
}

#[derive(Serialize, Deserialize)]
struct Written<S> {
    /// A [`ChangeCursor`].
    cursor: String,
    #[serde(flatten)]
    state: S,
}

impl Followed {
    /// Goes on from what was written last, and gives it; from now on if there is nothing, or nothing that can be read.
    pub(crate) fn open<S: DeserializeOwned>(
        owner: Owner,
        request: ChangeRequest,
        control: &QueryControl,
    ) -> Result<(Self, Option<S>), FollowError> {
        let of_state = ChangeRequest {
            database: Some(owner.database.clone()),
            measurement: Some(STATE.to_owned()),
            limit: EVENTS,
            ..ChangeRequest::default()
        };
        // Before the row is read: no delete comes in between.
        let states = owner.engine.changes(of_state, ChangeStart::Now)?;
        let (row, text) = stored(&owner, control)?.unzip();
        let (text, is_forgotten) = (text.unwrap_or_default(), false);
        let written = serde_json::from_str::<Written<S>>(&text).ok();
        let known = written.and_then(|written| Some((written.cursor.parse().ok()?, written.state)));
        let at = owner.clock.monotonic();
        let Some((cursor, state)) = known else {
            let reader = owner.engine.changes(request, ChangeStart::Now)?;
            let text = String::new();
            return Ok((Self { owner, reader, text, at, cursor: None, states, row, is_forgotten }, None));
        };
        let reader = owner.engine.changes(request, ChangeStart::After(cursor))?;
        let cursor = Some(cursor);
        Ok((Self { owner, reader, text, at, cursor, states, row, is_forgotten }, Some(state)))
    }

    /// What changed since the last call, waiting for it for at most `wait`.
    pub(crate) fn next(&mut self, wait: Duration, cancel: &CancelFlag) -> Changes {
        self.reader.next(wait, cancel)
    }

    /// The place after all that was told.
    pub(crate) fn cursor(&self) -> ChangeCursor {
        self.reader.cursor()
    }

    /// Whether the place that was written is old, or in a log that is not written any more.
    pub(crate) fn is_due(&self) -> bool {
        let since = self.owner.clock.monotonic().saturating_sub(self.at);
        since >= STATE_EVERY || self.is_elsewhere()
    }

    /// Whether the place that was written is in another log than the present one.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.cursor.is_some_and(|written| written.log() != self.reader.cursor().log())
    }

    /// Whether the row was deleted since the last call: then all is to be done again.
    pub(crate) fn take_forgotten(&mut self) -> bool {
        self.look();
        if self.is_forgotten {
            (self.text, self.cursor, self.row) = (String::new(), None, None);
        }
        std::mem::take(&mut self.is_forgotten)
    }

    /// Hears of deletes of the row.
    fn look(&mut self) {
        for _ in 0..MOST_LOOKS {
            let before = self.states.cursor();
            let changes = self.states.next(Duration::ZERO, &CancelFlag::default());
            let is_ours = |event: &ChangeEvent| match event {
                ChangeEvent::Dirty { times, cause: Cause::Delete | Cause::Many, .. } => {
                    self.row.is_some_and(|row| times.contains(&row.0))
                }
                _ => false,
            };
            self.is_forgotten |= changes.events.iter().any(is_ours);
            if changes.closed || self.states.cursor() == before {
                break;
            }
        }
    }

    /// Writes the place and `state`, if they are news and nobody deleted those before them.
    pub(crate) fn write<S: Serialize>(&mut self, state: &S) -> Result<(), FollowError> {
        self.look();
        if self.is_forgotten {
            return Ok(());
        }
        let cursor = self.reader.cursor();
        let refused = |error: &dyn std::fmt::Display| FollowError::Refused(error.to_string());
        let text = serde_json::to_string(&Written { cursor: cursor.to_string(), state })
            .map_err(|error| refused(&error))?;
        self.at = self.owner.clock.monotonic();
        if text == self.text || (self.text.is_empty() && !self.owner.has_points()) {
            return Ok(());
        }
        let tags = TagSet::new([("of", self.owner.name)]).map_err(|error| refused(&error))?;
        let mut batch = WriteBatch::new(&self.owner.database, None);
        let slot = batch.series(STATE, &tags);
        let row = self.owner.clock.wall();
        batch.row(slot, row, 0).string("state", &text);
        let receipt = self.owner.engine.write(batch)?;
        if let Some(row) = receipt.rejected.first() {
            return Err(refused(&row.reason));
        }
        (self.text, self.cursor, self.row) = (text, Some(cursor), Some(row));
        Ok(())
    }
}

/// The newest row and its time.
fn stored(owner: &Owner, control: &QueryControl) -> Result<Option<(Timestamp, String)>, FollowError> {
    let predicate = TagPredicate::In(vec![owner.name.to_owned()]);
    let request = QueryRequest {
        fields: Some(vec!["state".to_owned()]),
        tags: vec![TagFilter { key: "of".to_owned(), predicate }],
        shape: Shape::Last,
        ..QueryRequest::raw(&owner.database, STATE, Timestamp(i64::MIN), Timestamp(i64::MAX))
    };
    let result = owner.engine.query(&request, control)?;
    let Some(series) = result.series.first() else { return Ok(None) };
    let texts = series.column("state").map(|column| &column.values);
    let Some(ResultValues::String(texts)) = texts else { return Ok(None) };
    let text = texts.first().and_then(Option::as_ref).map(ToString::to_string);
    Ok(times(series).next().map(Timestamp).zip(text))
}

/// Points of the measurement before this are hidden by age.
pub(crate) fn cutoff(engine: &Engine, database: &str, measurement: &str) -> Option<i64> {
    let mut rules = engine.retentions();
    rules.retain(|rule| rule.database == database && rule.policy == DEFAULT_POLICY);
    // A rule of the measurement's own stands in place of that of the database.
    let own = rules.iter().find(|rule| rule.measurement.as_deref() == Some(measurement));
    let rule = own.or_else(|| rules.iter().find(|rule| rule.measurement.is_none()));
    rule.and_then(|rule| rule.cutoff).map(|cutoff| cutoff.0)
}
