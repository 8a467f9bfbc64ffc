//! The real binary with 256 MiB of memory, written to at full speed and asked for everything by clients that mean no good.
//!
//! It must live, answer `/health` in time, refuse what does not fit and count that, and have every acknowledged point at the
//! end, also after a restart within the same limit.
//!
//! `WATTLOG_MEMORY_SECONDS` (20) is how long, `WATTLOG_SEED` which, `WATTLOG_MEMORY_BY` by which means (`tests/support/confine.rs`),
//! `WATTLOG_MEMORY_CLIENTS` which clients, as `query,bomb` (`tests/support/hostile.rs`): to find out who did it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::confine::Confinement;
use support::hostile::{CLIENTS, Field};
use support::load::{Longest, Resident, Written, compare, counter, write_until};
use support::{Dice, PATIENCE, Server, knob};

const LIMIT_BYTES: u64 = 256 << 20;
const WRITERS: u64 = 2;
/// `/health` must be answered in this time, whatever else goes on.
const HEALTH_WITHIN: Duration = Duration::from_secs(10);
const CONFIG: &str = "collector: { system_metrics: { enabled: false } }\n";

#[test]
fn a_process_with_little_memory_lives_and_loses_nothing() {
    let confinement = match Confinement::new(LIMIT_BYTES) {
        Ok(confinement) => confinement,
        Err(error) => return println!("skipped: {error}"),
    };
    let seconds = knob("WATTLOG_MEMORY_SECONDS", 20);
    let seed = knob("WATTLOG_SEED", 1);
    println!("memory: {seconds} s at {LIMIT_BYTES} bytes by {}, seed {seed}", confinement.name());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = folder.path().join("data");
    let start = || Server::start_within(&data, CONFIG, |command| confinement.launch(command));
    let mut server = start();
    let field = Arc::new(Field::new(&server.address));
    let mut dice = Dice(seed);
    let mut hostile = Vec::new();
    let clients = std::env::var("WATTLOG_MEMORY_CLIENTS").ok();
    let wanted = |name: &str| clients.as_ref().is_none_or(|names| names.split(',').any(|own| own == name));
    for (_, client, count) in CLIENTS.into_iter().filter(|(name, ..)| wanted(name)) {
        for _ in 0..count {
            let (field, dice) = (field.clone(), Dice(dice.roll(u64::MAX)));
            hostile.push(std::thread::spawn(move || field.run(client, dice)));
        }
    }
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (address, over) = (server.address.clone(), over.clone());
            std::thread::spawn(move || write_until(&over, &address, writer, Duration::ZERO))
        })
        .collect();
    let (most, slowest) = watch(&mut server, Duration::from_secs(seconds));
    over.store(true, Ordering::Relaxed);
    field.over.store(true, Ordering::Relaxed);
    let written: Vec<Written> = writers.into_iter().map(|thread| thread.join().unwrap()).collect();
    hostile.into_iter().for_each(|thread| thread.join().unwrap());
    assert_alive(&mut server, "after the run");

    let metrics = metrics_of(&server);
    let refused = field.answers.with_status(&[413, 422, 503]);
    let counted = counter(&metrics, "wattlog_http_limit_reached_total");
    let acknowledged: u64 = written.iter().map(|written| written.acknowledged).sum();
    println!(
        "memory: {acknowledged} bodies acknowledged, {} of them refused at first; answers by client and status:\n{}\
         limits reached: {counted}; most resident: {most:?} KiB; most counted by the group: {:?} bytes; slowest /health: {slowest:?}",
        written.iter().map(|written| written.refused).sum::<u64>(),
        field.answers.table(),
        confinement.most_counted(),
    );
    for line in metrics.lines().filter(|line| line.starts_with("wattlog_http_limit_reached_total")) {
        println!("  {line}");
    }
    assert!(refused > 0 && counted > 0, "nothing was refused: this run proves nothing");
    assert!(written.iter().all(|written| written.acknowledged > 0), "a writer got nowhere: {acknowledged}");
    let bodies: Vec<u64> = written.iter().map(|written| written.acknowledged).collect();
    let compare_all =
        |server: &Server| (0..).zip(&bodies).for_each(|(writer, count)| compare(server, writer, *count));
    compare_all(&server);
    assert!(server.stop().success());
    let server = start();
    compare_all(&server);
    assert!(server.stop().success());
}

/// Looks at the process for `time`: most memory it had, slowest answer of its probes.
fn watch(server: &mut Server, time: Duration) -> (Resident, Duration) {
    let (begun, slowest) = (Instant::now(), Longest::default());
    let mut most = Resident::default();
    while begun.elapsed() < time {
        assert_alive(server, "under load");
        if let Some(resident) = Resident::of(server.pid()) {
            most = most.most(resident);
        }
        let asked = Instant::now();
        match server.try_get("/health") {
            Some((200, _)) => slowest.note(asked.elapsed()),
            other => {
                // The end of a process shows a moment later than that of its sockets.
                std::thread::sleep(Duration::from_millis(500));
                assert_alive(server, "under load");
                panic!("/health answered {other:?}; most resident {most:?} KiB");
            }
        }
        assert!(slowest.get() < HEALTH_WITHIN, "/health took {:?}", slowest.get());
        std::thread::sleep(Duration::from_millis(100));
    }
    (most, slowest.get())
}

fn assert_alive(server: &mut Server, when: &str) {
    if let Some(status) = server.ended() {
        std::thread::sleep(Duration::from_millis(200));
        let log = server.log_so_far();
        let end = &log[log.len().saturating_sub(20)..];
        panic!("the process ended {when}: {status}; the end of its log:\n{}", end.join("\n"));
    }
}

/// Connections that were left may still count for a moment.
fn metrics_of(server: &Server) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match server.try_get("/metrics") {
            Some((200, text)) => return text,
            other => assert!(Instant::now() < deadline, "/metrics answered {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
