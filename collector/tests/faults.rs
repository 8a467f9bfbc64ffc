//! What dongles and inverters do wrong, one by one, through real sockets over both transports.

mod common;

use common::{Running, TRANSPORTS, device, own_captures};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use wattlog_collector::config::{BlockName, DeviceConfig, Transport};
use wattlog_collector::modbus::{Malformed, ReadError, Refusal, parse_rtu_request, rtu_answer, rtu_refusal};
use wattlog_collector::simulator::{Captures, Faults, Place, Plant, Source};
use wattlog_collector::{Probe, probe};
use wattlog_model::{ManualClock, Timestamp};

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
async fn a_device_that_refuses_everything_says_so_and_gives_nothing() {
    for transport in TRANSPORTS {
        for code in [1, 2, 4, 11] {
            let (faulty, _) =
                probe_with(transport, Faults { exception: Some(code), ..Faults::default() }).await;
            let probe = faulty.unwrap();
            assert!(probe.readings.is_empty(), "{transport:?} {code}");
            assert_eq!(probe.info, wattlog_collector::goodwe::DeviceInfo::default());
            // Only "no such function" and "no such address" disable a block; failures pass.
            let disabled = if code <= 2 { vec![BlockName::Battery, BlockName::Meter] } else { vec![] };
            assert_eq!(probe.refused, disabled, "{transport:?} {code}");
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

/// A UDP device that answers what `answer` makes of each request (its number, start, count).
async fn udp_device(
    mut answer: impl FnMut(usize, u16, u16) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 64];
        for number in 0.. {
            let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { return };
            let (_, start, count) = parse_rtu_request(&buffer[..len]).expect("nothing but reads is asked");
            for datagram in answer(number, start, count) {
                let _ = socket.send_to(&datagram, peer).await;
            }
        }
    });
    (address, task)
}

fn running_only(config: &mut DeviceConfig) {
    config.blocks = Some(vec![BlockName::Running]);
}

#[tokio::test]
async fn a_datagram_with_another_byte_count_is_no_answer() {
    let (address, task) = udp_device(|_, start, count| {
        let count = if start == 35100 { count - 1 } else { count };
        vec![rtu_answer(0xF7, &vec![7; usize::from(count)])]
    })
    .await;
    let mut config = device(Transport::Udp, address);
    running_only(&mut config);
    let error = probe(&config).await.unwrap_err();
    let expected = Malformed::ByteCount { expected: 250, found: 248 };
    assert!(matches!(error, ReadError::Malformed(found) if found == expected), "{error:?}");
    task.abort();
}

#[tokio::test]
async fn a_damaged_datagram_is_no_answer_and_asked_for_again() {
    let (address, task) = udp_device(|number, _, count| {
        let mut frame = rtu_answer(0xF7, &vec![7; usize::from(count)]);
        if number == 1 {
            frame[20] ^= 0x10;
        }
        vec![frame]
    })
    .await;
    let mut config = device(Transport::Udp, address);
    running_only(&mut config);
    let error = probe(&config).await.unwrap_err();
    assert!(matches!(error, ReadError::Malformed(Malformed::Checksum { .. })), "{error:?}");
    config.retries = 1;
    assert!(!probe(&config).await.unwrap().readings.is_empty());
    task.abort();
}

#[tokio::test]
async fn a_late_answer_to_an_earlier_read_is_drained_before_the_next() {
    // Answers to the identity come twice, the second time with the byte count of the running block, ahead of its
    // request: taken for its answer, every value would be 0x1111.
    let (address, task) = udp_device(|_, start, count| {
        let mut datagrams = vec![rtu_answer(0xF7, &vec![0x0102; usize::from(count)])];
        if start == 35000 {
            datagrams.push(rtu_answer(0xF7, &[0x1111; 125]));
        }
        datagrams
    })
    .await;
    let mut config = device(Transport::Udp, address);
    running_only(&mut config);
    config.pause = wattlog_collector::config::Interval::from_millis(50);
    let probe = probe(&config).await.unwrap();
    let voltage = probe.readings.iter().find(|reading| reading.register.field == "pv1_voltage").unwrap();
    assert_eq!(voltage.value, Some(wattlog_model::FieldValue::Float(f64::from(0x0102) / 10.0)));
    task.abort();
}

#[tokio::test]
async fn a_busy_device_is_asked_again() {
    let (address, task) = udp_device(|number, _, count| {
        vec![if number % 2 == 0 {
            rtu_refusal(0xF7, Refusal::BUSY)
        } else {
            rtu_answer(0xF7, &vec![0; usize::from(count)])
        }]
    })
    .await;
    let mut config = device(Transport::Udp, address);
    running_only(&mut config);
    config.retries = 1;
    assert!(!probe(&config).await.unwrap().readings.is_empty());
    task.abort();
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
