//! The real binary under test: started on port 0 with a folder of its own, asked over plain sockets, killed by its own id.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod confine;
pub mod hostile;
pub mod load;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for anything that should come at once; a loaded machine gets its time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `wattlog` with a clean environment: nothing of this machine's configuration reaches it.
pub fn wattlog(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattlog"));
    let kept =
        ["PATH", "LLVM_PROFILE_FILE"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept).env("HOME", folder).env("TZ", "UTC").current_dir(folder);
    command
}

/// A running server.
pub struct Server {
    child: Child,
    pub address: String,
    data: PathBuf,
    log: mpsc::Receiver<String>,
    /// Lines that were read while looking for others.
    seen: Vec<String>,
}

impl Server {
    /// Starts `serve` on `data`, with `config` as its file, and waits until it is ready.
    pub fn start(data: &Path, config: &str) -> Self {
        Self::start_within(data, config, |command| command)
    }

    /// The same through a launcher: what `launch` makes of the command keeps its process id.
    pub fn start_within(data: &Path, config: &str, launch: impl FnOnce(Command) -> Command) -> Self {
        let folder = data.parent().expect("the data folder lies in one of the test's own");
        let file = folder.join("wattlog.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = wattlog(folder);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "info", "--data"]).arg(data);
        command.arg("--config").arg(&file);
        let mut child = launch(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), data: data.to_owned(), log, seen: Vec::new() };
        let line = server.wait_for("listening");
        server.address = line["address"].as_str().expect("an address in the log line").to_owned();
        server.until("ready", |server| server.try_get("/ready").is_some_and(|(status, _)| status == 200));
        server
    }

    /// The next log line with that message.
    pub fn wait_for(&mut self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                panic!("no log line {message:?}; the log was:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == message {
                return json;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Log lines so far that nobody waited for.
    pub fn log_so_far(&mut self) -> &[String] {
        self.seen.extend(self.log.try_iter());
        &self.seen
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a power cut leaves of a process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// TERM, and the status it leaves with.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        let status = wait(&mut self.child);
        let errors: Vec<String> =
            self.log.try_iter().chain(self.seen.drain(..)).filter(|l| is_error(l)).collect();
        assert!(errors.is_empty(), "an ERROR nobody announced: {errors:#?}");
        status
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn try_get(&self, target: &str) -> Option<(u16, String)> {
        request(&self.address, "GET", target, b"").ok()
    }

    pub fn get(&self, target: &str) -> Value {
        let (status, body) = request(&self.address, "GET", target, b"").unwrap();
        assert_eq!(status, 200, "GET {target}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {target}: {error}: {body}"))
    }

    pub fn post(&self, target: &str, body: &[u8]) -> (u16, String) {
        request(&self.address, "POST", target, body).unwrap()
    }

    /// Waits until `done`, or fails with `what`.
    pub fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain for: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_error(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|json| json["level"] == "ERROR")
        || line.contains("panicked at")
}

/// Lines of a pipe, without ever blocking the one who writes them.
pub fn lines(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for a process to leave by itself.
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not leave");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One request on a connection of its own.
pub fn request(address: &str, method: &str, target: &str, body: &[u8]) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let broken = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the answer breaks off");
    let end = reply.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&reply[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
    let mut body = reply.split_off(end + 4);
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body).ok_or_else(broken)?;
    } else if let Some(rest) = head.split("content-length: ").nth(1) {
        let length: usize =
            rest.lines().next().and_then(|text| text.trim().parse().ok()).ok_or_else(broken)?;
        if body.len() < length {
            return Err(broken());
        }
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = bytes.windows(2).position(|part| part == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        bytes = &bytes[end + 2..];
        if length == 0 {
            return Some(out);
        }
        out.extend_from_slice(bytes.get(..length)?);
        bytes = bytes.get(length + 2..)?;
    }
}

/// How often, or which: `WATTLOG_KILLS`, `WATTLOG_SEED`.
pub fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A small generator of numbers, the same for the same seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}
