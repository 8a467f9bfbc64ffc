//! The collector as a whole: devices behind sockets on one side, a sink on the other, time passing.

mod common;

use common::{
    Collecting, Fake, Reaction, Running, TRANSPORTS, WallClock, collecting, device, identity, value,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use wattlog_collector::config::{BlockName, Family, FieldChoice, Interval, SystemMetricsConfig, Transport};
use wattlog_collector::modbus::{Refusal, parse_rtu_request, rtu_answer};
use wattlog_collector::simulator::{Faults, Place, Plant, PlantPoints, SimulatorOptions, Source};
use wattlog_collector::status::DeviceState;
use wattlog_collector::{Collector, CollectorConfig, SinkError};
use wattlog_model::{Clock, FieldKind, FieldValue, ManualClock, Point, Timestamp};

const NOON: Timestamp =
    Timestamp(1_767_225_600_000_000_000 + 20 * Timestamp::DAY_NS + 39_600_000_000_000 + 7_000_000);

fn plant() -> Plant {
    Plant::new(99, Place::default())
}

async fn live(clock: Arc<dyn Clock>) -> Running {
    Running::start(Source::Live { plant: plant(), clock }).await
}

#[tokio::test]
async fn a_polled_point_equals_the_one_that_history_makes_of_the_same_state() {
    for transport in TRANSPORTS {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOON));
        let simulator = live(Arc::clone(&clock)).await;
        let collector = Collecting::start(collecting(simulator.device(transport)), clock);
        let polled = collector.points(1).await.remove(0);
        let mut history = PlantPoints::new("roof", "home", FieldChoice::All).point(&plant().at(NOON));
        // The state holds for 10 s; the point carries the time of its cycle.
        assert!(history.time < polled.time);
        assert_eq!(polled.time, Some(NOON.truncated_to_millis()));
        history.time = polled.time;
        assert_eq!(polled, history, "{transport:?}");
        assert!(polled.fields.len() > 100);
        collector.stop().await;
        simulator.stop().await;
    }
}

#[tokio::test]
async fn essential_fields_are_a_part_of_all_of_them() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOON));
    let simulator = live(Arc::clone(&clock)).await;
    let mut config = simulator.device(Transport::Udp);
    config.fields = FieldChoice::Essential;
    let collector = Collecting::start(collecting(config), clock);
    let essential = collector.points(1).await.remove(0);
    let all = PlantPoints::new("roof", "home", FieldChoice::All).point(&plant().at(NOON));
    assert!(essential.fields.iter().all(|field| all.fields.contains(field)));
    assert!((30..90).contains(&essential.fields.len()), "{}", essential.fields.len());
    for field in ["battery_soc", "battery_temp", "pv_power", "grid_power", "consumption"] {
        assert!(value(&essential, field).is_some(), "{field}");
    }
    collector.stop().await;
}

#[tokio::test]
async fn cycles_fall_on_whole_intervals_and_units_are_told_once() {
    let simulator = live(Arc::new(WallClock)).await;
    let collector = Collecting::start(collecting(simulator.device(Transport::Tcp)), Arc::new(WallClock));
    let points = collector.points(4).await;
    let status = collector.status.snapshot();
    let sink = collector.stop().await;
    let times: Vec<i64> = points.iter().map(|point| point.time.unwrap().0).collect();
    // The first cycle is at once, the others on the second.
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(times[1..].iter().all(|time| time % 1_000_000_000 == 0), "{times:?}");

    let described = sink.described.lock();
    let names: HashSet<&str> = described.iter().map(|(_, meaning)| meaning.field.as_str()).collect();
    assert_eq!(names.len(), described.len(), "told once");
    assert!(points[0].fields.iter().all(|(name, _)| names.contains(name.as_str())));
    let meaning =
        |field: &str| described.iter().find(|(_, meaning)| meaning.field == field).unwrap().1.clone();
    assert_eq!(meaning("pv_power").unit.unwrap().as_str(), "W");
    assert_eq!(meaning("pv_energy_total").kind, FieldKind::Counter);
    assert_eq!((meaning("work_mode").kind, meaning("work_mode").unit), (FieldKind::Step, None));

    let device = &status.devices[0];
    assert_eq!((device.state, device.errors.total()), (DeviceState::Online, 0));
    assert_eq!(device.info.model.as_deref(), Some("GW10K-ET"));
    assert!(
        device.is_fresh(WallClock.wall()) && !device.is_fresh(Timestamp(WallClock.wall().0 + 10_000_000_000))
    );
    assert!(device.points >= 4 && device.left_out.no_data > 0);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["devices"][0]["state"], "online");
    assert_eq!(json["devices"][0]["info"]["serial"], "9010KETU26SIM001");
}

