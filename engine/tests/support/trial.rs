//! One trial: a life, a power cut somewhere in it, several ways the disk may come back, and what must be true of each.

use super::content::{Content, read_everything};
use super::history::{Author, Life, Step, options};
use super::run::{Entry, Run, Told, open};
use super::verdict::judge;
use std::sync::Arc;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{Cut, CutMoment, Rng, SimDisk, Survives, SyncName};
use wattlog_engine::options::Options;
use wattlog_model::{ManualClock, Timestamp};

/// What a disk is made to do wrong, to see whether the trial finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    Skip(SyncName),
    Lie,
}

impl Mutation {
    fn spoil(self, disk: &SimDisk) {
        match self {
            Self::None => {}
            Self::Skip(name) => disk.skip_sync(Some(name)),
            Self::Lie => disk.set_lying(true),
        }
    }
}

/// Cuts made, and how many of them were of the kinds that must not be rare.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) cuts: u64,
    /// With a second cut while the store recovered from the first.
    pub(crate) twice: u64,
    /// Of a store in its first few operations.
    pub(crate) young: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.twice += other.twice;
        self.young += other.young;
    }
}

/// Lives one history and cuts it, all by `seed`.
pub(crate) fn trial(seed: u64, read_mode: ReadMode, mutation: Mutation) -> Result<Tally, String> {
    let mut rng = Rng::new(seed);
    let life = if rng.chance(30) { Life::Young } else { Life::Old };
    let disk = SimDisk::new(rng.next_u64());
    disk.set_piece_bytes(*rng.pick(&[512, 512, 4096]));
    mutation.spoil(&disk);
    if std::env::var_os("WATTLOG_TRACE").is_some() {
        disk.start_trace();
    }
    let mut run = Run::new(disk, options(&mut rng, read_mode));
    let history = Author::new(rng.split()).history(life);
    // Most lives are cut inside; a few end first, and are cut idle.
    let calls = match life {
        Life::Young => 1 + rng.below(120),
        Life::Old => 1 + rng.below(700),
    };
    let moment = if rng.chance(50) { CutMoment::Before } else { CutMoment::After };
    run.disk.cut_at_call(calls, moment);
    run.live(&history);
    if rng.chance(20) && !run.disk.is_off() {
        run.close();
    }
    let ways = ways(&mut rng);
    let mut tally = cut_and_check(&mut run, &ways, &mut rng, mutation)?;
    tally.young = if life == Life::Young { tally.cuts } else { 0 };
    Ok(tally)
}

/// Lives `history` and cuts it at the `nth` call; `None` if it is over before.
pub(crate) fn trial_at(
    history: &[Step],
    options: &Options,
    (nth, moment): (u64, CutMoment),
    mutation: Mutation,
) -> Result<Option<Tally>, String> {
    let disk = SimDisk::new(nth);
    mutation.spoil(&disk);
    let mut run = Run::new(disk, options.clone());
    run.disk.cut_at_call(nth, moment);
    run.live(history);
    run.close();
    if !run.disk.is_off() {
        return Ok(None);
    }
    let mut rng = Rng::new(nth);
    let ways = ways(&mut rng);
    cut_and_check(&mut run, &ways[..3], &mut rng, mutation).map(Some)
}

fn ways(rng: &mut Rng) -> [Cut; 4] {
    [Survives::Some, Survives::Nothing, Survives::Everything, Survives::Some]
        .map(|survives| Cut { survives, seed: rng.next_u64() })
}

fn cut_and_check(run: &mut Run, ways: &[Cut], rng: &mut Rng, mutation: Mutation) -> Result<Tally, String> {
    // All ways start from the moment the power went; only then do the threads of the store end.
    let disks: Vec<SimDisk> = ways.iter().map(|way| run.disk.cut(*way)).collect();
    run.end();
    if let Some(complaint) = run.complaints.first() {
        return Err(format!("an error without a fault: {complaint}{}", traced(run)));
    }
    let mut tally = Tally::default();
    for (way, mut disk) in ways.iter().zip(disks) {
        mutation.spoil(&disk);
        let mut said = format!("cut {way:?}");
        if rng.chance(25) {
            let moment = if rng.chance(50) { CutMoment::Before } else { CutMoment::After };
            let nth = 1 + rng.below(70);
            disk.cut_at_call(nth, moment);
            let opened = open(&disk, &run.options, &run.clock);
            let second = Cut::from_seed(rng.next_u64());
            let was_off = disk.is_off();
            disk = disk.cut(second);
            mutation.spoil(&disk);
            if let (false, Err(error)) = (was_off, &opened) {
                return Err(format!("{said}: refused to open: {error}{}", traced(run)));
            }
            said += &format!(", then {second:?} {moment:?} call {nth} of recovery");
            tally.twice += 1;
        }
        tally.cuts += 1;
        check(run, &disk, rng).map_err(|wrong| format!("{said}: {wrong}{}", traced(run)))?;
    }
    Ok(tally)
}

/// Opens what came back and holds it against what the callers were told; in a quarter of the cases uses it further.
fn check(run: &Run, disk: &SimDisk, rng: &mut Rng) -> Result<(), String> {
    let clock = Arc::new(ManualClock::new(Timestamp(super::history::START_NS)));
    let engine = open(disk, &run.options, &clock).map_err(|error| format!("refused to open: {error}"))?;
    let content = read_whole(&engine)?;
    judge(&run.entries, &content)?;
    let report = engine.recovery_report();
    if !report.damage.is_empty() || report.rebuilt {
        return Err(format!("a power cut was taken for damage: {report:?}"));
    }
    let health = engine.health();
    if !health.writable {
        return Err(format!("read-only after a power cut: {:?}", health.reason));
    }
    drop(engine);
    if rng.chance(25) {
        use_further(run, disk, content, rng)?;
    }
    Ok(())
}

/// The store that came back is a store: what is written now is kept as well, with all that was there.
fn use_further(run: &Run, disk: &SimDisk, mut content: Content, rng: &mut Rng) -> Result<(), String> {
    let mut next = Run::new(disk.clone(), run.options.clone());
    next.cutoffs.clone_from(&run.cutoffs);
    // Whether the last one is there may not be known.
    next.cutoffs.iter_mut().for_each(|known| known.certain = None);
    let mut author = Author::new(rng.split());
    let bodies = [author.body(), author.body()];
    next.live(&[Step::Write(bodies[0].clone()), Step::Write(bodies[1].clone()), Step::Reopen]);
    if let Some(complaint) = next.complaints.first() {
        return Err(format!("after recovery: {complaint}"));
    }
    let is_durable = |entry: &Entry| entry.told == Told::Stored || entry.body.cells.is_empty();
    assert!(next.entries.iter().all(is_durable), "a close makes all durable");
    next.entries.iter().for_each(|entry| entry.body.apply(&mut content));
    let Some(engine) = next.engine() else { return Err("after recovery: no store".into()) };
    if read_whole(engine)? == content {
        Ok(())
    } else {
        Err("what was there after the cut did not stay as it was".into())
    }
}

fn read_whole(engine: &wattlog_engine::Engine) -> Result<Content, String> {
    let (content, partial) = read_everything(engine)?;
    if partial { Err("an answer was partial".into()) } else { Ok(content) }
}

fn traced(run: &Run) -> String {
    let trace = run.disk.trace();
    if trace.is_empty() {
        return String::new();
    }
    let entries: Vec<String> = run.entries.iter().map(|entry| format!("{entry:?}")).collect();
    format!("\n  {}\n  {}", trace.join("\n  "), entries.join("\n  "))
}
