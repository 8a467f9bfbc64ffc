//! One import from its first file to its end.

use super::done::{self, Done};
use super::mapping::Mapping;
use super::points::{self, Place};
use super::progress::Progress;
use super::report::{ImportReport, Tally};
use super::settings::Settings;
use super::tariff::LedgerTariff;
use super::writer::{self, Batch};
use super::{records, validate};
use crate::failure::{Failure, Kind, chain};
use crate::files;
use jiff::tz::TimeZone;
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wattlog_ledger::schema::{Device, DeviceKind};
use wattlog_ledger::{Actor, LedgerError, Value};
use wattlog_migrate::{
    Context, Error, FileKind, FileReport, FoundFile, G12, Limits, Options, Out, OutError, Place as InFile,
    Position, Record, Refusal, Tariff, Tree, find_device, read_file,
};
use wattlog_model::{FieldKind, FieldMeaning, Timestamp};

pub(crate) use super::writer::Stores;

/// Who changes records of the ledger.
pub(super) const ACTOR: &str = "import:optimiser";
/// `device_id` where no file names a device and nobody said one.
const UNKNOWN_DEVICE: &str = "inverter";
/// Files are marked done at least this often, in time and in number.
const MARK_EVERY: Duration = Duration::from_secs(1);
const MOST_MARKS: usize = 256;

/// Everything is stored anew then, but what an earlier version stored at places that this one does not use stays there.
const OTHER_RULES: &str = "an earlier version imported this tree by other rules; what this one would not store is still there: \
                           `wattlog import optimiser --remove`, then import again, leaves only what this version stores";

/// What to do with what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Store it.
    Store,
    /// Store it, then compare.
    StoreAndValidate,
}

/// What must be known of the home.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(super) place: Place,
    pub(super) zone: TimeZone,
    tariff: Arc<dyn Tariff>,
    tariff_name: String,
}

impl Home {
    /// `serial` is that of the files, if they have one; `device` what it is called here, if that was said.
    pub(crate) fn new(
        serial: Option<String>,
        device: Option<&str>,
        location: &str,
        settings: Option<&Settings>,
    ) -> Result<Self, Failure> {
        let device = device_name(serial.as_deref(), device);
        let usual = Options::new(&device);
        let zone = match settings.and_then(|settings| settings.zone.as_deref()) {
            None => usual.zone,
            Some(name) => TimeZone::get(name)
                .map_err(|error| Failure::new(Kind::Data, format!("system.timezone {name:?}: {error}")))?,
        };
        let known = settings.and_then(|settings| settings.tariff.as_ref().ok());
        let (tariff, tariff_name): (Arc<dyn Tariff>, _) = match known {
            Some(tariff) => (Arc::new(tariff.in_zone(zone.clone())), tariff.name().to_owned()),
            None => (Arc::new(G12::default()), "g12, which is assumed".to_owned()),
        };
        let serial = serial.unwrap_or_else(|| device.clone());
        let place = Place { serial, device, location: location.to_owned() };
        Ok(Self { place, zone, tariff, tariff_name })
    }

    /// Options of the reader.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::new(&self.place.serial);
        options.zone = self.zone.clone();
        options.tariff = self.tariff.clone();
        options
    }

    pub(super) fn mapping(&self) -> Mapping {
        Mapping::new(self.place.clone(), self.zone.clone())
    }
}

/// The serial number of the inverter, if a file names one.
pub(crate) fn serial_of(tree: &Tree) -> Option<String> {
    find_device(tree, &Limits::default())
}

/// `device_id` of the inverter: what was said, what the files say, or a word for "the only one".
pub(crate) fn device_name(serial: Option<&str>, said: Option<&str>) -> String {
    said.or(serial).unwrap_or(UNKNOWN_DEVICE).to_owned()
}

/// What to import.
pub(crate) struct Plan {
    pub(crate) folder: String,
    pub(crate) tree: Tree,
    pub(crate) home: Home,
    pub(crate) settings: Option<Settings>,
    /// Which files are stored.
    pub(crate) files: Files,
}

/// Which files are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// Those that are not done.
    NewOnes,
    /// All of them, done or not.
    All,
}

