//! The simulator as others see it: a Modbus server for any client, a UDP responder that ignores what is no question.

mod common;

use common::{Running, own_captures};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_modbus::client::{Reader, Writer, tcp};
use tokio_modbus::{ExceptionCode, Slave};
use tokio_util::sync::CancellationToken;
use wattlog_collector::modbus::{Answer, crc16, parse_rtu_answer, rtu_request};
use wattlog_collector::simulator::{Captures, Faults, Place, Plant, Simulator, SimulatorOptions, Source};
use wattlog_model::{ManualClock, Timestamp};

async fn live() -> Running {
    let clock = Arc::new(ManualClock::new(Timestamp(1_767_225_600_000_000_000)));
    Running::start(Source::Live { plant: Plant::new(5, Place::default()), clock }).await
}

#[tokio::test]
async fn any_modbus_client_reads_and_none_writes() {
    let simulator = live().await;
    let mut client = tcp::connect_slave(simulator.tcp, Slave(0xF7)).await.unwrap();
    let words = client.read_holding_registers(35100, 125).await.unwrap().unwrap();
    assert_eq!(words.len(), 125);
    // 1 January 2026, 01:00 by the inverter's clock.
    assert_eq!(words[..3], [0x1A01, 0x0101, 0x0000]);
    assert_eq!(client.read_holding_registers(35121, 1).await.unwrap().unwrap(), words[21..22]);
    for (start, count) in [(35224, 2), (47000, 1)] {
        let refused = client.read_holding_registers(start, count).await.unwrap();
        assert_eq!(refused, Err(ExceptionCode::IllegalDataAddress), "{start}");
    }
    assert_eq!(client.read_holding_registers(35100, 0).await.unwrap(), Err(ExceptionCode::IllegalDataValue));
    assert_eq!(
        client.read_holding_registers(35100, 126).await.unwrap(),
        Err(ExceptionCode::IllegalDataValue)
    );
    assert_eq!(client.read_input_registers(35100, 1).await.unwrap(), Err(ExceptionCode::IllegalFunction));
    assert_eq!(client.write_single_register(47000, 1).await.unwrap(), Err(ExceptionCode::IllegalFunction));
    simulator.stop().await;
}

#[tokio::test]
async fn a_unit_that_is_not_there_keeps_silent() {
    let simulator = live().await;
    let mut client = tcp::connect_slave(simulator.tcp, Slave(1)).await.unwrap();
    let asked = timeout(Duration::from_millis(200), client.read_holding_registers(35100, 1)).await;
    assert!(asked.is_err());
    simulator.stop().await;
}

#[tokio::test]
async fn several_clients_are_served_at_once_and_all_see_the_same() {
    let simulator = live().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(tcp::connect_slave(simulator.tcp, Slave(0xF7)).await.unwrap());
    }
    let mut answers = Vec::new();
    for client in &mut clients {
        answers.push(client.read_holding_registers(36000, 45).await.unwrap().unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    simulator.stop().await;
}

#[tokio::test]
async fn datagrams_that_are_no_question_are_ignored() {
    let simulator = live().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut write = [0xF7, 6, 0xB7, 0x98, 0, 1, 0, 0];
    let checksum = crc16(&write[..6]).to_le_bytes();
    write[6..].copy_from_slice(&checksum);
    let good = rtu_request(0xF7, 37000, 24);
    let mut damaged = good;
    damaged[3] ^= 1;
    for datagram in [&b""[..], b"WIFIKIT-214028-READ", &write, &damaged, &good[..7], &[0; 400]] {
        socket.send_to(datagram, simulator.udp).await.unwrap();
    }
    socket.send_to(&good, simulator.udp).await.unwrap();
    let mut buffer = [0; 512];
    let len = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(matches!(parse_rtu_answer(&buffer[..len], 0xF7, 24), Ok(Answer::Words(_))));
    let more = timeout(Duration::from_millis(100), socket.recv(&mut buffer)).await;
    assert!(more.is_err(), "one question, one answer");
    simulator.stop().await;
}

#[tokio::test]
async fn who_is_there_is_answered_with_address_mac_and_name() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_767_225_600_000_000_000)));
    let options = SimulatorOptions {
        tcp: None,
        udp: None,
        discovery: Some(([127, 0, 0, 1], 0).into()),
        source: Source::Live { plant: Plant::new(5, Place::default()), clock },
        faults: Faults::default(),
    };
    let simulator = Simulator::bind(options).await.unwrap();
    let (address, stop) = (simulator.discovery_addr().unwrap(), CancellationToken::new());
    let running = tokio::spawn(simulator.run(stop.clone()));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for question in ["who", "WIFIKIT-214028-READ"] {
        socket.send_to(question.as_bytes(), address).await.unwrap();
    }
    let mut buffer = [0; 64];
    let len = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.unwrap().unwrap();
    let answer = std::str::from_utf8(&buffer[..len]).unwrap();
    assert!(answer.starts_with("127.0.0.1,") && answer.split(',').count() == 3, "{answer}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_simulator_replays_all_installations_of_a_folder_by_their_units() {
    let captures = Captures::load(&own_captures(), None).await.unwrap();
    assert_eq!(captures.units(), [0x7F, 0xF7]);
    let simulator = Running::start(Source::Captures(captures)).await;
    for (unit, start, count) in [(0x7F, 30100, 73), (0xF7, 35100, 125)] {
        let mut client = tcp::connect_slave(simulator.tcp, Slave(unit)).await.unwrap();
        let words = client.read_holding_registers(start, count).await.unwrap().unwrap();
        assert_eq!(words.len(), usize::from(count));
    }
    simulator.stop().await;
}
