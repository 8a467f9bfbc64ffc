//! One device, polled for ever: connect, read, decode, hand over, wait.
//!
//! Promise: a point holds only what was read in its own cycle; a block that failed leaves its fields out. Nothing a
//! device does or stops doing ends the loop.
//! The first block goes ahead: silence to it is silence to all, so who the device is never stands in the way of data.
//! Over TCP the connection lasts one cycle (dongles misbehave on kept ones); what is known of the device lasts for
//! the session, which ends when a whole cycle gives nothing.

use crate::config::{BlockName, DeviceConfig, Transport};
use crate::goodwe::decode::{Reading, decode_into};
use crate::goodwe::registers::info_layout;
use crate::goodwe::{Assembler, DeviceInfo, MEASUREMENT, SecondBattery};
use crate::link::{self, Link, Target};
use crate::modbus::ReadError;
use crate::outbox::Outbox;
use crate::poll::{AfterFailure, Backoff, Introduction, Plan, Schedule};
use crate::seed;
use crate::status::{DeviceState, DeviceStatus, StatusHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wattlog_model::{Clock, FieldValue, ManualClock, Point, TagSet, Timestamp};

/// A device and everything the loop remembers of it.
#[derive(Debug)]
pub(crate) struct Device {
    index: usize,
    config: DeviceConfig,
    target: Target,
    tags: TagSet,
    plan: Plan,
    assembler: Assembler,
    backoff: Backoff,
    link: Option<Link>,
    introduction: Introduction,
    /// When the last request was over, answered or not.
    last_request: Option<Instant>,
    /// When the wake packet was sent last.
    last_wake: Option<Instant>,
    /// A read of this cycle failed.
    erred: bool,
    status: StatusHandle,
    outbox: Arc<Outbox>,
    clock: Arc<dyn Clock>,
}

impl Device {
    pub(crate) fn new(
        index: usize,
        config: DeviceConfig,
        seed: u64,
        status: StatusHandle,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let tags = device_tags(&config.id, config.vendor.name(), &config.location);
        Self {
            index,
            target: Target::new(&config),
            tags,
            plan: Plan::new(&config),
            assembler: Assembler::new(config.family, config.fields),
            backoff: Backoff::new(config.backoff_max.0, seed ^ seed::of_text(&config.id)),
            link: None,
            introduction: Introduction::default(),
            last_request: None,
            last_wake: None,
            erred: false,
            config,
            status,
            outbox,
            clock,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        // Dropping the loop at an await closes the socket; a half-read cycle is simply not stored.
        shutdown.run_until_cancelled(self.poll_for_ever()).await;
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    async fn poll_for_ever(&mut self) {
        let schedule = Schedule::new(self.config.interval.0);
        let mut time = self.clock.wall().truncated_to_millis();
        loop {
            let begun = Instant::now();
            self.note(|status| {
                status.cycles += 1;
                status.last_attempt = Some(time);
            });
            match self.cycle().await {
                Ok(readings) => {
                    self.answered(time, begun.elapsed(), readings);
                    let now = self.clock.wall();
                    let due = schedule.next(now, time);
                    tokio::time::sleep(Duration::from_nanos(due.0.abs_diff(now.0))).await;
                    time = Schedule::cycle_time(due, self.clock.wall());
                }
                Err(error) => {
                    let wait = self.failed(&error).await;
                    tokio::time::sleep(wait).await;
                    time = self.clock.wall().truncated_to_millis();
                }
            }
        }
    }

    /// Reads every block once. An error means that the device gave nothing at all.
    async fn cycle(&mut self) -> Result<Vec<Reading>, ReadError> {
        self.erred = false;
        self.wake_if_due().await;
        let mut readings = Vec::new();
        let mut first_error = None;
        let mut answers = 0;
        let first = self.plan.wanted(Instant::now()).into_iter().next();
        if let Some(name) = first {
            match self.read_block(name, &mut readings).await {
                Ok(()) => answers += 1,
                Err(error @ ReadError::Refused(_)) => first_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.introduce_if_due().await;
        for name in self.plan.wanted(Instant::now()).into_iter().filter(|name| Some(*name) != first) {
            // No battery: its block would be all zeros.
            if name == BlockName::Battery && battery_mode(&readings) == Some(0) {
                continue;
            }
            match self.read_block(name, &mut readings).await {
                Ok(()) => answers += 1,
                Err(error) => {
                    tracing::debug!(device = self.config.id, block = name.name(), %error, "block not read");
                    first_error.get_or_insert(error);
                }
            }
        }
        if self.config.transport == Transport::Tcp
            && let Some(link) = self.link.take()
        {
            link.close().await;
        }
        if answers == 0 { Err(first_error.unwrap_or(ReadError::Silence)) } else { Ok(readings) }
    }

    async fn wake_if_due(&mut self) {
        let lately = |at: Instant| self.backoff.failures() == 0 && at.elapsed() < WAKE_EVERY;
        if !self.config.wake || self.last_wake.is_some_and(lately) {
            return;
        }
        self.last_wake = Some(Instant::now());
        if let Err(error) = link::wake(&self.target).await {
            tracing::debug!(device = self.config.id, %error, "wake packet not sent");
        }
    }

    /// Asks who the device is, if that is not known yet. Until it is, the plan counts what it may have as there.
    async fn introduce_if_due(&mut self) {
        if !self.introduction.is_due() {
            return;
        }
        let layout = info_layout(self.config.family);
        let info = match self.read(layout.start, layout.count).await {
            Ok(words) => DeviceInfo::decode(self.config.family, &words),
            // It lives, it only does not say who it is.
            Err(ReadError::Refused(refusal)) if refusal.is_final() => {
                self.introduction.settle();
                return;
            }
            Err(_) => DeviceInfo::default(),
        };
        if info == DeviceInfo::default() {
            // Lost, busy, or all ones as at night.
            self.introduction.missed();
            return;
        }
        self.introduction.settle();
        self.plan.start_session(self.config.family, &info);
        self.assembler.set_rated_power(info.rated_power_w);
        tracing::info!(
            device = self.config.id,
            model = info.model.as_deref(),
            rated_power_w = info.rated_power_w,
            "device says who it is"
        );
        self.note(|status| status.info = info);
    }

    async fn read_block(&mut self, name: BlockName, readings: &mut Vec<Reading>) -> Result<(), ReadError> {
        loop {
            let Some((block, count)) = self.plan.request(name) else { return Ok(()) };
            let error = match self.read(block.start, count).await {
                Ok(words) => {
                    decode_into(block, &words, readings);
                    self.plan.answered(name, Instant::now());
                    self.note_refused_blocks();
                    return Ok(());
                }
                Err(error) => error,
            };
            match self.plan.failed(name, &error, Instant::now()) {
                AfterFailure::TryShorter => {}
                AfterFailure::TryNextCycle => return Err(error),
                AfterFailure::GivenUp => {
                    tracing::info!(
                        device = self.config.id,
                        block = name.name(),
                        "the device has no such block"
                    );
                    self.note_refused_blocks();
                    return Err(error);
                }
            }
        }
    }

    fn note_refused_blocks(&self) {
        let refused = self.plan.refused();
        self.note(|status| status.refused_blocks = refused);
    }

    /// One request, tried again after silence or damage, and after a rest where the device only needs time.
    async fn read(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        let mut rest = self.config.pause.0;
        let mut tries_left = self.config.retries;
        loop {
            let error = match self.read_once(start, count, rest).await {
                Ok(words) => return Ok(words),
                Err(error) => error,
            };
            self.erred = true;
            self.note(|status| {
                status.errors.count(&error);
                status.last_error = Some(error.to_string());
            });
            match &error {
                ReadError::Refused(refusal) if refusal.is_momentary() => {
                    rest = (2 * rest).clamp(BUSY_REST, BUSY_REST_LONGEST).max(self.config.pause.0);
                }
                // Any other refusal is an answer. A host that is not there is left to the back-off.
                ReadError::Refused(_) | ReadError::Connect(_) => return Err(error),
                ReadError::Silence | ReadError::Lost(_) | ReadError::Malformed(_) => {}
            }
            if tries_left == 0 {
                return Err(error);
            }
            tries_left -= 1;
        }
    }

    /// One request, not before the last one is over for as long as `rest`.
    async fn read_once(&mut self, start: u16, count: u16, rest: Duration) -> Result<Vec<u16>, ReadError> {
        if let Some(last) = self.last_request {
            tokio::time::sleep_until(last + rest).await;
        }
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(self.config.transport, &self.target).await?,
        };
        let answer = link.read(start, count).await;
        self.last_request = Some(Instant::now());
        // After anything but an answer a late one may come: over TCP it would be taken for the next.
        if matches!(answer, Ok(_) | Err(ReadError::Refused(_))) {
            self.link = Some(link);
        }
        answer
    }

    fn answered(&mut self, time: Timestamp, took: Duration, mut readings: Vec<Reading>) {
        self.backoff.reset();
        self.assembler.set_second_battery(self.plan.second_battery());
        let fields = self.assembler.fields(&mut readings, time);
        let left_out = self.assembler.left_out();
        let (has_data, erred) = (!fields.is_empty(), self.erred);
        if has_data {
            self.outbox.push(Point {
                measurement: MEASUREMENT.to_owned(),
                tags: self.tags.clone(),
                time: Some(time),
                fields,
            });
        }
        self.note(|status| {
            status.state = DeviceState::Online;
            status.consecutive_failures = 0;
            status.answered_cycles += 1;
            if !erred {
                status.last_error = None;
            }
            status.last_success = Some(time);
            status.cycle_ms = u64::try_from(took.as_millis()).ok();
            status.left_out = left_out;
            if has_data {
                status.last_point = Some(time);
                status.points += 1;
            }
        });
    }

    /// Ends the session and tells how long to wait.
    async fn failed(&mut self, error: &ReadError) -> Duration {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        self.introduction = Introduction::default();
        self.plan.start_session(self.config.family, &DeviceInfo::default());
        let state = match error {
            ReadError::Refused(_) => DeviceState::Refusing,
            _ => DeviceState::Silent,
        };
        if self.backoff.failures() == 0 {
            tracing::warn!(device = self.config.id, %error, "device gives nothing, tried again for ever");
        }
        self.note(|status| {
            status.state = state;
            status.failed_cycles += 1;
            status.consecutive_failures += 1;
            status.refused_blocks.clear();
        });
        self.backoff.after_failure()
    }

    fn note(&self, change: impl FnOnce(&mut DeviceStatus)) {
        self.status.device(self.index, change);
    }
}

/// The wake packet goes out so often to a device that answers: dongles fall asleep after some hours.
const WAKE_EVERY: Duration = Duration::from_mins(10);
/// Rest before a busy device is asked again, at first and at most; it doubles.
const BUSY_REST: Duration = Duration::from_millis(200);
const BUSY_REST_LONGEST: Duration = Duration::from_secs(2);

/// What a device says when it is asked once.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Who it is.
    pub info: DeviceInfo,
    /// Every register it told, parts of other fields included, with no check of plausibility.
    pub readings: Vec<Reading>,
    /// Blocks it refused.
    pub refused: Vec<BlockName>,
    /// Whether a second battery may be a part of its balance.
    pub second_battery: SecondBattery,
}

/// Asks a device once, with the retries of its configuration, and stores nothing.
///
/// # Errors
/// [`ReadError`] if it gives nothing at all.
pub async fn probe(config: &DeviceConfig) -> Result<Probe, ReadError> {
    let status = StatusHandle::new(std::slice::from_ref(config), 1);
    let outbox = Arc::new(Outbox::new(1, status.clone()));
    let mut device =
        Device::new(0, config.clone(), 0, status.clone(), outbox, Arc::new(ManualClock::default()));
    let readings = device.cycle().await;
    if let Some(link) = device.link.take() {
        link.close().await;
    }
    let readings = readings?;
    let info = status.device(0, |status| status.info.clone());
    let (refused, second_battery) = (device.plan.refused(), device.plan.second_battery());
    Ok(Probe { info, readings, refused, second_battery })
}

/// Tags of a device's points.
pub(crate) fn device_tags(id: &str, source: &str, location: &str) -> TagSet {
    TagSet::new([("device_id", id), ("data_source", source), ("location", location)])
        .expect("three different keys, and the configuration's check refuses empty values")
}

fn battery_mode(readings: &[Reading]) -> Option<i64> {
    let mode = readings.iter().find(|reading| reading.register.field == "battery_mode")?;
    if let Some(FieldValue::Integer(mode)) = mode.value { Some(mode) } else { None }
}