#[tokio::test]
async fn a_silent_device_is_tried_again_until_it_answers_and_nothing_is_stored_meanwhile() {
    for transport in TRANSPORTS {
        let simulator = live(Arc::new(WallClock)).await;
        let mut config = simulator.device(transport);
        config.timeout = Interval::from_millis(100);
        let collector = Collecting::start(collecting(config), Arc::new(WallClock));
        collector.points(1).await;
        simulator.faults.set(Faults { silence: true, ..Faults::default() });
        let device = || collector.status.snapshot().devices.remove(0);
        collector.until("third failure", || device().consecutive_failures >= 3).await;
        let before = collector.sink.points.lock().len();
        assert_eq!(device().state, DeviceState::Silent);
        assert!(device().errors.silence >= 3 && device().last_error.is_some());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(collector.sink.points.lock().len(), before, "no old values again");

        simulator.faults.set(Faults::default());
        collector.points(before + 2).await;
        assert_eq!((device().state, device().consecutive_failures), (DeviceState::Online, 0));
        collector.stop().await;
        simulator.stop().await;
    }
}

#[tokio::test]
async fn a_tcp_connection_lasts_one_cycle_and_only_reads_are_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closed);
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            // One connection at a time, as a dongle: the next is accepted only when this one is closed.
            while stream.read_exact(&mut request).await.is_ok() {
                assert_eq!(request[7], 3, "function");
                let data_len = 2 * request[11];
                let mut frame = vec![request[0], request[1], 0, 0, 0, 3 + data_len, 0xF7, 3, data_len];
                frame.extend(vec![1; usize::from(data_len)]);
                stream.write_all(&frame).await.unwrap();
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let collector = Collecting::start(collecting(device(Transport::Tcp, address)), Arc::new(WallClock));
    collector.points(3).await;
    assert!(closed.load(Ordering::Relaxed) >= 2);
    assert_eq!(collector.status.snapshot().devices[0].errors.total(), 0);
    collector.stop().await;
    task.abort();
}

#[tokio::test]
async fn a_device_that_comes_to_life_later_is_found() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let collector = Collecting::start(collecting(device(Transport::Tcp, address)), Arc::new(WallClock));
    collector.until("refused connection", || collector.status.snapshot().devices[0].errors.connect > 0).await;
    let options = SimulatorOptions {
        tcp: Some(address),
        udp: None,
        discovery: None,
        source: Source::Live { plant: plant(), clock: Arc::new(WallClock) },
        faults: Faults::default(),
    };
    let simulator = wattlog_collector::simulator::Simulator::bind(options).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(simulator.run(stop.clone()));
    collector.points(1).await;
    collector.stop().await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_night_of_all_ones_gives_no_points_but_is_no_silence() {
    let simulator = live(Arc::new(WallClock)).await;
    simulator.faults.set(Faults { sentinel_night: true, ..Faults::default() });
    let collector = Collecting::start(collecting(simulator.device(Transport::Udp)), Arc::new(WallClock));
    collector.until("two cycles", || collector.status.snapshot().devices[0].cycles >= 3).await;
    let device = collector.status.snapshot().devices.remove(0);
    assert_eq!((device.state, device.points, device.last_point), (DeviceState::Online, 0, None));
    assert!(device.left_out.no_data > 100 && device.last_success.is_some());
    assert!(collector.stop().await.points.lock().is_empty());
}