impl Plan {
    /// Finds the files.
    ///
    /// # Errors
    /// A folder or a store that cannot be read.
    pub(crate) fn scan(folder: &Path, store: Option<&Path>) -> Result<(String, Tree), Failure> {
        if !folder.is_dir() {
            return Err(Failure::new(Kind::Usage, format!("{}: no such folder", folder.display())));
        }
        let tree = Tree::scan(folder, store, &Limits::default()).map_err(|error| read_failed(&error))?;
        let mut source = files::canonical(folder).display().to_string();
        if let Some(store) = store {
            source = format!("{source} and {}", files::canonical(store).display());
        }
        Ok((source, tree))
    }

    /// The mark of a file: what it is now, and what would be made of it. None if it is gone, which the reader will tell.
    fn mark(&self, file: &FoundFile, stores: &Stores) -> Option<u64> {
        let stamp = files::stamp(&file.path).ok()?;
        let mut log = file.path.as_os_str().to_owned();
        log.push("-wal");
        // Only a store has one, and not always.
        let log = files::stamp(Path::new(&log)).unwrap_or((0, 0));
        let Place { serial, device, location } = &self.home.place;
        let zone = self.home.zone.iana_name().unwrap_or_default();
        let tariff = format!("{:?}", self.home.tariff);
        let numbers = format!("{} {stamp:?} {log:?}", done::RULES);
        Some(done::hash(&[
            file.name.as_bytes(),
            numbers.as_bytes(),
            serial.as_bytes(),
            device.as_bytes(),
            location.as_bytes(),
            zone.as_bytes(),
            tariff.as_bytes(),
            stores.database.as_bytes(),
            // A ledger in PostgreSQL outlives the folder of a store.
            &stores.engine.store_id().0,
        ]))
    }
}

/// Reads everything, and stores it if there is where.
///
/// # Errors
/// What keeps files from being read or records from being stored. What was stored by then stays and is not stored twice.
pub(crate) async fn run(plan: &Plan, stores: Option<&Stores>, mode: Mode) -> Result<ImportReport, Failure> {
    let actor = Actor::new(ACTOR);
    let mut done = None;
    if let Some(stores) = stores {
        done = Some(Done::load(&stores.ledger, &plan.folder, stores.clock.wall()).await?);
    }
    let done_before = plan.files == Files::NewOnes && done.as_ref().is_some_and(Done::has_any);
    let mut importer = Importer {
        mapping: plan.home.mapping(),
        stores,
        actor: actor.clone(),
        done,
        batch: Batch::default(),
        marks: Vec::new(),
        marked: Instant::now(),
        tally: Tally::default(),
        file_is_done: false,
        wrote: false,
        written: done_before.then(HashSet::new),
        earliest: None,
        failure: None,
    };
    let mut context = Context::new(plan.home.options());
    let bytes = plan.tree.files.iter().map(|file| file.bytes).sum();
    let mut progress = Progress::new("import", plan.tree.files.len(), bytes);
    let mut files_done_before = 0;
    for file in &plan.tree.files {
        // Looked at before it is read: what is appended meanwhile makes another mark.
        let mark = stores.and_then(|stores| plan.mark(file, stores));
        importer.file_is_done = plan.files == Files::NewOnes
            && mark.is_some_and(|mark| importer.done.as_ref().is_some_and(|done| done.has(mark)));
        if let Err(error) = read_file(file, &mut context, &mut importer).await {
            return Err(importer.failure.take().unwrap_or_else(|| read_failed(&error)));
        }
        if importer.file_is_done {
            files_done_before += 1;
        } else if context.report().files.last().is_some_and(|read| was_read(file, read)) {
            importer.marks.extend(mark.map(|mark| (file.name.clone(), mark)));
        }
        let due = importer.marks.len() >= MOST_MARKS || importer.marked.elapsed() >= MARK_EVERY;
        if due || importer.batch.is_full() {
            importer.flush().await?;
        }
        progress.file(&file.name, file.bytes);
    }
    importer.flush().await?;
    progress.end();

    let Importer { mut done, mut tally, wrote, earliest, .. } = importer;
    let read = context.into_report();
    tally.refused += read.unread + read.kinds.values().map(|counts| counts.refused).sum::<u64>();
    let mut notes = Vec::new();
    if done.as_ref().is_some_and(Done::is_by_other_rules) {
        notes.push(OTHER_RULES.to_owned());
    }
    if let (Some(stores), Some(done)) = (stores, &done)
        && (wrote || !done.is_completed())
    {
        tokio::task::block_in_place(|| describe(stores))?;
        around(plan, stores, &actor, earliest, &mut tally, &mut notes).await?;
    }
    let mut report = ImportReport {
        source: plan.folder.clone(),
        dry_run: stores.is_none(),
        device: plan.home.place.device.clone(),
        time_zone: plan.home.zone.iana_name().unwrap_or("UTC").to_owned(),
        tariff: plan.home.tariff_name.clone(),
        files_done_before,
        read,
        tally,
        skipped: plan.tree.skipped.clone(),
        notes,
        validation: None,
    };
    if let (Some(stores), Some(done)) = (stores, &mut done)
        && !done.is_completed()
    {
        done.complete(report.summary(), stores.clock.wall(), &stores.ledger, &actor).await?;
    }
    if let (Some(stores), Mode::StoreAndValidate) = (stores, mode) {
        report.validation = Some(validate::compare(plan, stores, &actor).await?);
    }
    Ok(report)
}

