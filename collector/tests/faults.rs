//! What dongles and inverters do wrong, one by one, through real sockets over both transports.

mod common;

use common::{
    Collecting, Fake, LARGE, Reaction, Running, TRANSPORTS, WallClock, collecting, device, identity,
    own_captures, value,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use wattlog_collector::config::{BlockName, DeviceConfig, Interval, Transport};
use wattlog_collector::modbus::{Malformed, ReadError, Refusal, rtu_answer, rtu_refusal};
use wattlog_collector::simulator::{Captures, Faults, Place, Plant, Source};
use wattlog_collector::{Probe, probe};
use wattlog_model::{FieldValue, ManualClock, Timestamp};

/// A plant at a noon in summer, for ever.
async fn noon() -> Running {
    let noon = Timestamp(1_767_225_600_000_000_000 + 12 * Timestamp::DAY_NS + 39_600_000_000_000);
    let plant = Plant::new(5, Place::default());
    Running::start(Source::Live { plant, clock: Arc::new(ManualClock::new(noon)) }).await
}

async fn probe_with(transport: Transport, faults: Faults) -> (Result<Probe, ReadError>, Probe) {
    let simulator = noon().await;
    let config = simulator.device(transport);
    let clean = probe(&config).await.unwrap();
    simulator.faults.set(faults);
    let faulty = probe(&config).await;
    simulator.stop().await;
    (faulty, clean)
}

#[tokio::test]
async fn answers_that_are_late_doubled_split_mislabelled_or_followed_by_rubbish_are_read() {
    for transport in TRANSPORTS {
        for faults in [
            Faults { delay: Duration::from_millis(150), ..Faults::default() },
            Faults { doubled: true, ..Faults::default() },
            Faults { split: true, ..Faults::default() },
            Faults { wrong_length: true, ..Faults::default() },
            Faults { rubbish: true, ..Faults::default() },
            Faults { wrong_length: true, rubbish: true, ..Faults::default() },
            Faults { wrong_length: true, doubled: true, ..Faults::default() },
        ] {
            let (faulty, clean) = probe_with(transport, faults.clone()).await;
            assert_eq!(faulty.unwrap(), clean, "{transport:?} {faults:?}");
            assert!(clean.readings.len() > 100 && clean.refused.is_empty());
        }
    }
}

#[tokio::test]
async fn a_split_answer_with_a_wrong_length_and_rubbish_is_read_over_tcp() {
    let faults =
        Faults { wrong_length: true, rubbish: true, split: true, doubled: true, ..Faults::default() };
    let (faulty, clean) = probe_with(Transport::Tcp, faults).await;
    assert_eq!(faulty.unwrap(), clean);
}

#[tokio::test]
async fn silence_and_short_answers_are_silence() {
    for transport in TRANSPORTS {
        let silent = Faults { silence: true, ..Faults::default() };
        let short = Faults { short: true, ..Faults::default() };
        let late = Faults { delay: Duration::from_secs(2), ..Faults::default() };
        for faults in [silent, short, late] {
            let (faulty, _) = probe_with(transport, faults.clone()).await;
            assert!(matches!(faulty, Err(ReadError::Silence)), "{transport:?} {faults:?}: {faulty:?}");
        }
    }
}

#[tokio::test]
async fn a_device_that_refuses_everything_gives_nothing_and_says_why() {
    for transport in TRANSPORTS {
        for code in [1, 2, 4, 6, 11] {
            let (faulty, _) =
                probe_with(transport, Faults { exception: Some(code), ..Faults::default() }).await;
            let error = faulty.unwrap_err();
            assert!(matches!(error, ReadError::Refused(Refusal(found)) if found == code), "{error:?}");
        }
    }
}

#[tokio::test]
async fn at_night_all_ones_are_missing_values() {
    for transport in TRANSPORTS {
        let (faulty, _) = probe_with(transport, Faults { sentinel_night: true, ..Faults::default() }).await;
        let probe = faulty.unwrap();
        assert!(!probe.readings.is_empty());
        assert!(probe.readings.iter().all(|reading| reading.value.is_none()), "{transport:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(matches!(probe(&device(Transport::Tcp, address)).await, Err(ReadError::Connect(_))));
    let mut nowhere = device(Transport::Tcp, address);
    nowhere.host = "no-such-host.invalid".into();
    assert!(matches!(probe(&nowhere).await, Err(ReadError::Connect(_))));
}

#[tokio::test]
async fn a_host_may_be_given_by_name() {
    let simulator = noon().await;
    for transport in TRANSPORTS {
        let mut config = simulator.device(transport);
        config.host = "localhost".into();
        assert!(!probe(&config).await.unwrap().readings.is_empty(), "{transport:?}");
    }
    simulator.stop().await;
}

fn running_only(config: &mut DeviceConfig) {
    config.blocks = Some(vec![BlockName::Running]);
}

#[tokio::test]
async fn a_datagram_with_another_byte_count_is_no_answer() {
    let fake = Fake::start(Transport::Udp, |_, start, count| {
        let count = if start == 35100 { count - 1 } else { count };
        Reaction::Words(vec![7; usize::from(count)])
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    running_only(&mut config);
    let error = probe(&config).await.unwrap_err();
    let expected = Malformed::ByteCount { expected: 250, found: 248 };
    assert!(matches!(error, ReadError::Malformed(found) if found == expected), "{error:?}");
}

#[tokio::test]
async fn a_damaged_datagram_is_no_answer_and_asked_for_again() {
    let fake = Fake::start(Transport::Udp, |number, _, count| {
        let mut frame = rtu_answer(0xF7, &vec![7; usize::from(count)]);
        if number <= 1 {
            frame[20] ^= 0x10;
        }
        Reaction::Send(vec![frame])
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    running_only(&mut config);
    let error = probe(&config).await.unwrap_err();
    assert!(matches!(error, ReadError::Malformed(Malformed::Checksum { .. })), "{error:?}");
    config.retries = 1;
    assert!(!probe(&config).await.unwrap().readings.is_empty());
}

/// What a probe found in a register.
fn found(probe: &Probe, field: &str) -> Option<FieldValue> {
    probe.readings.iter().find(|reading| reading.register.field == field)?.value.clone()
}

/// A large inverter: 0x0102 in every word of the running block, 0x0304 in the others.
fn plain(start: u16, count: u16) -> Vec<u16> {
    match start {
        35000 => identity(LARGE),
        35100 => vec![0x0102; usize::from(count)],
        // Totals of 64 bits, behind the 58 words of the middle form: a number that fits.
        36000 => (0..count).map(|at| if at >= 92 && at % 4 != 3 { 0 } else { 0x0304 }).collect(),
        _ => vec![0x0304; usize::from(count)],
    }
}

#[tokio::test]
async fn an_answer_that_comes_twice_in_two_datagrams_is_read_once() {
    // "running" and the long meter block have 125 words each: the second answer to one was taken for the other.
    let fake = Fake::start(Transport::Udp, |_, start, count| {
        let answer = vec![rtu_answer(0xF7, &plain(start, count))];
        Reaction::Late(answer.clone(), answer)
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    config.blocks = Some(vec![BlockName::Running, BlockName::Meter]);
    let collector = Collecting::start(collecting(config), Arc::new(WallClock));
    // In the first cycle the question who it is stands between the two.
    for point in collector.points(2).await {
        assert_eq!(value(&point, "pv1_voltage"), Some(&FieldValue::Float(25.8)));
        assert_eq!(value(&point, "meter_frequency"), Some(&FieldValue::Float(7.72)));
    }
    collector.stop().await;
}

#[tokio::test]
async fn a_late_answer_of_the_same_size_is_not_taken_for_another_block() {
    // The first answer to "running" comes when its time is over and the next request is out.
    let fake = Fake::start(Transport::Udp, |number, start, count| match number {
        0 => Reaction::Late(vec![], vec![rtu_answer(0xF7, &vec![0x1111; usize::from(count)])]),
        _ => Reaction::Words(plain(start, count)),
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    config.timeout = Interval::from_millis(150);
    config.retries = 1;
    config.blocks = Some(vec![BlockName::Running, BlockName::Meter]);
    let probe = probe(&config).await.unwrap();
    assert_eq!(found(&probe, "pv1_voltage"), Some(FieldValue::Float(25.8)));

    // The same between two blocks of one size, with no request repeated between them.
    let fake = Fake::start(Transport::Udp, |_, start, count| match (start, count) {
        (36000, 125) => Reaction::Late(vec![], vec![rtu_answer(0xF7, &[0x1111; 125])]),
        _ => Reaction::Words(plain(start, count)),
    })
    .await;
    config.port = Some(fake.address.port());
    config.retries = 0;
    let probe = wattlog_collector::probe(&config).await.unwrap();
    assert_eq!(found(&probe, "meter_frequency"), Some(FieldValue::Float(7.72)));
}

#[tokio::test]
async fn a_late_refusal_does_not_disable_the_block_that_is_asked_next() {
    let fake = Fake::start(Transport::Udp, |_, start, count| match start {
        37000 => Reaction::Late(vec![], vec![rtu_refusal(0xF7, Refusal::ILLEGAL_DATA_ADDRESS)]),
        _ => Reaction::Words(plain(start, count)),
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    config.timeout = Interval::from_millis(150);
    let probe = probe(&config).await.unwrap();
    assert_eq!(probe.refused, []);
    assert!(found(&probe, "meter_long_export_energy").is_some(), "not even its longest form");
    assert!(found(&probe, "battery_soc").is_none() && found(&probe, "pv_channels").is_some());
}

#[tokio::test]
async fn a_split_answer_whose_second_half_is_lost_is_asked_for_again() {
    let fake = Fake::start(Transport::Udp, |number, start, count| {
        let mut first = rtu_answer(0xF7, &plain(start, count));
        let second = first.split_off(100.min(first.len() / 2));
        Reaction::Send(if number == 0 { vec![first] } else { vec![first, second] })
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    config.timeout = Interval::from_millis(150);
    config.retries = 1;
    let probe = probe(&config).await.unwrap();
    assert_eq!(found(&probe, "pv1_voltage"), Some(FieldValue::Float(25.8)));
    assert_eq!(found(&probe, "meter_frequency"), Some(FieldValue::Float(7.72)));
}

#[tokio::test]
async fn a_block_with_short_answers_leaves_its_own_fields_out() {
    for transport in TRANSPORTS {
        let fake = Fake::start(transport, |_, start, count| {
            let count = if start == 37000 { count - 4 } else { count };
            Reaction::Words(plain(start, count))
        })
        .await;
        let mut config = device(transport, fake.address);
        config.timeout = Interval::from_millis(150);
        let probe = probe(&config).await.unwrap();
        assert_eq!(found(&probe, "battery_soc"), None, "{transport:?}");
        assert_eq!(probe.refused, [], "short is not refused");
        assert_eq!(found(&probe, "pv1_voltage"), Some(FieldValue::Float(25.8)));
        assert_eq!(found(&probe, "meter_frequency"), Some(FieldValue::Float(7.72)));
    }
}

#[tokio::test]
async fn a_meter_that_refuses_or_ignores_its_long_forms_is_read_in_the_shortest() {
    for transport in TRANSPORTS {
        for refuses in [true, false] {
            let fake = Fake::start(transport, move |_, start, count| match (start, count) {
                (36000, 46..) if refuses => Reaction::Refuse(Refusal::ILLEGAL_DATA_ADDRESS),
                (36000, 46..) => Reaction::Keep,
                _ => Reaction::Words(plain(start, count)),
            })
            .await;
            let mut config = device(transport, fake.address);
            config.timeout = Interval::from_millis(150);
            let probe = probe(&config).await.unwrap();
            assert_eq!(found(&probe, "meter_frequency"), Some(FieldValue::Float(7.72)), "{transport:?}");
            assert_eq!(found(&probe, "meter_voltage_l1"), None);
            assert_eq!(probe.refused, []);
        }
    }
}

#[tokio::test]
async fn an_inverter_that_does_not_say_who_it_is_is_polled_all_the_same() {
    for transport in TRANSPORTS {
        let fake = Fake::start(transport, |_, start, count| match start {
            35000 => Reaction::Keep,
            _ => Reaction::Words(plain(start, count)),
        })
        .await;
        let mut config = device(transport, fake.address);
        config.timeout = Interval::from_millis(150);
        let probe = probe(&config).await.unwrap();
        assert_eq!(found(&probe, "pv1_voltage"), Some(FieldValue::Float(25.8)), "{transport:?}");
        assert!(found(&probe, "battery2_power").is_some(), "it may have one");
    }
}

#[tokio::test]
async fn a_busy_device_is_asked_again_after_a_rest() {
    let fake = Fake::start(Transport::Udp, |number, _, count| match number {
        0 | 1 | 3 => Reaction::Refuse(Refusal::BUSY),
        _ => Reaction::Words(vec![0; usize::from(count)]),
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    running_only(&mut config);
    config.retries = 2;
    let begun = std::time::Instant::now();
    assert!(!probe(&config).await.unwrap().readings.is_empty());
    // 200 ms and 400 ms for the running block, 200 ms for the identity.
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn repeated_requests_keep_the_pause_too() {
    let fake = Fake::start(Transport::Udp, |number, start, count| match number {
        0..=2 => Reaction::Send(vec![vec![0xAA]]),
        _ => Reaction::Words(plain(start, count)),
    })
    .await;
    let mut config = device(Transport::Udp, fake.address);
    running_only(&mut config);
    config.timeout = Interval::from_millis(100);
    config.pause = Interval::from_millis(150);
    config.retries = 3;
    let begun = std::time::Instant::now();
    assert!(!probe(&config).await.unwrap().readings.is_empty());
    // Three time-outs, and a pause before each request but the first.
    assert!(begun.elapsed() >= Duration::from_millis(3 * 100 + 4 * 150), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_tcp_answer_of_another_size_is_refused_and_an_odd_one_does_no_harm() {
    for (byte_count, data) in [(4_u8, vec![1_u8; 4]), (251, vec![1; 251]), (255, vec![1; 255]), (0, vec![])] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = device(Transport::Tcp, listener.local_addr().unwrap());
        running_only(&mut config);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 12];
                while stream.read_exact(&mut request).await.is_ok() {
                    let mut frame = vec![request[0], request[1], 0, 0, 0, 99, 0xF7, 3, byte_count];
                    frame.extend(&data);
                    stream.write_all(&frame).await.unwrap();
                }
            }
        });
        let error = probe(&config).await.unwrap_err();
        assert!(matches!(error, ReadError::Malformed(_)), "{byte_count}: {error:?}");
        task.abort();
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_opened_again_in_the_same_cycle() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = device(Transport::Tcp, listener.local_addr().unwrap());
    running_only(&mut config);
    config.retries = 1;
    let task = tokio::spawn(async move {
        // Answers one request per connection, then hangs up, as some dongles do.
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            if stream.read_exact(&mut request).await.is_err() {
                continue;
            }
            let words = request[11];
            let mut frame = vec![request[0], request[1], 0, 0, 0, 3 + 2 * words, 0xF7, 3, 2 * words];
            frame.extend(vec![0; 2 * usize::from(words)]);
            stream.write_all(&frame).await.unwrap();
        }
    });
    assert!(!probe(&config).await.unwrap().readings.is_empty());
    task.abort();
}

#[tokio::test]
async fn the_doubled_datagram_of_a_recorded_night_is_replayed_as_it_came() {
    let captures = Captures::load(&own_captures(), Some("night")).await.unwrap();
    let simulator = Running::start(Source::Captures(captures)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = wattlog_collector::modbus::rtu_request(0xF7, 35100, 125);
    socket.send_to(&request, simulator.udp).await.unwrap();
    let mut buffer = [0; 1024];
    assert_eq!(socket.recv(&mut buffer).await.unwrap(), 514);
    assert_eq!(buffer[..257], buffer[257..514]);
    let probe = probe(&simulator.device(Transport::Udp)).await.unwrap();
    assert!(probe.readings.iter().any(|reading| reading.register.field == "battery_power"));
    simulator.stop().await;
}
