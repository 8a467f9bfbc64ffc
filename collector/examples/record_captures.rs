//! Writes the synthetic captures that the project carries: asks the live simulator over UDP and TCP and keeps the bytes
//! of its answers, with an index of what a decoder must find in them.
//!
//! `cargo run -p wattlog-collector --example record_captures -- collector/captures`

use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::{DeviceConfig, Family, FieldChoice, Transport};
use wattlog_collector::goodwe::Assembler;
use wattlog_collector::goodwe::registers::{Coding, Use, blocks, derived};
use wattlog_collector::modbus::{REFUSAL, rtu_request};
use wattlog_collector::probe;
use wattlog_collector::simulator::{Faults, Place, Plant, Simulator, SimulatorOptions, Source};
use wattlog_model::{FieldValue, ManualClock, Timestamp};

const SEED: u64 = 20_260_621;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("give the folder to write to")?);
    tokio::fs::create_dir_all(&folder).await?;
    let mut index = Map::new();
    for recording in [
        Recording { name: "noon", at: "2026-06-21T10:40:00Z", family: Family::Et, faults: Faults::default() },
        Recording {
            name: "night",
            at: "2026-01-17T00:30:10Z",
            family: Family::Et,
            faults: Faults { doubled: true, ..Faults::default() },
        },
        Recording {
            name: "grid-only",
            at: "2026-04-11T13:05:00Z",
            family: Family::Dt,
            faults: Faults::default(),
        },
    ] {
        let name = recording.name;
        index.insert(name.to_owned(), recording.write(&folder).await?);
    }
    let text = serde_json::to_string_pretty(&Value::Object(index))?;
    tokio::fs::write(folder.join("expected.json"), text + "\n").await?;
    Ok(())
}

struct Recording {
    name: &'static str,
    at: &'static str,
    family: Family,
    faults: Faults,
}

impl Recording {
    async fn write(self, folder: &Path) -> Result<Value, Box<dyn std::error::Error>> {
        let instant: jiff::Timestamp = self.at.parse()?;
        let clock = Arc::new(ManualClock::new(Timestamp(instant.as_second() * 1_000_000_000)));
        let loopback: Option<SocketAddr> = Some(([127, 0, 0, 1], 0).into());
        let source = Source::Live { plant: Plant::new(SEED, Place::default()), clock };
        let options = SimulatorOptions {
            tcp: loopback,
            udp: loopback,
            discovery: None,
            source,
            faults: self.faults.clone(),
        };
        let simulator = Simulator::bind(options).await?;
        let (tcp, udp) = (simulator.tcp_addr().ok_or("no TCP")?, simulator.udp_addr().ok_or("no UDP")?);
        let stop = CancellationToken::new();
        let running = tokio::spawn(simulator.run(stop.clone()));

        let unit = self.family.default_unit();
        let wanted: &[(&str, u16, u16)] = match self.family {
            Family::Et => &[
                ("device_info", 35000, 33),
                ("running", 35100, 125),
                ("battery", 37000, 24),
                ("battery2", 39000, 22),
                ("meter", 36000, 125),
                ("meter_short", 36000, 45),
            ],
            Family::Dt => &[("device_info", 30001, 40), ("running", 30100, 73), ("meter", 30195, 15)],
        };
        let mut reads = Vec::new();
        for (what, start, count) in wanted {
            // The grid-only inverter is recorded over TCP, the hybrid over UDP.
            let answer = match self.family {
                Family::Et => ask_udp(udp, &rtu_request(unit, *start, *count)).await?,
                Family::Dt => ask_tcp(tcp, unit, *start, *count).await?,
            };
            let function = match self.family {
                Family::Et => answer[3],
                Family::Dt => answer[7],
            };
            let result = if function & REFUSAL != 0 {
                "ILLEGAL DATA ADDRESS".to_owned()
            } else {
                let file = format!("{}_{what}.hex", self.name);
                let hex = answer.iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                });
                tokio::fs::write(folder.join(&file), hex + "\n").await?;
                file
            };
            reads.push(json!({"start": start, "count": count, "result": result}));
        }
        let sensors = self.sensors(udp).await?;
        stop.cancel();
        running.await??;
        Ok(json!({"at": self.at, "reads": reads, "sensors": sensors}))
    }

    /// What the decoder finds; checked by eye once, held by the test from then on.
    async fn sensors(&self, udp: SocketAddr) -> Result<Value, Box<dyn std::error::Error>> {
        let mut config = DeviceConfig::new("roof", &udp.ip().to_string());
        config.transport = Transport::Udp;
        config.port = Some(udp.port());
        config.family = self.family;
        let probe = probe(&config).await?;
        let mut sensors = Map::new();
        for reading in &probe.readings {
            let register = reading.register;
            let value = match &reading.value {
                Some(FieldValue::Integer(seconds)) if register.coding == Coding::Clock => {
                    let shown = jiff::Timestamp::from_second(*seconds)?.to_string();
                    json!(shown.trim_end_matches('Z'))
                }
                value => serde_json::to_value(value)?,
            };
            let coding = match register.coding {
                Coding::U16 => "u16",
                Coding::I16 => "i16",
                Coding::U32 => "u32",
                Coding::I32 => "i32",
                Coding::U64 => "u64",
                Coding::F32 => "f32",
                Coding::ByteHigh => "i8_high",
                Coding::ByteLow => "i8_low",
                Coding::Clock => "datetime6",
            };
            let unit = if register.coding == Coding::Clock { "" } else { register.unit };
            let mut entry = json!({
                "value": value, "unit": unit, "register": register.address, "type": coding,
                "divisor": register.divisor,
            });
            if reading.value.is_none() {
                entry["sentinel"] = json!(true);
            }
            sensors.insert(register.field.to_owned(), entry);
        }
        let fields =
            Assembler::new(self.family, FieldChoice::All).fields(&mut probe.readings.clone(), Timestamp(0));
        let known: Vec<&str> = blocks(self.family)
            .iter()
            .flat_map(|block| block.registers)
            .filter(|register| register.used != Use::Part)
            .map(|register| register.field)
            .collect();
        for derived in derived(self.family) {
            let value = fields.iter().find(|(name, _)| name == derived.field);
            if let Some((name, FieldValue::Float(number))) =
                value.filter(|(name, _)| !known.contains(&name.as_str()))
            {
                sensors
                    .insert(name.clone(), json!({"value": number, "unit": derived.unit, "calculated": true}));
            }
        }
        Ok(Value::Object(sensors))
    }
}

async fn ask_udp(to: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.send_to(request, to).await?;
    let mut buffer = vec![0; 1024];
    let len = socket.recv(&mut buffer).await?;
    buffer.truncate(len);
    Ok(buffer)
}

async fn ask_tcp(to: SocketAddr, unit: u8, start: u16, count: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    let mut request = vec![0x81, 0x03, 0, 0, 0, 6, unit, 3];
    request.extend(start.to_be_bytes());
    request.extend(count.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = vec![0; 6];
    stream.read_exact(&mut answer).await?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([answer[4], answer[5]]))];
    stream.read_exact(&mut rest).await?;
    answer.extend(rest);
    Ok(answer)
}