/// Whether a file was read to its end. One that could not be opened, or a store that could not be read further, may be whole
/// the next time without looking changed.
fn was_read(file: &FoundFile, read: &FileReport) -> bool {
    let found_something = !read.shapes.is_empty() || !read.kinds.is_empty();
    read.unread == 0 || (found_something && file.kind == FileKind::Json)
}

/// Takes records and stores them in batches.
struct Importer<'a> {
    mapping: Mapping,
    /// None: a dry run.
    stores: Option<&'a Stores>,
    actor: Actor,
    done: Option<Done>,
    batch: Batch,
    /// Of files whose last record is in the batch or stored.
    marks: Vec<(Arc<str>, u64)>,
    marked: Instant,
    tally: Tally,
    file_is_done: bool,
    /// Something was written in this run.
    wrote: bool,
    /// Where that went, hashed: a record of a done file that has the same place comes after it. None: no file is done.
    written: Option<HashSet<u64>>,
    earliest: Option<Timestamp>,
    /// Why it took no more; the reader's error only says that it did not.
    failure: Option<Failure>,
}

impl Importer<'_> {
    async fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.marked = Instant::now();
        let (Some(stores), Some(done)) = (self.stores, &mut self.done) else {
            batch.pretend(&mut self.tally);
            return Ok(());
        };
        batch.store(stores, &self.actor, &mut self.tally).await?;
        let unfinished = &self.tally.unfinished;
        let marks = std::mem::take(&mut self.marks).into_iter();
        let done_now: Vec<u64> =
            marks.filter(|(file, _)| !unfinished.contains(file)).map(|(_, mark)| mark).collect();
        if !done_now.is_empty() {
            done.add(&done_now, &stores.ledger, &self.actor).await?;
        }
        Ok(())
    }
}

impl Out for Importer<'_> {
    fn record(&mut self, record: Record) -> Result<(), OutError> {
        let mut mapped = self.mapping.map(&record);
        for reason in std::mem::take(&mut mapped.refused) {
            self.tally.refuse(&record.position, reason);
        }
        self.earliest = match (self.earliest, mapped.ran_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Some(written) = &mut self.written {
            let places = mapped.places();
            let is_later =
                record.supersedes && self.wrote || places.iter().any(|place| written.contains(place));
            if self.file_is_done && !is_later {
                self.tally.already += 1;
                return Ok(());
            }
            written.extend(places);
        }
        self.wrote = true;
        self.batch.push(mapped.points, mapped.entry, &record.position);
        if self.batch.is_full() {
            // The reader's call cannot wait, the thread can: the runtime has others.
            let flushed =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.flush()));
            if let Err(failure) = flushed {
                let told = failure.to_string();
                self.failure = Some(failure);
                return Err(told.into());
            }
        }
        Ok(())
    }

    fn refusal(&mut self, refusal: Refusal) -> Result<(), OutError> {
        self.tally.tell(refusal);
        Ok(())
    }
}

