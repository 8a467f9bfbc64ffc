//! What callers ask of the writer thread, what they hear, and what one write and one sync make durable.

use crate::catalog::Definition;
use crate::error::{EngineError, WriteError};
use crate::feed::Cursor;
use crate::ids::{FieldId, LogId, MeasurementId, NamespaceId, NextIds, Seq};
use crate::ingest::names::PendingNames;
use crate::ingest::prepare::Prepared;
use crate::memtable::Memtable;
use crate::options::Durability;
use crate::seal::SealReport;
use crate::tombstone::Tombstone;
use crate::wal::Recycler;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::{FieldKind, Unit};

/// What callers ask of the writer thread.
#[derive(Debug)]
pub(crate) enum Request {
    /// Commit a body.
    Write {
        /// The body, resolved as far as the catalog knew.
        prepared: Box<Prepared>,
        /// When to answer.
        durability: Durability,
        /// Where to.
        reply: Sender<Answer>,
    },
    /// Make a namespace, if it is not there.
    Namespace {
        /// Its database.
        database: String,
        /// Its retention policy.
        policy: String,
        /// Answered once durable.
        reply: Sender<Result<NamespaceId, WriteError>>,
    },
    /// Make a measurement, if it is not there.
    Measurement {
        /// Its namespace.
        namespace: NamespaceId,
        /// Its name.
        name: Arc<str>,
        /// Answered once durable.
        reply: Sender<Result<MeasurementId, WriteError>>,
    },
    /// Tell what fields mean.
    Meanings {
        /// Field, unit, kind.
        meanings: Vec<(FieldId, Option<Unit>, FieldKind)>,
        /// Answered once durable.
        reply: Sender<Result<(), WriteError>>,
    },
    /// Hide what was committed so far.
    Delete {
        /// What; the sequence is given here.
        tombstones: Vec<Tombstone>,
        /// Answered once durable.
        reply: Sender<Result<Cursor, WriteError>>,
    },
    /// Seal everything committed so far.
    Seal(Sender<Result<SealReport, EngineError>>),
    /// End the log and stop.
    Close(Sender<Result<(), EngineError>>),
}

/// What becomes of a body.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Stored; with what was refused line by line.
    Stored(Box<Stored>),
    /// Not stored, or not certainly.
    Failed(WriteError),
}

/// A stored body.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) cursor: Cursor,
    pub(crate) points: u64,
    pub(crate) values: u64,
    pub(crate) rejections: Vec<crate::ingest::Rejection>,
}

/// What opening found, as far as the writer goes on from it.
#[derive(Debug)]
pub(crate) struct WriterStart {
    pub(crate) last: Seq,
    pub(crate) next_log: LogId,
    pub(crate) recycler: Recycler,
    pub(crate) unsealed_logs: Vec<(LogId, Seq)>,
    pub(crate) next_ids: NextIds,
    pub(crate) manifest_edit: u64,
    /// Memtables to seal, with the sequence up to which each goes.
    pub(crate) frozen: Vec<(Arc<Memtable>, Seq)>,
    /// True if what replay read could not be made durable: it is sealed before a new log says that it is.
    pub(crate) seal_first: bool,
}

/// Bodies and definitions that one write and one sync make durable.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) writes: Vec<Pending>,
    pub(super) namespaces: Vec<(NamespaceId, Sender<Result<NamespaceId, WriteError>>)>,
    pub(super) measurements: Vec<(MeasurementId, Sender<Result<MeasurementId, WriteError>>)>,
    pub(super) meanings: Vec<Sender<Result<(), WriteError>>>,
    /// Fields whose meaning was told, and the record that says so.
    pub(super) meant: Vec<(Seq, Vec<FieldId>)>,
    pub(super) deletes: Vec<WaitingDelete>,
    pub(super) names: PendingNames,
    /// Definitions that the catalog learns when the group is published, in commit order.
    pub(super) definitions: Vec<Definition>,
    pub(super) last: Option<Seq>,
    pub(super) must_sync: bool,
    pub(super) sync_within: Option<Duration>,
}

/// Tombstones to commit, and who waits for it.
pub(super) type WaitingDelete = (Vec<Tombstone>, Sender<Result<Cursor, WriteError>>);

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) prepared: Box<Prepared>,
    pub(super) seq: Seq,
    pub(super) reply: Sender<Answer>,
}

/// What a request adds to the log, about; definitions of a body that has no other new names are small.
pub(super) fn bytes_of(request: &Request) -> u64 {
    let Request::Write { prepared, .. } = request else { return 0 };
    prepared.payload.as_ref().map_or_else(|| prepared.bytes_bound(), |(payload, _)| payload.len() as u64)
}
