//! One short life of the commit and snapshot protocol, with a thread each for two callers, a reader, the writer, the sealer.
//!
//! The memtable, the publication and the log are the engine's own sources; the threads around them are a short form of
//! `ingest::writer` and `seal`, step by step in their order: take a request, gather what waits, give sequences, write once, sync
//! once, apply, publish, answer; freeze between groups; seal, then hand over in one change of the view.
//!
//! Checked
//! 1. Whoever was answered "stored" under `Always` finds its record in what a power cut would leave at that moment.
//! 2. Whoever was answered finds its body in every later snapshot.
//! 3. A snapshot holds every body up to its cursor, each whole and each row once, and nothing of a later one.

use crate::feed::Cursor;
use crate::ids::{FieldId, LogId, MeasurementId, NamespaceId, Seq, SeriesId, StoreId};
use crate::memtable::{FieldSet, Memtable, SeriesBatch};
use crate::publication::Publication;
use shuttle::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use shuttle::thread;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use wattlog_engine::column::{Column, Presence, SeriesRows, Values};
use wattlog_engine::io::Disk;
use wattlog_engine::io::sim::{Cut, SimDisk, Survives};
use wattlog_engine::wal::{LogWriter, RecordHead, RecordKind, ReplayFloor, replay};
use wattlog_model::Timestamp;

/// A mistake in the order of steps, to prove that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// The caller hears "stored" before the sync.
    AnswerBeforeSync,
    /// The sync covers what was written before it began; the group is written after.
    SyncBeforeWrite,
    /// The cursor moves before the rows are in the memtable.
    PublishBeforeApply,
    /// A sealed memtable goes in one step and its segment comes in another.
    HandOverInTwoSteps,
    /// The segment comes first and the memtable stays for a moment.
    HandOverTwice,
    /// What is sealed is handed over with a sequence that is one too low.
    SealedTooLow,
}

/// How large bodies are, and with them how far two steps of a thread lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Three rows, frozen after each group: much happens between two steps of a reader.
    Small,
    /// Thirteen rows, frozen after two: a column goes on in a second chunk.
    Large,
}

impl Size {
    /// Of the first series.
    const fn rows(self) -> i64 {
        match self {
            Self::Small => 1,
            Self::Large => 11,
        }
    }

    const fn rows_of_a_body(self) -> u64 {
        self.rows() as u64 + 2
    }

    const fn freeze_rows(self) -> u64 {
        match self {
            Self::Small => self.rows_of_a_body(),
            Self::Large => 2 * self.rows_of_a_body(),
        }
    }
}

/// A body: its number, and whether its caller waits for the sync.
#[derive(Debug)]
struct Request {
    body: u64,
    synced: bool,
    reply: Sender<Seq>,
}

/// Rows of both series of a sealed memtable.
type Segment = Arc<Vec<(SeriesId, SeriesRows)>>;

#[derive(Debug, Clone)]
struct View {
    active: Arc<Memtable>,
    frozen: Vec<Arc<Memtable>>,
    segments: Vec<Segment>,
    sealed: Seq,
}

#[derive(Debug)]
struct Store {
    disk: SimDisk,
    publication: Publication<View>,
    /// Sequence of each body, as the writer gave them. No point of the scheduler.
    given: Mutex<BTreeMap<u64, Seq>>,
    mistake: Mistake,
    size: Size,
}

/// Lives it once, under whatever order of steps the scheduler of the check draws.
pub(crate) fn play(mistake: Mistake, size: Size) {
    let view = View {
        active: Arc::new(Memtable::new(Seq(0))),
        frozen: Vec::new(),
        segments: Vec::new(),
        sealed: Seq(0),
    };
    let disk = SimDisk::new(1);
    disk.create_dir("wal").expect("a good disk");
    disk.sync_dir("").expect("a good disk");
    let publication = Publication::new(view, Cursor::default());
    let store = Arc::new(Store { disk, publication, given: Mutex::default(), mistake, size });
    let (requests, queue) = sync_channel(2);
    let (jobs, job_queue) = channel();
    let writer = spawn(&store, move |store| write(store, &queue, &jobs));
    let sealer = spawn(&store, move |store| seal(store, &job_queue));
    let callers: Vec<_> = [[(0, true), (1, false)], [(2, true), (3, true)]]
        .into_iter()
        .map(|bodies| {
            let requests = requests.clone();
            spawn(&store, move |store| call(store, &bodies, &requests))
        })
        .collect();
    drop(requests);
    let reader = spawn(&store, |store| {
        (0..3).for_each(|_| {
            look(store);
        });
    });
    for thread in callers.into_iter().chain([reader, writer, sealer]) {
        thread.join().expect("a panic ends the check");
    }
    assert_eq!(look(&store), BODIES);
}