#[tokio::test]
async fn a_refused_block_disables_itself_alone() {
    let simulator = live(Arc::new(WallClock)).await;
    let mut config = simulator.device(Transport::Tcp);
    // The simulated inverter has no second battery.
    config.blocks = Some(vec![BlockName::Running, BlockName::Battery2, BlockName::Meter]);
    let collector = Collecting::start(collecting(config), Arc::new(WallClock));
    let points = collector.points(3).await;
    let device = collector.status.snapshot().devices.remove(0);
    collector.stop().await;
    assert_eq!(device.refused_blocks, [BlockName::Battery2]);
    assert_eq!(device.errors.refused, 1, "asked once");
    for point in points {
        assert!(value(&point, "meter_frequency").is_some() && value(&point, "pv_power").is_some());
        assert!(value(&point, "battery_soc").is_none(), "not configured");
    }
}

#[tokio::test]
async fn a_block_that_falls_silent_leaves_its_fields_out_and_old_values_are_not_repeated() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let battery_answers = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&battery_answers);
    let task = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let (_, start, count) = parse_rtu_request(&buffer[..len]).unwrap();
            if start == 37000 && !answers.load(Ordering::Relaxed) {
                continue;
            }
            // 2 everywhere: battery mode "discharge", a state of charge of 2 %.
            socket.send_to(&rtu_answer(0xF7, &vec![2; usize::from(count)]), peer).await.unwrap();
        }
    });
    let mut config = device(Transport::Udp, address);
    config.timeout = Interval::from_millis(150);
    let collector = Collecting::start(collecting(config), Arc::new(WallClock));
    let first = collector.points(1).await.remove(0);
    assert_eq!(value(&first, "battery_soc"), Some(&FieldValue::Float(2.0)));
    battery_answers.store(false, Ordering::Relaxed);
    let last = collector.points(3).await.pop().unwrap();
    assert_eq!(value(&last, "battery_soc"), None);
    assert!(value(&last, "battery_voltage").is_some() && value(&last, "meter_frequency").is_some());
    battery_answers.store(true, Ordering::Relaxed);
    let again = collector.points(5).await.pop().unwrap();
    assert!(value(&again, "battery_soc").is_some());
    collector.stop().await;
    task.abort();
}

#[tokio::test]
async fn who_the_device_is_is_asked_once_until_it_was_silent() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (silent, introductions) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (quiet, counter) = (Arc::clone(&silent), Arc::clone(&introductions));
    let task = tokio::spawn(async move {
        let mut buffer = [0; 64];
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let (_, start, count) = parse_rtu_request(&buffer[..len]).unwrap();
            if !quiet.load(Ordering::Relaxed) {
                counter.fetch_add(usize::from(start == 35000), Ordering::Relaxed);
                socket.send_to(&rtu_answer(0xF7, &vec![1; usize::from(count)]), peer).await.unwrap();
            }
        }
    });
    let config = device(Transport::Udp, address);
    let collector = Collecting::start(collecting(config), Arc::new(WallClock));
    let cycles = collector.points(3).await.len();
    assert_eq!(introductions.load(Ordering::Relaxed), 1);
    silent.store(true, Ordering::Relaxed);
    collector.until("a failure", || collector.status.snapshot().devices[0].failed_cycles > 0).await;
    silent.store(false, Ordering::Relaxed);
    // It may be another device by now.
    collector.points(cycles + 2).await;
    assert_eq!(introductions.load(Ordering::Relaxed), 2);
    collector.stop().await;
    task.abort();
}

#[tokio::test]
async fn while_the_store_refuses_points_wait_and_the_oldest_are_dropped_and_counted() {
    let simulator = live(Arc::new(WallClock)).await;
    let config = CollectorConfig { buffer_points: 3, ..collecting(simulator.device(Transport::Udp)) };
    let collector = Collecting::start(config, Arc::new(WallClock));
    let before = collector.points(1).await.len();
    let retry_after = Some(Duration::from_millis(50));
    *collector.sink.error.lock() = Some(SinkError::Refused { retry_after, reason: "full".into() });
    let buffer = || collector.status.snapshot().buffer;
    collector.until("dropped points", || buffer().dropped >= 2).await;
    assert!(buffer().waiting <= 3 && buffer().refusals > 0);
    *collector.sink.error.lock() = None;
    collector.points(before + 4).await;
    let status = collector.status.clone();
    let sink = collector.stop().await;
    let status = status.snapshot();
    let times: Vec<i64> = sink.points.lock().iter().map(|point| point.time.unwrap().0).collect();
    assert_eq!(times.len() as u64, status.buffer.stored);
    assert_eq!(status.devices[0].points, status.buffer.stored + status.buffer.dropped);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "in the order they came: {times:?}");
    // The oldest were dropped: the hole lies right behind what was stored before the store refused.
    let hole = times.windows(2).position(|pair| pair[1] - pair[0] > 2_000_000_000).unwrap();
    assert!((before..=before + 1).contains(&(hole + 1)), "{hole} of {times:?}");
}

