//! The same on PostgreSQL, and with one that goes away in the middle of a transaction, or before its answer.

use super::*;
use crate::cluster::Cluster;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use wattlog_ledger::{Backend, Record};

fn open(disk: SimDisk, url: &str, now: i64) -> Home {
    let backend = Backend::Postgres { url: url.to_owned(), password: None };
    Home::open_with(disk, backend, now, "Europe/Warsaw")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_plant_are_those_of_arithmetic() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    plant_by_arithmetic(open(SimDisk::new(31), &cluster.url("postgres"), START + 80 * HOUR)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_a_month_with_a_long_day_say_what_the_energies_say() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    month_by_energies(open(SimDisk::new(32), &cluster.url("postgres"), START + 8 * 24 * HOUR)).await;
}

/// A way to a server that can be cut after so many bytes, in the middle of whatever is said there.
struct Gate {
    port: u16,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    /// Bytes that pass before it is cut.
    left: Mutex<usize>,
    open: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// Lets nothing pass yet.
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, way) = (listener.local_addr().unwrap().port(), Arc::<Way>::default());
        let shared = way.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                // A connection that finds it cut ends at once.
                if *shared.left.lock().unwrap() == 0 {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    shared.open.lock().unwrap().push(from.try_clone().unwrap());
                    let way = shared.clone();
                    std::thread::spawn(move || way.pass(from, to));
                }
            }
        });
        Self { port, way }
    }

    /// Lets so many bytes pass from now on.
    fn open_for(&self, bytes: usize) {
        *self.way.left.lock().unwrap() = bytes;
    }

    fn is_cut(&self) -> bool {
        *self.way.left.lock().unwrap() == 0
    }
}

impl Way {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let passes = {
                let mut left = self.left.lock().unwrap();
                let passes = count.min(*left);
                *left -= passes;
                passes
            };
            if to.write_all(&bytes[..passes]).is_err() {
                break;
            }
            if passes < count {
                for stream in self.open.lock().unwrap().drain(..) {
                    let _gone = stream.shutdown(Shutdown::Both);
                }
            }
        }
        let _gone = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_away_and_comes_back_misses_nothing_and_has_nothing_twice() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let gate = Gate::to(cluster.port);
    gate.open_for(usize::MAX);
    // The month is over.
    let now = START + 8 * 24 * HOUR;
    let url = format!("postgresql://wattlog@127.0.0.1:{}/postgres", gate.port);
    let mut home = open(SimDisk::new(33), &url, now);
    home.tariff(Direction::Import, 0.8, START, None).await;
    home.tariff(Direction::Export, 0.4, START, None).await;
    let mut rng = Rng::new(std::env::var("WATTLOG_SEED").map_or(33, |seed| seed.parse().unwrap()));
    let all = points("roof", 72, 60 * SECOND);
    for (round, body) in all.chunks(all.len() / 6 + 1).enumerate() {
        // It looks every 10 ms, so the cut comes whatever there is to do: most often while it works on these points.
        gate.open_for(1 + rng.below(60_000) as usize);
        home.write(body);
        home.until("the cut", || gate.is_cut()).await;
        home.until("the trouble to be told", || home.books.status().error.is_some()).await;
        if round == 3 {
            // It does not hold up a stop, and what was not kept by then is kept after the start.
            let disk = home.disk.clone();
            home.stop().await;
            home = open(disk, &url, now);
        }
        gate.open_for(usize::MAX);
        if round % 2 == 0 {
            home.settle().await;
        }
    }
    // By hand: a flank of a minute on each side; of the sale only what is above the house's 500 W.
    let wanted: Vec<(i64, SessionKind, f64, f64)> = (0..3)
        .flat_map(|day| {
            let at = |hour: i64| (day * 24 + hour) * 60 - 1;
            let sold = (2000.0 * 3540.0 + 2.0 * 2000.0 * 48.0 / 2.0) / 3.6e6;
            [
                (at(1), SessionKind::Charging, 7.2, 7.2 * 0.8),
                (at(11), SessionKind::Charging, 3.0, 0.0),
                (at(18), SessionKind::Selling, 2.5, sold * 0.4),
            ]
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let reports = loop {
        home.settle().await;
        let reports = home.all::<Report>().await;
        let count = |report: &Stored<Report>| report.record.data["sessions"]["charging"]["count"].as_u64();
        if reports.len() == 3 + 1 && reports.iter().filter_map(count).sum::<u64>() == 6 + 6 {
            break reports;
        }
        assert!(Instant::now() < deadline, "{reports:#?} {:?}", home.books.status());
    };
    let found = home.sessions().await;
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (stored, (minute, kind, energy, money)) in found.iter().zip(wanted) {
        let session = &stored.record;
        assert_eq!((session.start.0, session.kind), (START + minute * 60 * SECOND, kind));
        assert_eq!(session.status, SessionStatus::Completed);
        close(session.energy_kwh, energy, "energy");
        close(session.total_cost.or(session.revenue), money, "money");
        told_once(&home, stored).await;
    }
    for report in &reports {
        told_once(&home, report).await;
    }
    assert_eq!(home.books.status().error, None);
    home.stop().await;
}

/// Each version once, from the first on: nothing was made or changed twice because an answer was lost.
async fn told_once<R: Record + PartialEq>(home: &Home, stored: &Stored<R>) {
    let (history, more) = home.ledger.history::<R>(stored.id, 0).await.unwrap();
    let versions: Vec<i64> = history.iter().map(|change| change.version).collect();
    assert_eq!((versions, more), ((1..=stored.version).collect(), None));
    for pair in history.windows(2) {
        assert_ne!(pair[0].record, pair[1].record, "a change that changes nothing");
    }
}
