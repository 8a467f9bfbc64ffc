//! Points between the devices and the store: bounded, in order, and honest about what was dropped.
//!
//! Invariants
//! 1. Waiting points and those of the call in flight are at most `capacity` together; beyond it the oldest that waits
//!    is dropped and counted.
//! 2. A refused batch goes back to the front, so points are offered in the order they came.
//! 3. A device never waits for the store. Feeds and messages do: each hands over one parcel at a time and hears when it
//!    is stored, so nothing of theirs is dropped, and as many parcels wait as there are of them.
//! 4. A point that was pushed is counted once: as stored, rejected or dropped, or as waiting.

use crate::sink::{Sink, SinkError};
use crate::status::StatusHandle;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wattlog_model::{FieldMeaning, Point};

/// Most points of one call.
const BATCH_POINTS: usize = 500;
/// Wait after a refusal that names no time; doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// The same while the collector stops and little time is left.
const RETRY_AT_THE_END: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    capacity: usize,
    status: StatusHandle,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Point>,
    parcels: VecDeque<Parcel>,
    /// The last call carried a parcel: the next one carries points of devices if there are any.
    parcel_was_last: bool,
    /// Who gave the points of the call in flight.
    in_flight: Vec<Giver>,
    /// Durations of the calls since they were asked for last.
    calls: u32,
    calls_took: Duration,
}

/// Points whose giver waits until they are stored.
#[derive(Debug)]
struct Parcel {
    points: Vec<Point>,
    /// Hears how many of the points were rejected.
    stored: oneshot::Sender<u64>,
}

/// What one call to the store carries.
enum Load {
    Batch(Vec<Point>),
    Parcel(Parcel),
}

impl Load {
    fn points(&self) -> &[Point] {
        match self {
            Self::Batch(points) | Self::Parcel(Parcel { points, .. }) => points,
        }
    }
}

/// Place of a device in the status; none for the program's own metrics.
type Giver = Option<usize>;