fn spawn(store: &Arc<Store>, act: impl FnOnce(&Store) + Send + 'static) -> thread::JoinHandle<()> {
    let store = store.clone();
    thread::spawn(move || act(&store))
}

/// One caller: a body after the other, each looked for once it is answered.
fn call(store: &Store, bodies: &[(u64, bool)], requests: &SyncSender<Request>) {
    for &(body, synced) in bodies {
        let (reply, answer) = channel();
        requests.send(Request { body, synced, reply }).expect("the writer serves until all callers are gone");
        let seq = answer.recv().expect("every request is answered");
        if synced {
            assert!(
                survivors(&store.disk).contains(&(seq, body)),
                "body {body} was answered and not durable"
            );
        }
        let (cursor, _) = store.publication.snapshot(|view| view.sealed);
        assert!(cursor.seq >= seq, "body {body} was answered and is not visible");
        look(store);
    }
}

/// Sequences and bodies of the records that are left if the power goes now.
fn survivors(disk: &SimDisk) -> Vec<(Seq, u64)> {
    let left: Arc<dyn Disk> = Arc::new(disk.fork().cut(Cut { survives: Survives::Nothing, seed: 1 }));
    let mut found = Vec::new();
    let mut visit = |record: wattlog_engine::wal::Record<'_>| {
        let body = record.payload.try_into().map(u64::from_le_bytes).expect("as the writer wrote it");
        found.push((record.head.seq, body));
        Ok(())
    };
    replay(&left, STORE, ReplayFloor::default(), &mut visit).expect("a good disk");
    found
}

/// As `Writer::serve`, `commit`, `publish` and `freeze` do it.
fn write(store: &Store, queue: &Receiver<Request>, jobs: &Sender<(Arc<Memtable>, Seq)>) {
    let disk: Arc<dyn Disk> = Arc::new(store.disk.clone());
    let mut log = LogWriter::create(&disk, STORE, LogId(1), None, Seq(1)).expect("a good disk");
    let mut last = Seq(0);
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(std::iter::from_fn(|| queue.try_recv().ok()));
        let from = last.0 + 1;
        for request in &group {
            last = Seq(last.0 + 1);
            let payload = request.body.to_le_bytes();
            let head = RecordHead {
                kind: RecordKind::Points,
                seq: last,
                durable_seq: log.synced_seq(),
                wall: Timestamp(0),
                manifest_edit: 0,
            };
            log.append(head, &payload, crc32fast::hash(&payload));
            store.given.lock().expect("no panic holds it").insert(request.body, last);
        }
        let must_sync = group.iter().any(|request| request.synced);
        let answer = |group: &[Request]| {
            for (seq, request) in (from..).zip(group) {
                request.reply.send(Seq(seq)).expect("the caller waits");
            }
        };
        if store.mistake == Mistake::SyncBeforeWrite {
            log.sync().expect("a good disk");
        }
        log.write().expect("a good disk");
        if store.mistake == Mistake::AnswerBeforeSync {
            answer(&group);
        }
        if must_sync && store.mistake != Mistake::SyncBeforeWrite {
            // A sync takes its time: others go on meanwhile.
            thread::yield_now();
            log.sync().expect("a good disk");
            thread::yield_now();
        }
        let cursor = Cursor { log_id: LogId(1), seq: last };
        if store.mistake == Mistake::PublishBeforeApply {
            store.publication.publish(cursor);
        }
        let view = store.publication.view();
        for (seq, request) in (from..).zip(&group) {
            view.active.apply(NamespaceId(1), Seq(seq), &rows_of(request.body, store.size));
        }
        store.publication.publish(cursor);
        if store.mistake != Mistake::AnswerBeforeSync {
            answer(&group);
        }
        if view.active.rows() >= store.size.freeze_rows() {
            let fresh = Arc::new(Memtable::new(last));
            store.publication.change(|view| {
                let mut frozen = view.frozen.clone();
                frozen.push(view.active.clone());
                Some(View { active: fresh, frozen, ..view.clone() })
            });
            jobs.send((view.active.clone(), last)).expect("the sealer serves until the writer is gone");
        }
    }
}

