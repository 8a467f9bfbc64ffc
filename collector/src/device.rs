//! One device, polled for ever: connect, read, decode, hand over, wait.
//!
//! Promise: a point holds only what was read in its own cycle; a block that failed leaves its fields out. Nothing a
//! device does or stops doing ends the loop.
//! Over TCP the connection lasts one cycle (dongles misbehave on kept ones); what is known of the device lasts for
//! the session, which ends when a whole cycle fails.

use crate::config::{BlockName, DeviceConfig, Transport};
use crate::goodwe::decode::{Reading, decode_into};
use crate::goodwe::registers::info_layout;
use crate::goodwe::{Assembler, DeviceInfo, MEASUREMENT};
use crate::link::{Link, Target};
use crate::modbus::{ReadError, Refusal};
use crate::outbox::Outbox;
use crate::poll::{AfterRefusal, Backoff, Plan, Schedule};
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
    /// True once the device told who it is, or refused to, in this session.
    introduced: bool,
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
            introduced: false,
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
            self.note(|status| status.cycles += 1);
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

    /// Reads every block once. An error means that the device did not answer at all.
    async fn cycle(&mut self) -> Result<Vec<Reading>, ReadError> {
        if !self.introduced {
            self.introduce().await?;
        }
        let mut readings = Vec::new();
        let mut answers = 0;
        for name in self.plan.wanted() {
            // No battery: its block would be all zeros.
            if name == BlockName::Battery && battery_mode(&readings) == Some(0) {
                continue;
            }
            match self.read_block(name, &mut readings).await {
                Ok(()) => answers += 1,
                // The running block comes first: silence to it is silence to all.
                Err(error) if name == BlockName::Running && !matches!(error, ReadError::Refused(_)) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(device = self.config.id, block = name.name(), %error, "block not read");
                    if matches!(error, ReadError::Refused(_)) {
                        answers += 1;
                    }
                }
            }
        }
        if self.config.transport == Transport::Tcp
            && let Some(link) = self.link.take()
        {
            link.close().await;
        }
        if answers == 0 { Err(ReadError::Silence) } else { Ok(readings) }
    }

    /// Asks who the device is, once per session.
    async fn introduce(&mut self) -> Result<(), ReadError> {
        let layout = info_layout(self.config.family);
        let info = match self.read(layout.start, layout.count).await {
            Ok(words) => DeviceInfo::decode(self.config.family, &words),
            // It lives, it only does not say who it is.
            Err(ReadError::Refused(_) | ReadError::Malformed(_)) => DeviceInfo::default(),
            Err(error) => return Err(error),
        };
        self.plan.start_session(self.config.family, &info);
        self.assembler.set_rated_power(info.rated_power_w);
        tracing::info!(
            device = self.config.id,
            model = info.model.as_deref(),
            rated_power_w = info.rated_power_w,
            "device answers"
        );
        self.note(|status| status.info = info);
        self.introduced = true;
        Ok(())
    }

    async fn read_block(&mut self, name: BlockName, readings: &mut Vec<Reading>) -> Result<(), ReadError> {
        loop {
            let Some((block, count)) = self.plan.request(name) else { return Ok(()) };
            if !self.config.pause.0.is_zero() {
                tokio::time::sleep(self.config.pause.0).await;
            }
            let refusal = match self.read(block.start, count).await {
                Ok(words) => {
                    decode_into(block, &words, readings);
                    return Ok(());
                }
                Err(ReadError::Refused(refusal)) => refusal,
                Err(error) => return Err(error),
            };
            if !matches!(refusal, Refusal::ILLEGAL_DATA_ADDRESS | Refusal::ILLEGAL_FUNCTION) {
                return Err(ReadError::Refused(refusal));
            }
            match self.plan.refuse(name) {
                AfterRefusal::TryShorter => {}
                AfterRefusal::TryNextCycle => return Err(ReadError::Refused(refusal)),
                AfterRefusal::GivenUp => {
                    tracing::info!(
                        device = self.config.id,
                        block = name.name(),
                        "the device has no such block"
                    );
                    let refused = self.plan.refused();
                    self.note(|status| status.refused_blocks = refused);
                    return Err(ReadError::Refused(refusal));
                }
            }
        }
    }

    /// One request, tried again after silence or damage, over a new connection where the old one may be spoiled.
    async fn read(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        let mut tries_left = self.config.retries;
        loop {
            let error = match self.read_once(start, count).await {
                Ok(words) => return Ok(words),
                Err(error) => error,
            };
            self.note(|status| {
                status.errors.count(&error);
                status.last_error = Some(error.to_string());
            });
            // "Busy" passes; any other refusal is an answer. A host that is not there is left to the back-off.
            let again = match &error {
                ReadError::Refused(refusal) => *refusal == Refusal::BUSY,
                ReadError::Connect(_) => false,
                _ => true,
            };
            if !again || tries_left == 0 {
                return Err(error);
            }
            tries_left -= 1;
        }
    }

    async fn read_once(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(self.config.transport, &self.target, self.backoff.failures() > 0).await?,
        };
        let answer = link.read(start, count).await;
        // After anything but an answer a late one may come: over TCP it would be taken for the next.
        match (&answer, &link) {
            (Ok(_) | Err(ReadError::Refused(_)), _) | (_, Link::Udp(_)) => self.link = Some(link),
            _ => drop(link),
        }
        answer
    }

    fn answered(&mut self, time: Timestamp, took: Duration, mut readings: Vec<Reading>) {
        self.backoff.reset();
        let fields = self.assembler.fields(&mut readings, time);
        let left_out = self.assembler.left_out();
        let has_data = !fields.is_empty();
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
        self.introduced = false;
        if self.backoff.failures() == 0 {
            tracing::warn!(device = self.config.id, %error, "device does not answer, tried again for ever");
        }
        self.note(|status| {
            status.state = DeviceState::Silent;
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

/// What a device says when it is asked once.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Who it is.
    pub info: DeviceInfo,
    /// Every register it told, parts of other fields included, with no check of plausibility.
    pub readings: Vec<Reading>,
    /// Blocks it refused.
    pub refused: Vec<BlockName>,
}

/// Asks a device once, with the retries of its configuration, and stores nothing.
///
/// # Errors
/// [`ReadError`] if it does not answer at all.
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
    Ok(Probe { info, readings, refused: device.plan.refused() })
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