impl Outbox {
    pub(crate) fn new(capacity: usize, status: StatusHandle) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), capacity, status }
    }

    /// Adds a point; drops the oldest waiting one if there is no room.
    pub(crate) fn push(&self, point: Point) {
        let mut queue = self.queue.lock();
        queue.waiting.push_back(point);
        self.trim(&mut queue);
        drop(queue);
        self.filled.notify_one();
    }

    /// Hands points over and answers when they are stored: how many were rejected for good. None if the collector ends
    /// before. A caller that stops waiting takes them back, unless they are on their way.
    pub(crate) fn hand_over(&self, points: Vec<Point>) -> impl Future<Output = Option<u64>> + Send + 'static {
        let (stored, hears) = oneshot::channel();
        self.queue.lock().parcels.push_back(Parcel { points, stored });
        self.filled.notify_one();
        async move { hears.await.ok() }
    }

    /// Mean duration of the calls to the store since this was asked last.
    pub(crate) fn take_response_time(&self) -> Option<Duration> {
        let mut queue = self.queue.lock();
        let (calls, took) = (std::mem::take(&mut queue.calls), std::mem::take(&mut queue.calls_took));
        (calls > 0).then(|| took / calls)
    }

    /// Drops everything that is left, the call in flight included (whether it succeeds, nobody will hear), and tells how
    /// many points that were.
    pub(crate) fn abandon(&self) -> u64 {
        let mut queue = self.queue.lock();
        let mut lost = std::mem::take(&mut queue.in_flight);
        lost.extend(queue.waiting.drain(..).map(|point| self.status.giver_of(&point)));
        self.count_dropped(&lost);
        self.count_waiting(&queue);
        lost.len() as u64
    }

    fn trim(&self, queue: &mut Queue) {
        let mut dropped = Vec::new();
        while queue.waiting.len() + queue.in_flight.len() > self.capacity
            && let Some(oldest) = queue.waiting.pop_front()
        {
            dropped.push(self.status.giver_of(&oldest));
        }
        self.count_dropped(&dropped);
        self.count_waiting(queue);
    }

    fn count_dropped(&self, givers: &[Giver]) {
        self.status.buffer(|buffer| buffer.dropped += givers.len() as u64);
        for device in givers.iter().flatten() {
            self.status.device(*device, |device| device.dropped += 1);
        }
    }

    fn count_waiting(&self, queue: &Queue) {
        self.status.buffer(|buffer| buffer.waiting = queue.waiting.len() + queue.in_flight.len());
    }

    /// Counts a load that the store has decided on; `rejected` are places in it.
    fn count_decided(&self, load: &Load, rejected: &[usize]) {
        let points = load.points();
        let rejected: Vec<&Point> = rejected.iter().filter_map(|place| points.get(*place)).collect();
        self.status.buffer(|buffer| {
            buffer.rejected += rejected.len() as u64;
            buffer.stored += (points.len() - rejected.len()) as u64;
        });
        if matches!(load, Load::Parcel(_)) {
            return;
        }
        for device in rejected.into_iter().filter_map(|point| self.status.giver_of(point)) {
            self.status.device(device, |device| device.rejected += 1);
        }
    }

    /// What the next call carries: points of devices and parcels in turn.
    fn take_load(&self) -> Option<Load> {
        let mut queue = self.queue.lock();
        queue.parcels.retain(|parcel| !parcel.stored.is_closed());
        let is_turn = queue.waiting.is_empty() || !queue.parcel_was_last;
        let parcel = if is_turn { queue.parcels.pop_front() } else { None };
        queue.parcel_was_last = parcel.is_some();
        drop(queue);
        match parcel {
            Some(parcel) => Some(Load::Parcel(parcel)),
            None => Some(self.take()).filter(|batch| !batch.is_empty()).map(Load::Batch),
        }
    }

    fn take(&self) -> Vec<Point> {
        let mut queue = self.queue.lock();
        let count = queue.waiting.len().min(BATCH_POINTS);
        let batch: Vec<Point> = queue.waiting.drain(..count).collect();
        let givers = batch.iter().map(|point| self.status.giver_of(point)).collect();
        // What is in flight still belongs to a delivery that ended in the middle of its call.
        self.count_dropped(&std::mem::replace(&mut queue.in_flight, givers));
        batch
    }

    fn done(&self, took: Duration, returned: Vec<Point>) {
        let mut queue = self.queue.lock();
        queue.calls += 1;
        queue.calls_took += took;
        queue.in_flight.clear();
        for point in returned.into_iter().rev() {
            queue.waiting.push_front(point);
        }
        self.trim(&mut queue);
    }

    /// Takes the outcome of a call; a load that was refused goes back to the front.
    fn settle(&self, took: Duration, load: Load, outcome: Outcome) {
        match (load, outcome) {
            (Load::Batch(points), Outcome::Refused) => self.done(took, points),
            (Load::Batch(_), Outcome::Decided { .. }) => self.done(took, Vec::new()),
            (Load::Parcel(parcel), outcome) => {
                self.done(took, Vec::new());
                match outcome {
                    Outcome::Refused => self.queue.lock().parcels.push_front(parcel),
                    // Whoever does not wait any more is told by the store itself when it asks again.
                    Outcome::Decided { rejected } => drop(parcel.stored.send(rejected)),
                }
            }
        }
    }

    /// Carries points to the sink, until it is `closed` and nothing is left. How long the store may take for the last
    /// ones is the caller's to decide.
    pub(crate) async fn deliver(
        &self,
        sink: Arc<dyn Sink>,
        mut meanings: Meanings,
        closed: CancellationToken,
    ) {
        let mut retry = RETRY_FIRST;
        loop {
            let Some(load) = self.take_load() else {
                tokio::select! {
                    () = self.filled.notified() => continue,
                    // Devices have stopped before: nothing is added behind this look.
                    () = closed.cancelled() => if self.queue.lock().waiting.is_empty() { return } else { continue },
                }
            };
            let asked = Instant::now();
            let outcome = sink.store(load.points().to_vec()).await;
            let took = asked.elapsed();
            let wait = match outcome {
                Ok(()) => {
                    // Whoever waits for stored points finds their units too.
                    meanings.tell(load.points(), &*sink).await;
                    self.count_decided(&load, &[]);
                    self.settle(took, load, Outcome::Decided { rejected: 0 });
                    None
                }
                Err(SinkError::Rejected { points, reason }) => {
                    self.count_decided(&load, &points);
                    self.settle(took, load, Outcome::Decided { rejected: points.len() as u64 });
                    tracing::warn!(points = points.len(), reason, "the store rejected points for good");
                    None
                }
                Err(SinkError::Refused { retry_after, reason }) => {
                    self.status.buffer(|buffer| buffer.refusals += 1);
                    if retry == RETRY_FIRST {
                        let points = load.points().len();
                        tracing::warn!(
                            points,
                            reason,
                            "the store takes no points for now, they wait in memory"
                        );
                    }
                    self.settle(took, load, Outcome::Refused);
                    Some(retry_after.unwrap_or(retry))
                }
            };
            let Some(wait) = wait else {
                retry = RETRY_FIRST;
                continue;
            };
            retry = (2 * retry).min(RETRY_LONGEST);
            if closed.is_cancelled() {
                tokio::time::sleep(wait.min(RETRY_AT_THE_END)).await;
            } else {
                closed.run_until_cancelled(tokio::time::sleep(wait.min(RETRY_LONGEST))).await;
            }
        }
    }
}