/// As `seal::run` and `Shared::publish_segments` do it.
fn seal(store: &Store, jobs: &Receiver<(Arc<Memtable>, Seq)>) {
    while let Ok((memtable, through)) = jobs.recv() {
        let mut rows = Vec::new();
        for series in memtable.series_ids() {
            rows.extend(memtable.read(series, &ALL, FieldSet::All, through).map(|rows| (series, rows)));
        }
        let segment = Arc::new(rows);
        let without = |view: &View| -> Vec<_> {
            view.frozen.iter().filter(|other| !Arc::ptr_eq(other, &memtable)).cloned().collect()
        };
        let through = if store.mistake == Mistake::SealedTooLow { Seq(through.0 - 1) } else { through };
        if store.mistake == Mistake::HandOverInTwoSteps {
            store.publication.change(|view| Some(View { frozen: without(view), ..view.clone() }));
        }
        store.publication.change(|view| {
            let segments = view.segments.iter().cloned().chain([segment]).collect();
            let frozen =
                if store.mistake == Mistake::HandOverTwice { view.frozen.clone() } else { without(view) };
            Some(View { frozen, segments, sealed: through, ..view.clone() })
        });
        store.publication.change(|view| {
            (store.mistake == Mistake::HandOverTwice).then(|| View { frozen: without(view), ..view.clone() })
        });
    }
}

/// Takes a snapshot and checks it; gives the number of bodies in it.
fn look(store: &Store) -> usize {
    let (cursor, view) = store.publication.snapshot(|view| view.sealed);
    let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
    let mut count = |found: &SeriesRows| {
        let [(_, Column { values: Values::Unsigned(bodies), presence: Presence::All })] = &found.columns[..]
        else {
            panic!("rows without their column: {found:?}")
        };
        assert_eq!(found.times.len(), bodies.len(), "a row without its value");
        for (time, body) in found.times.iter().zip(bodies) {
            assert_eq!(time / 1000, *body as i64, "the value of another row");
            *rows.entry(*body).or_default() += 1;
        }
    };
    view.segments.iter().flat_map(|segment| segment.iter()).for_each(|(_, rows)| count(rows));
    for memtable in view.frozen.iter().chain([&view.active]) {
        for series in [SERIES, OTHER_SERIES] {
            memtable.read(series, &ALL, FieldSet::All, cursor.seq).iter().for_each(&mut count);
        }
    }
    let given = store.given.lock().expect("no panic holds it").clone();
    for (body, seq) in given {
        let expected = if seq <= cursor.seq { store.size.rows_of_a_body() } else { 0 };
        let found = rows.remove(&body).unwrap_or_default();
        assert_eq!(found, expected, "rows of body {body} (sequence {}) up to {}", seq.0, cursor.seq.0);
    }
    assert!(rows.is_empty(), "bodies that nobody wrote: {rows:?}");
    usize::try_from(cursor.seq.0).expect("small")
}

/// Rows of one series, the third of which is late, and two of another.
fn rows_of(body: u64, size: Size) -> Vec<SeriesBatch> {
    let batch = |series, times: Vec<i64>| {
        let values = Values::Unsigned(vec![body; times.len()]);
        let columns = vec![(FieldId(1), Column { presence: Presence::All, values })];
        SeriesBatch { series, measurement: MeasurementId(1), times, columns }
    };
    let start = body as i64 * 1000;
    let mut times: Vec<i64> = (start..start + size.rows()).collect();
    if times.len() > 2 {
        times.swap(1, 2);
    }
    vec![batch(SERIES, times), batch(OTHER_SERIES, vec![start, start + 1])]
}

const BODIES: usize = 4;
const SERIES: SeriesId = SeriesId(1);
const OTHER_SERIES: SeriesId = SeriesId(2);
const ALL: std::ops::Range<i64> = i64::MIN..i64::MAX;
const STORE: StoreId = StoreId([7; 16]);