#[tokio::test]
async fn a_silent_device_delays_neither_the_others_nor_the_stop() {
    let simulator = live(Arc::new(WallClock)).await;
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut silent = device(Transport::Udp, hole.local_addr().unwrap());
    silent.id = "barn".into();
    silent.timeout = Interval::from_secs(60);
    let mut grid_only = simulator.device(Transport::Tcp);
    grid_only.id = "shed".into();
    grid_only.family = Family::Dt;
    let mut config = collecting(simulator.device(Transport::Udp));
    config.devices.extend([silent, grid_only]);
    let collector = Collecting::start(config, Arc::new(WallClock));
    let points = collector.points(6).await;
    let of = |id: &str| points.iter().filter(|point| point.tags.value("device_id") == Some(id)).count();
    assert!(of("roof") >= 2 && of("shed") >= 2 && of("barn") == 0);
    let states: Vec<DeviceState> =
        collector.status.snapshot().devices.iter().map(|device| device.state).collect();
    assert_eq!(states, [DeviceState::Online, DeviceState::Starting, DeviceState::Online]);
    let begun = std::time::Instant::now();
    collector.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    simulator.stop().await;
}

#[tokio::test]
async fn rejected_points_are_counted_and_do_not_stop_the_others() {
    let simulator = live(Arc::new(WallClock)).await;
    let collector = Collecting::start(collecting(simulator.device(Transport::Udp)), Arc::new(WallClock));
    collector.points(1).await;
    *collector.sink.error.lock() = Some(SinkError::Rejected { points: vec![0], reason: "field type".into() });
    collector.until("rejected point", || collector.status.snapshot().buffer.rejected >= 1).await;
    *collector.sink.error.lock() = None;
    collector.points(2).await;
    let status = collector.status.snapshot();
    assert_eq!((status.buffer.dropped, status.devices[0].rejected), (0, status.buffer.rejected));
    collector.stop().await;
}

fn refusing() -> Option<SinkError> {
    Some(SinkError::Refused { retry_after: None, reason: "full".into() })
}

#[tokio::test]
async fn what_waits_when_the_collector_stops_is_still_delivered() {
    let simulator = live(Arc::new(WallClock)).await;
    let collector = Collecting::start(collecting(simulator.device(Transport::Udp)), Arc::new(WallClock));
    *collector.sink.error.lock() = refusing();
    collector.until("waiting point", || collector.status.snapshot().buffer.waiting > 0).await;
    // The store refuses once more after the stop: that was the end of it, and the points were gone uncounted.
    let (status, sink) = (collector.status.clone(), Arc::clone(&collector.sink));
    let before = status.snapshot().buffer.refusals;
    let stopping = tokio::spawn(collector.stop());
    let refused_again = async {
        while status.snapshot().buffer.refusals < before + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), refused_again).await.expect("it goes on trying");
    *sink.error.lock() = None;
    stopping.await.unwrap();
    let status = status.snapshot();
    assert_eq!(sink.points.lock().len() as u64, status.devices[0].points);
    assert_eq!((status.buffer.waiting, status.buffer.dropped), (0, 0));
}