/// What a call to the store came to.
enum Outcome {
    Refused,
    Decided { rejected: u64 },
}

/// Units and kinds, told to the sink once per field, after the field was first stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meanings {
    /// What is not told yet, by measurement and field.
    known: HashMap<(Arc<str>, String), FieldMeaning>,
}

impl Meanings {
    pub(crate) fn add(&mut self, measurement: &str, meanings: Vec<FieldMeaning>) {
        let measurement: Arc<str> = measurement.into();
        let keyed = |meaning: FieldMeaning| ((Arc::clone(&measurement), meaning.field.clone()), meaning);
        self.known.extend(meanings.into_iter().map(keyed));
    }

    async fn tell(&mut self, batch: &[Point], sink: &dyn Sink) {
        let mut news: HashMap<Arc<str>, Vec<FieldMeaning>> = HashMap::new();
        for ((measurement, field), meaning) in &self.known {
            let stored = |point: &Point| {
                *point.measurement == **measurement && point.fields.iter().any(|(name, _)| name == field)
            };
            if batch.iter().any(stored) {
                news.entry(Arc::clone(measurement)).or_default().push(meaning.clone());
            }
        }
        for (measurement, meanings) in news {
            let fields: Vec<String> = meanings.iter().map(|meaning| meaning.field.clone()).collect();
            match sink.describe(&measurement, meanings).await {
                Ok(()) => {
                    for field in fields {
                        self.known.remove(&(Arc::clone(&measurement), field));
                    }
                }
                Err(error) => tracing::debug!(%measurement, %error, "units are told again later"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceConfig;
    use crate::sink::BoxFuture;
    use wattlog_model::{FieldKind, FieldValue, TagSet, Timestamp};

    fn outbox(capacity: usize) -> (Outbox, StatusHandle) {
        let status = StatusHandle::new(&[], capacity);
        (Outbox::new(capacity, status.clone()), status)
    }

    fn point(time: i64) -> Point {
        Point {
            measurement: "m".into(),
            tags: TagSet::default(),
            time: Some(Timestamp(time)),
            fields: vec![("f".into(), FieldValue::Integer(time))],
        }
    }

    fn times(points: &[Point]) -> Vec<i64> {
        points.iter().map(|point| point.time.unwrap().0).collect()
    }

    #[test]
    fn a_refused_batch_goes_back_to_the_front() {
        let (outbox, status) = outbox(10);
        (1..=3).for_each(|time| outbox.push(point(time)));
        let batch = outbox.take();
        (4..=5).for_each(|time| outbox.push(point(time)));
        assert_eq!((times(&batch), status.snapshot().buffer.waiting), (vec![1, 2, 3], 5));
        outbox.done(Duration::from_millis(2), batch);
        assert_eq!(times(&outbox.take()), [1, 2, 3, 4, 5]);
        outbox.done(Duration::from_millis(4), Vec::new());
        assert_eq!((status.snapshot().buffer.waiting, status.snapshot().buffer.dropped), (0, 0));
        assert_eq!(outbox.take_response_time(), Some(Duration::from_millis(3)));
        assert_eq!(outbox.take_response_time(), None);
    }

    #[test]
    fn beyond_the_capacity_the_oldest_that_waits_is_dropped() {
        let (outbox, status) = outbox(3);
        (1..=2).for_each(|time| outbox.push(point(time)));
        let batch = outbox.take();
        // Two are on their way to the store: they count, but cannot be dropped any more.
        (3..=5).for_each(|time| outbox.push(point(time)));
        assert_eq!((status.snapshot().buffer.dropped, status.snapshot().buffer.waiting), (2, 3));
        outbox.done(Duration::ZERO, batch);
        assert_eq!(times(&outbox.take()), [1, 2, 5]);
    }

    /// Notes how many points counted as stored when it was told units.
    struct Told(StatusHandle, Mutex<Vec<u64>>);

    impl Sink for Told {
        fn store(&self, _: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>> {
            Box::pin(async { Ok(()) })
        }

        fn describe<'a>(&'a self, _: &'a str, _: Vec<FieldMeaning>) -> BoxFuture<'a, Result<(), SinkError>> {
            self.1.lock().push(self.0.snapshot().buffer.stored);
            Box::pin(async { Ok(()) })
        }
    }

    #[tokio::test]
    async fn units_are_told_before_the_first_points_count_as_stored() {
        // The demo asked for the first stored points and showed them without units, now and then.
        let (outbox, status) = outbox(10);
        let mut meanings = Meanings::default();
        meanings.add("m", vec![FieldMeaning { field: "f".into(), unit: None, kind: FieldKind::Linear }]);
        (1..=2).for_each(|time| outbox.push(point(time)));
        let (sink, closed) = (Arc::new(Told(status.clone(), Mutex::default())), CancellationToken::new());
        closed.cancel();
        outbox.deliver(Arc::clone(&sink) as Arc<dyn Sink>, meanings, closed).await;
        assert_eq!((sink.1.lock().as_slice(), status.snapshot().buffer.stored), (&[0_u64][..], 2));
    }

    #[test]
    fn what_is_left_at_the_end_is_counted_for_the_device_that_gave_it() {
        let devices = [DeviceConfig::new("roof", "h"), DeviceConfig::new("barn", "h")];
        let status = StatusHandle::new(&devices, 10);
        let outbox = Outbox::new(10, status.clone());
        let of =
            |id: &str, time: i64| Point { tags: TagSet::new([("device_id", id)]).unwrap(), ..point(time) };
        outbox.push(of("barn", 1));
        let batch = outbox.take();
        outbox.count_decided(&Load::Batch(batch), &[0]);
        outbox.done(Duration::ZERO, Vec::new());
        outbox.push(of("roof", 2));
        let _in_flight = outbox.take();
        outbox.push(of("roof", 3));
        outbox.push(point(4));
        assert_eq!(outbox.abandon(), 3);
        let now = status.snapshot();
        assert_eq!((now.buffer.dropped, now.buffer.rejected, now.buffer.waiting), (3, 1, 0));
        let counts: Vec<(u64, u64)> = now.devices.iter().map(|d| (d.dropped, d.rejected)).collect();
        assert_eq!(counts, [(2, 0), (0, 1)]);
        assert_eq!(outbox.abandon(), 0);
    }

    #[test]
    fn a_call_takes_a_batch_and_leaves_the_rest() {
        let (outbox, _) = outbox(2_000);
        (0..1_200).for_each(|time| outbox.push(point(time)));
        let mut seen = Vec::new();
        for expected in [BATCH_POINTS, BATCH_POINTS, 200, 0] {
            let batch = outbox.take();
            assert_eq!(batch.len(), expected);
            seen.extend(times(&batch));
            outbox.done(Duration::ZERO, Vec::new());
        }
        assert!(seen.is_sorted() && seen.len() == 1_200);
    }
}
