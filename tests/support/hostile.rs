//! Clients that ask for all they can get, and some that behave worse.

use super::load::ROWS;
use super::{Dice, request};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What became of requests: number of answers by kind of client and status; 0 is no answer.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<(&'static str, u16), u64>>);

impl Answers {
    fn note(&self, client: &'static str, answer: &std::io::Result<(u16, String)>) {
        let status = answer.as_ref().map_or(0, |(status, _)| *status);
        *self.0.lock().unwrap().entry((client, status)).or_default() += 1;
    }

    pub fn with_status(&self, wanted: &[u16]) -> u64 {
        self.0.lock().unwrap().iter().filter(|((_, s), _)| wanted.contains(s)).map(|(_, count)| count).sum()
    }

    pub fn table(&self) -> String {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .map(|((client, status), count)| format!("  {client:<12} {status:>3} {count:>8}\n"))
            .collect()
    }
}

/// What is shared by all clients of a run.
#[derive(Debug)]
pub struct Field {
    pub address: String,
    pub over: AtomicBool,
    pub answers: Answers,
    /// Next number of a series that nobody wrote yet.
    next_series: AtomicU64,
}

/// A client: what it does in one turn.
pub type Client = fn(&Field, &mut Dice);

/// Every kind of client, with its name and how many of it there are.
pub const CLIENTS: [(&str, Client, usize); 8] = [
    ("query", ask, 8),
    ("slow reader", do_not_read, 4),
    ("deserter", leave_early, 2),
    ("bomb", send_bomb, 2),
    ("giant", send_giant, 2),
    ("inventor", invent_series, 1),
    ("crowd", hold_connections, 1),
    ("admin", command, 1),
];

impl Field {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            over: AtomicBool::new(false),
            answers: Answers::default(),
            next_series: AtomicU64::new(0),
        }
    }

    /// One client, until the run is over.
    pub fn run(&self, client: Client, mut dice: Dice) {
        while !self.over.load(Ordering::Relaxed) {
            client(self, &mut dice);
        }
    }

    fn send(&self, client: &'static str, method: &str, target: &str, body: &[u8]) {
        let answer = request(&self.address, method, target, body);
        self.answers.note(client, &answer);
        if answer.is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits, but not beyond the end of the run.
    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

const ALL: &str = "start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";
/// The hours in which the writers' points lie.
const HOURS: &str = "start=2026-06-01T00:00:00Z&end=2026-06-01T06:00:00Z";

/// Everything of everything, by every way there is.
fn questions() -> Vec<String> {
    let load = format!("/api/v1/query?db=load&measurement=load&{ALL}");
    let hours = format!("/api/v1/query?db=load&measurement=load&{HOURS}");
    let wide = format!("/api/v1/query?db=hostile&measurement=wide&{ALL}");
    let many = format!("/api/v1/query?db=hostile&measurement=many&{ALL}");
    let mut all = Vec::new();
    for format in ["json", "csv", "ndjson"] {
        all.push(format!("{load}&format={format}"));
        all.push(format!("{load}&format={format}&limit=1000000&order=desc"));
        all.push(format!("{many}&format={format}"));
    }
    for functions in
        ["median", "p99.9,distinct", "mode,stddev,spread", "mean,min,max,first,last,count,sum,median,mode"]
    {
        all.push(format!("{load}&fn={functions}"));
        all.push(format!("{hours}&fn={functions}&every=100ms"));
        all.push(format!("{hours}&fn={functions}&every=21ms&fill=null"));
        all.push(format!("{hours}&fn={functions}&every=1s&group_by=*"));
        all.push(format!("{wide}&fn={functions}&every=1h&fill=previous"));
        all.push(format!("{many}&fn={functions}&group_by=*"));
        all.push(format!("{many}&fn={functions}&group_by=id,other,third&every=1h&fill=0"));
    }
    all.push(format!("{load}&pixels=100000"));
    all.push(format!("{hours}&pixels=100000&group_by=*"));
    all.push(format!("{load}&shape=grid&buckets=10000"));
    all.push(format!("{wide}&pixels=20000"));
    all.push(format!("{load}&where=h%3E10+and+not+n%3C5+or+tag.writer!='w0'"));
    all.push(format!("{many}&tag.id=~(a|b|[0-9]%2B)%2B.*7$&fn=count&group_by=id"));
    all.push(format!("{load}&tag.writer=~.*w.*&expr=h*n-h/(n%2B1)&as=x&fn=median,mode,distinct"));
    all.push(format!("{load}&expr=h*n&as=x&expr=h-n&as=y&expr=-h&as=z"));
    all.push(format!("{load}&then=cumulative_sum,moving_average(100000),derivative(1s),top(100000)"));
    all.push(format!("{hours}&fn=mean&every=50ms&then=difference,cumulative_sum,histogram(10000)"));
    all.push("/api/v1/last?db=hostile&measurement=many".to_owned());
    all.push("/api/v1/last?db=hostile&measurement=wide".to_owned());
    all.push("/api/v1/measurements/many/tags/id?db=hostile".to_owned());
    all.push("/api/v1/measurements/many?db=hostile".to_owned());
    all.push(format!("{load}&explain=1"));
    all
}

fn ask(field: &Field, dice: &mut Dice) {
    let questions = questions();
    let target = &questions[dice.roll(questions.len() as u64) as usize];
    let answer = request(&field.address, "GET", target, b"");
    if let Ok((status @ (400 | 404 | 500), body)) = &answer {
        // Right after the start there is nothing yet. All else is understood, and ours to answer.
        assert_eq!(*status, 404, "{target}: {body}");
    }
    field.answers.note("query", &answer);
}

/// Asks for much, reads a little of it and then holds the connection.
fn do_not_read(field: &Field, dice: &mut Dice) {
    let questions = questions();
    let target = &questions[dice.roll(9) as usize];
    let Ok(mut stream) = TcpStream::connect(&field.address) else { return };
    let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n");
    if dice.roll(2) == 0 {
        // Several questions on one connection, one behind the other.
        let _ = stream.write_all(head.repeat(20).as_bytes());
    } else {
        let _ = stream.write_all(head.replace("Accept-Encoding: gzip\r\n", "").as_bytes());
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
    let _ = stream.read(&mut [0; 100]);
    field.wait(Duration::from_secs(1 + dice.roll(10)));
    field.answers.note("slow reader", &Ok((0, String::new())));
}

/// Goes away in the middle of a body, or before its answer.
fn leave_early(field: &Field, dice: &mut Dice) {
    let Ok(mut stream) = TcpStream::connect(&field.address) else { return };
    if dice.roll(2) == 0 {
        let text = super::load::body(99, dice.roll(1000));
        let _ = write!(
            stream,
            "POST /write?db=hostile HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let _ = stream.write_all(&text.as_bytes()[..dice.roll(text.len() as u64) as usize]);
    } else {
        let questions = questions();
        let target = &questions[dice.roll(questions.len() as u64) as usize];
        let _ = write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        field.wait(Duration::from_millis(dice.roll(300)));
    }
    field.answers.note("deserter", &Ok((0, String::new())));
}

fn packed(text: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..times {
        encoder.write_all(text).unwrap();
    }
    encoder.finish().unwrap()
}

/// Packed bodies: zeros, one line again and again, and lines that do not repeat.
fn send_bomb(field: &Field, dice: &mut Dice) {
    let body = match dice.roll(3) {
        0 => packed(&[0; 1 << 16], 16_000),
        1 => packed(b"wide v=1\n", 3_500_000),
        _ => packed(super::load::body(77, dice.roll(1000)).as_bytes(), 100),
    };
    let head = format!(
        "POST /write?db=hostile HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..5 {
        let sent = || {
            let mut stream = TcpStream::connect(&field.address)?;
            stream.set_read_timeout(Some(super::PATIENCE))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            let status = reply.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
            Ok((status, String::new()))
        };
        field.answers.note("bomb", &sent());
        field.wait(Duration::from_millis(200));
    }
}

/// Bodies as long as may be: many rows, or rows with many fields.
fn send_giant(field: &Field, dice: &mut Dice) {
    let mut text = String::new();
    let time = 1_780_000_000 + dice.roll(1_000_000);
    if dice.roll(2) == 0 {
        for number in dice.roll(1000).. {
            text.push_str(&super::load::body(55, number));
            if text.len() > (31 << 20) {
                break;
            }
        }
    } else {
        for row in 0..ROWS {
            text.push_str("wide,of=giant ");
            let fields: Vec<String> = (0..400).map(|f| format!("f{f}={}", dice.roll(1 << 40))).collect();
            text.push_str(&format!("{} {}\n", fields.join(","), (time + row) * 1_000_000_000));
            if text.len() > (31 << 20) {
                break;
            }
        }
    }
    field.send("giant", "POST", "/write?db=hostile", text.as_bytes());
    field.wait(Duration::from_millis(500));
}

fn invent_series(field: &Field, dice: &mut Dice) {
    let first = field.next_series.fetch_add(2000, Ordering::Relaxed);
    let line = |id: u64| {
        format!(
            "many,id={id}a{},other=o{},third={} v={id}i,text=\"{id}\" 1780272000000000000\n",
            dice.0,
            id % 1000,
            id % 7
        )
    };
    let text: String = (first..first + 2000).map(line).collect();
    field.send("inventor", "POST", "/write?db=hostile", text.as_bytes());
    dice.roll(2);
}

/// Many connections at once, from an address of their own: some say nothing, some begin to say something.
fn hold_connections(field: &Field, dice: &mut Dice) {
    let mut held = Vec::new();
    for number in 0..700 {
        let Ok(mut stream) = connect_from(Ipv4Addr::new(127, 0, 0, 2), &field.address) else { break };
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /api/v1/query?measurement=");
            let _ = stream.write_all(&vec![b'x'; dice.roll(15_000) as usize]);
        }
        held.push(stream);
    }
    field.wait(Duration::from_secs(3));
    drop(held);
    field.wait(Duration::from_secs(2));
}

fn connect_from(own: Ipv4Addr, address: &str) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((own, 0).into())?;
        socket.connect(address.parse().expect("an address")).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn command(field: &Field, dice: &mut Dice) {
    field.wait(Duration::from_secs(1 + dice.roll(4)));
    let target =
        ["/api/v1/admin/seal", "/api/v1/admin/compact", "/api/v1/admin/scrub"][dice.roll(3) as usize];
    field.send("admin", "POST", target, b"");
}
