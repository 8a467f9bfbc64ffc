//! `demo`: the whole way in one command, on a machine with nothing but this binary.
//!
//! A simulated inverter on loopback, thirty days of the same plant through the ordinary write path, then the collector over real
//! Modbus and the server. The exit code is 0 only if a live point was stored and answered back over HTTP.
//!
//! Prices and weather come from simulated services by the feeds; sessions, costs, quality and an alert are computed from it all.
//! Reproducible: `--seed` fixes the plant, `--now` the clock's start, `--frozen` the clock.

mod folder;
mod history;
mod money;

use self::money::Services;
use super::print;
use crate::cli::DemoArgs;
use crate::client::{Client, target};
use crate::clock::{DemoClock, SystemClock};
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::serve::{self, Appliance, Front};
use crate::signals::Signals;
use crate::{logging, memory};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::{DeviceConfig, Interval};
use wattlog_collector::goodwe::MEASUREMENT;
use wattlog_collector::simulator::{Faults, Place, Plant, Simulator, SimulatorOptions, Source};
use wattlog_model::{Clock, Timestamp};

pub(crate) const DEVICE: &str = "demo-inverter";
pub(crate) const LOCATION: &str = "demo";
/// How many ports above the wanted one are tried.
const PORTS_TRIED: u16 = 50;
/// Longest wait for the first live point; the collector polls at once and then every interval.
const FIRST_POINT: Duration = Duration::from_mins(1);
/// Lines and columns of an answer that are printed.
const SHOWN_LINES: usize = 10;
const SHOWN_COLUMNS: usize = 150;

pub(crate) fn run(arguments: &DemoArgs) -> Result<(), Failure> {
    if !arguments.listen.ip().is_loopback() {
        return Err(Failure::new(Kind::Permission, "the demo listens on loopback only"));
    }
    let mut config = Config::default();
    config.log.level = "warn".into();
    config.server.listen = arguments.listen;
    logging::start(&config.log).map_err(|message| Failure::new(Kind::Config, message))?;
    // Dropped last, after the store was closed: a temporary folder goes with it.
    let folder = folder::open(arguments.data.as_deref())?;
    serve::runtime()?.block_on(demo(arguments, config, folder.path()))
}

async fn demo(arguments: &DemoArgs, mut config: Config, folder: &Path) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::io("watch for signals", &error))?;
    let clock: Arc<dyn Clock> = match arguments.now {
        Some(start) => Arc::new(DemoClock::new(start, arguments.frozen)),
        None => Arc::new(SystemClock::new()),
    };
    let step = arguments.interval.0;
    let database = config.server.default_database.clone();
    let engine = serve::open_store(&memory::fit(&config).config, folder, Arc::clone(&clock)).await?;
    let plan = history::Plan::new(&engine, &database, clock.wall(), arguments.days, step)?;
    let plan_start = plan.commissioned;
    let plant = Plant::new(arguments.seed, Place::default()).commissioned(plan.commissioned);

    let source = Source::Live { plant: plant.clone(), clock: Arc::clone(&clock) };
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let faults = Faults::default();
    let options = SimulatorOptions { tcp: Some(any_port), udp: None, discovery: None, source, faults };
    let simulator =
        Simulator::bind(options).await.map_err(|error| Failure::io("start the simulator", &error))?;
    let modbus =
        simulator.tcp_addr().ok_or_else(|| Failure::new(Kind::General, "the simulator has no address"))?;
    let over = CancellationToken::new();
    let simulated = tokio::spawn(simulator.run(over.clone()));
    let zone = &config.server.home_zone;
    let services =
        Services::start(arguments.seed, (plan_start, clock.wall()), zone, Arc::clone(&clock), &over).await?;
    print(&format!("simulated inverter: Modbus TCP on {modbus}, seed {}", arguments.seed))?;
    print(&format!("data: {}", folder.display()))?;

    let filled = {
        let (engine, database, plant, until) =
            (engine.clone(), database.clone(), plant.clone(), over.clone());
        let fill = move || history::fill(&engine, &database, &plant, &plan, &until);
        let mut fill = tokio::task::spawn_blocking(fill);
        let done = tokio::select! {
            done = &mut fill => done,
            () = signals.stop() => {
                over.cancel();
                fill.await
            }
        };
        done.map_err(|error| Failure::from_error(Kind::General, &error))??
    };
    print(&filled.to_string())?;

    // As the collector stamps its points.
    let live_from = clock.wall().truncated_to_millis();
    let mut device = DeviceConfig::new(DEVICE, &modbus.ip().to_string());
    device.location = LOCATION.into();
    device.port = Some(modbus.port());
    device.interval = arguments.interval;
    config.collector.devices.push(device);
    config.collector.feeds = services.feeds;
    config.alerts.prices.market = Some(money::price_field());
    config.alerts.interval = Interval::from_secs(1);
    let listener = next_free_port(arguments.listen).await?;
    let front = Front::start(&memory::fit(&config).config, listener, Arc::clone(&clock))?;
    let ledger = serve::open_ledger(&config, folder, Arc::clone(&clock))?;
    let appliance = Appliance::start(front, config, engine, ledger, clock).await?;

    let points = Live { database, from: live_from, history_from: plan_start };
    let outcome = live(arguments, &appliance, &points, &mut signals).await;
    signals.leave_at_once_on_interrupt();
    let stopped = appliance.stop().await;
    over.cancel();
    let _ = simulated.await;
    let _ = services.task.await;
    outcome.and(stopped)
}