#[tokio::test]
async fn what_the_store_does_not_take_at_the_stop_is_counted_as_dropped() {
    let simulator = live(Arc::new(WallClock)).await;
    let collector = Collecting::start(collecting(simulator.device(Transport::Udp)), Arc::new(WallClock));
    *collector.sink.error.lock() = refusing();
    collector.until("waiting points", || collector.status.snapshot().buffer.waiting >= 2).await;
    let status = collector.status.clone();
    collector.stop().await;
    let status = status.snapshot();
    assert_eq!(status.buffer.waiting, 0);
    assert_eq!(status.buffer.dropped + status.buffer.stored, status.devices[0].points);
    assert!(status.devices[0].dropped >= 2 && status.devices[0].dropped == status.buffer.dropped);
}

#[tokio::test]
async fn a_device_that_refuses_everything_is_no_online_one_and_is_asked_ever_more_rarely() {
    for transport in TRANSPORTS {
        let simulator = live(Arc::new(WallClock)).await;
        let collector = Collecting::start(collecting(simulator.device(transport)), Arc::new(WallClock));
        collector.points(1).await;
        let device = || collector.status.snapshot().devices.remove(0);
        simulator.faults.set(Faults { exception: Some(4), ..Faults::default() });
        collector.until("failures", || device().consecutive_failures >= 2).await;
        assert_eq!(device().state, DeviceState::Refusing, "{transport:?}");
        assert_eq!(device().last_error.as_deref(), Some("the device refused: device failure"));
        simulator.faults.set(Faults::default());
        let before = collector.sink.points.lock().len();
        collector.points(before + 1).await;
        assert_eq!((device().state, device().last_error), (DeviceState::Online, None));
        let device = device();
        assert!((0..=1).contains(&(device.cycles - device.answered_cycles - device.failed_cycles)));
        assert!(device.last_attempt >= device.last_success);
        collector.stop().await;
        simulator.stop().await;
    }
}

#[tokio::test]
async fn consumption_is_missing_until_a_busy_inverter_says_that_it_has_one_battery() {
    for transport in TRANSPORTS {
        let fake = Fake::start(transport, |number, start, count| match start {
            35000 if number < 3 => Reaction::Refuse(Refusal::BUSY),
            35000 => Reaction::Words(identity(10_000)),
            35262 => Reaction::Refuse(Refusal::BUSY),
            35100 => Reaction::Words(vec![0; usize::from(count)]),
            _ => Reaction::Words(vec![1; usize::from(count)]),
        })
        .await;
        let collector = Collecting::start(collecting(device(transport, fake.address)), Arc::new(WallClock));
        let points = collector.points(2).await;
        assert_eq!(value(&points[0], "consumption"), None, "{transport:?}");
        assert!(value(&points[0], "pv_power").is_some() && value(&points[0], "grid_power").is_some());
        assert_eq!(value(&points[1], "consumption"), Some(&FieldValue::Float(0.0)), "{transport:?}");
        collector.stop().await;
    }
}

#[tokio::test]
async fn a_night_that_hides_a_part_leaves_that_part_out() {
    // 35100: the PV and AC side sleep, battery and totals do not; the identity block sleeps until the third request.
    let mut night = [0xFFFF_u16; 125];
    for (at, word) in [(80, 4_000), (81, 21), (82, 0), (83, 800), (84, 2), (91, 1), (92, 500)] {
        night[at] = word;
    }
    for transport in TRANSPORTS {
        let fake = Fake::start(transport, move |number, start, count| match start {
            35000 if number < 3 => Reaction::Words(vec![0xFFFF; usize::from(count)]),
            35000 => Reaction::Words(identity(10_000)),
            35100 => Reaction::Words(night.to_vec()),
            35262 | 36000 => Reaction::Words(vec![0xFFFF; usize::from(count)]),
            _ => Reaction::Words(vec![55; usize::from(count)]),
        })
        .await;
        let collector = Collecting::start(collecting(device(transport, fake.address)), Arc::new(WallClock));
        let points = collector.points(2).await;
        for (field, expected) in [
            ("battery_voltage", Some(400.0)),
            ("battery_power", Some(800.0)),
            ("battery_soc", Some(55.0)),
            ("pv_energy_total", Some(6_603.6)),
            ("pv_power", None),
            ("pv1_current", None),
            ("grid_power", None),
            ("consumption", None),
            ("ac_voltage_l1", None),
            ("ac_power_l1", None),
            ("inverter_temp", None),
            ("meter_power", None),
            ("grid_export_energy_total", None),
            ("battery2_power", None),
        ] {
            let expected = expected.map(FieldValue::Float);
            assert_eq!(value(&points[1], field), expected.as_ref(), "{transport:?} {field}");
        }
        assert_eq!(collector.status.snapshot().devices[0].info.rated_power_w, Some(10_000), "asked again");
        collector.stop().await;
    }
}