/// Tells units and kinds where nobody did.
fn describe(stores: &Stores) -> Result<(), Failure> {
    for measurement in points::MEASUREMENTS {
        let known = stores.engine.measurement(&stores.database, measurement);
        let known = known.map_err(|error| Failure::from_error(Kind::Io, &error))?;
        let Some(known) = known else { continue };
        let untold = |meaning: &FieldMeaning| {
            known.fields.iter().any(|field| {
                *field.name == meaning.field && field.unit.is_none() && field.kind == FieldKind::Linear
            })
        };
        let missing: Vec<FieldMeaning> = points::meanings(measurement).into_iter().filter(untold).collect();
        if missing.is_empty() {
            continue;
        }
        stores.engine.describe_fields(&stores.database, measurement, &missing).map_err(|error| {
            Failure::new(Kind::Io, format!("tell the units of {measurement}: {}", chain(&error)))
        })?;
    }
    Ok(())
}

/// What belongs to the home and to no file: the device, its tariff, the optimiser's own settings.
async fn around(
    plan: &Plan,
    stores: &Stores,
    actor: &Actor,
    earliest: Option<Timestamp>,
    tally: &mut Tally,
    notes: &mut Vec<String>,
) -> Result<(), Failure> {
    let Place { serial, device, location } = &plan.home.place;
    let position = Arc::new(Position {
        file: Arc::from("--config"),
        record: 0,
        place: InFile::Text { offset: 0, line: 1 },
    });
    // What an earlier run took of the settings stays when a later one is not given them.
    let stored = stores.ledger.find::<Device>(&[Value::Text(Some(device.clone()))]).await;
    let stored = stored.map_err(|error| writer::refused(&error))?;
    let told = plan.settings.as_ref().and_then(|settings| settings.battery_capacity_kwh);
    let entry = Device {
        device_id: device.clone(),
        kind: DeviceKind::Inverter,
        manufacturer: Some("GoodWe".to_owned()),
        model: None,
        serial_number: (serial != UNKNOWN_DEVICE).then(|| serial.clone()),
        location: Some(location.clone()),
        rated_power_w: None,
        battery_capacity_kwh: told.or(stored.and_then(|device| device.record.battery_capacity_kwh)),
        commissioned: None,
        retired: None,
        settings: json!({}),
        note: "from the optimiser's files".to_owned(),
    };
    writer::put(&stores.ledger, vec![(entry, position)], actor, tally).await?;
    let Some(settings) = &plan.settings else { return Ok(()) };
    if settings.keep_revision(&stores.ledger, actor).await.map_err(|error| writer::refused(&error))? {
        notes.push("the optimiser's settings are kept in the ledger as configuration `optimiser`".to_owned());
    }
    match &settings.tariff {
        Err(reason) => notes.push(format!("no tariff was made: {reason}")),
        Ok(tariff) => {
            let from = earliest.unwrap_or_else(|| stores.clock.wall());
            let day = plan.home.zone.to_datetime(instant(from)).date();
            let from = records::midnight(day, &plan.home.zone).unwrap_or(from);
            match tariff.keep(&stores.ledger, from, actor).await {
                Ok(LedgerTariff::Made) => {
                    let from = points::rfc3339(from);
                    notes.push(format!("tariff {} was made, in force from {from} on", tariff.name()));
                }
                Ok(LedgerTariff::There) => {}
                Err(LedgerError::Invalid { invalid, .. }) if invalid.field == "valid_from" => {
                    notes.push(format!(
                        "tariff {} was not made: another one is in force at that time, and stays",
                        tariff.name()
                    ));
                }
                Err(error) => return Err(writer::refused(&error)),
            }
        }
    }
    Ok(())
}

pub(super) fn instant(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// Why the reader ended.
pub(super) fn read_failed(error: &Error) -> Failure {
    let kind = match error {
        Error::StoreInUse { .. } => Kind::Busy,
        Error::Limit { .. } => Kind::Data,
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Kind::Permission,
        _ => Kind::Io,
    };
    Failure::from_error(kind, error)
}