/// Shows what there is, once the first live point is stored, and waits.
async fn live(
    arguments: &DemoArgs,
    appliance: &Appliance,
    points: &Live,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let url = format!("http://{}", appliance.address);
    let mut client = Client::new(&url, Duration::from_secs(30))?;
    tokio::select! {
        there = points.wait_for_first(&mut client) => there?,
        () = signals.stop() => return Err(stopped_early()),
    }
    tokio::select! {
        shown = show(&mut client, &url, points) => shown?,
        () = signals.stop() => return Ok(()),
    }
    let Some(exit_after) = arguments.exit_after else {
        signals.stop().await;
        return Ok(());
    };
    tokio::select! {
        () = tokio::time::sleep(exit_after.0) => {}
        () = signals.stop() => return Ok(()),
    }
    let count = points.count(&mut client).await?;
    if count == 0 {
        return Err(Failure::new(Kind::General, "no live point is answered back"));
    }
    let polls = appliance.polls(DEVICE);
    print(&format!("\n{count} live points answered back over HTTP, {polls} polls over Modbus"))
}

async fn show(client: &mut Client, url: &str, points: &Live) -> Result<(), Failure> {
    print(&format!("\nlive: {url}   (Ctrl-C ends it)"))?;
    let day = "measurement=energy_data&fields=pv_power,consumption&start=-7d&every=1d&fn=mean,max&format=csv";
    for path in [
        "/api/v1/last?measurement=energy_data&fields=pv_power,consumption,grid_power,battery_soc",
        &format!("/api/v1/query?{day}"),
        "/api/v1/storage",
    ] {
        print_answer(client, url, path).await?;
    }
    money::show(client, url, (points.history_from, points.from)).await
}

async fn print_answer(client: &mut Client, url: &str, path: &str) -> Result<(), Failure> {
    let reply = client.get(path).await?;
    if !reply.is_success() {
        return Err(Failure::new(Kind::General, format!("{path}: {}", reply.message())));
    }
    print(&format!("\n$ curl '{url}{path}'\n{}", shortened(&reply.text())))
}

/// For a stop before the demo has shown what it is for: exit code 0 would claim that it did.
fn stopped_early() -> Failure {
    Failure::new(Kind::General, "stopped before a live point was stored and answered back")
}

/// The points of the simulated device from a moment on, as the query API tells.
struct Live {
    database: String,
    from: Timestamp,
    /// Where the simulated past begins.
    history_from: Timestamp,
}

impl Live {
    /// Waits until a point of the collector is answered back, with the unit that is told after it.
    async fn wait_for_first(&self, client: &mut Client) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + FIRST_POINT;
        while !self.is_there(client).await? {
            if tokio::time::Instant::now() > deadline {
                let message = format!(
                    "no live point within {} s: the collector does not reach the store",
                    FIRST_POINT.as_secs()
                );
                return Err(Failure::new(Kind::General, message));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn is_there(&self, client: &mut Client) -> Result<bool, Failure> {
        let pairs = [
            ("db", self.database.as_str()),
            ("measurement", MEASUREMENT),
            ("fields", "consumption"),
            ("tag.device_id", DEVICE),
            ("time_format", "ns"),
        ];
        let answer = answered(client, "/api/v1/last", pairs).await?;
        let series = &answer["series"][0];
        let newest = series["values"][0][0].as_str().and_then(|time| time.parse::<i64>().ok());
        Ok(newest.is_some_and(|time| time >= self.from.0) && series["units"][1].is_string())
    }

    async fn count(&self, client: &mut Client) -> Result<u64, Failure> {
        let (start, end) = (format!("{}ns", self.from.0), format!("{}ns", Timestamp::MAX.0));
        let pairs = [
            ("db", self.database.as_str()),
            ("measurement", MEASUREMENT),
            ("fields", "consumption"),
            ("fn", "count"),
            ("tag.device_id", DEVICE),
            ("start", &start),
            ("end", &end),
        ];
        let answer = answered(client, "/api/v1/query", pairs).await?;
        Ok(answer["series"][0]["values"][1][0].as_u64().unwrap_or(0))
    }
}

async fn answered<const N: usize>(
    client: &mut Client,
    path: &str,
    pairs: [(&str, &str); N],
) -> Result<Value, Failure> {
    let reply = client.get(&target(path, pairs)).await?;
    if !reply.is_success() {
        return Err(Failure::new(Kind::General, format!("{path}: {}", reply.message())));
    }
    serde_json::from_slice(&reply.body)
        .map_err(|error| Failure::new(Kind::General, format!("{path}: the answer is no JSON: {error}")))
}

async fn next_free_port(wanted: SocketAddr) -> Result<TcpListener, Failure> {
    let last = wanted.port().saturating_add(if wanted.port() == 0 { 0 } else { PORTS_TRIED });
    for port in wanted.port()..=last {
        match TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return bound.map_err(|error| Failure::io(format!("listen on port {port}"), &error)),
        }
    }
    Err(Failure::new(Kind::Unavailable, format!("ports {} to {last} are all taken", wanted.port())))
}

/// The beginning of an answer, for a terminal.
fn shortened(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .take(SHOWN_LINES)
        .map(|line| match line.char_indices().nth(4 * SHOWN_COLUMNS) {
            Some((end, _)) => format!("{} ...", &line[..end]),
            None => line.to_owned(),
        })
        .collect();
    if text.lines().count() > SHOWN_LINES {
        lines.push("...".into());
    }
    lines.join("\n")
}