#[tokio::test]
async fn a_dongle_that_fell_asleep_is_woken() {
    // The packet goes to port 48899 whatever the dongle's address: one of the many loopback addresses for this test alone.
    let pid = std::process::id().to_be_bytes();
    let host = std::net::IpAddr::from([127, pid[2].max(1), pid[3], 48]);
    if UdpSocket::bind((host, 48899)).await.is_err() {
        println!("skipped: {host}:48899 cannot be had here");
        return;
    }
    let options = SimulatorOptions {
        tcp: Some((host, 0).into()),
        udp: Some((host, 0).into()),
        discovery: Some((host, 48899).into()),
        source: Source::Live { plant: plant(), clock: Arc::new(WallClock) },
        faults: Faults { asleep: true, ..Faults::default() },
    };
    let simulator = Running::start_with(options).await;
    let mut config = simulator.device(Transport::Udp);
    config.timeout = Interval::from_millis(200);
    let collector = Collecting::start(collecting(config.clone()), Arc::new(WallClock));
    let device = |collector: &Collecting| collector.status.snapshot().devices.remove(0);
    collector.until("silence", || device(&collector).failed_cycles >= 2).await;
    assert!(collector.stop().await.points.lock().is_empty());

    config.wake = true;
    let collector = Collecting::start(collecting(config), Arc::new(WallClock));
    let before = collector.points(1).await.len();
    simulator.faults.set(Faults { asleep: true, ..Faults::default() });
    collector.until("silence", || device(&collector).failed_cycles >= 1).await;
    collector.points(before + 2).await;
    collector.stop().await;
    simulator.stop().await;
}

/// A clock that has a fault of ours in it, once.
#[derive(Debug, Default)]
struct FaultyClock(AtomicUsize);

impl Clock for FaultyClock {
    fn wall(&self) -> Timestamp {
        assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 3, "the fault");
        WallClock.wall()
    }

    fn monotonic(&self) -> Duration {
        WallClock.monotonic()
    }
}

#[tokio::test]
async fn a_device_whose_task_panicked_is_polled_again() {
    let simulator = live(Arc::new(WallClock)).await;
    let config = collecting(simulator.device(Transport::Udp));
    let clock = Arc::new(FaultyClock::default());
    let collector = Collecting::start(config, Arc::clone(&clock) as Arc<dyn Clock>);
    collector.points(3).await;
    assert!(clock.0.load(Ordering::Relaxed) > 4, "it panicked");
    collector.stop().await;
}

#[tokio::test]
async fn the_program_measures_itself() {
    let config = CollectorConfig {
        system_metrics: SystemMetricsConfig { enabled: true, interval: Interval::from_secs(1) },
        ..CollectorConfig::default()
    };
    let collector = Collecting::start(config, Arc::new(WallClock));
    let points: Vec<Point> = collector.points(2).await;
    collector.stop().await;
    let point = &points[1];
    assert_eq!(point.measurement, "system_metrics");
    assert_eq!((point.tags.value("component"), point.tags.value("status")), (Some("wattlog"), Some("ok")));
    for field in ["cpu_usage", "memory_usage", "process_cpu_usage", "resident_memory", "response_time"] {
        let Some(FieldValue::Float(number)) = value(point, field) else { panic!("{field}: {point:?}") };
        assert!(*number >= 0.0, "{field} {number}");
    }
}

#[test]
fn the_interval_of_the_own_figures_is_told_unless_they_are_off() {
    let told = |enabled| {
        let system_metrics = SystemMetricsConfig { enabled, interval: Interval::from_secs(300) };
        let config = CollectorConfig { system_metrics, ..CollectorConfig::default() };
        Collector::new(config).unwrap().status().own_interval()
    };
    assert_eq!((told(true), told(false)), (Some(Duration::from_secs(300)), None));
}
