//! As much of HTTP/1.1 as the simulated services need: one request per connection, and answers that are wrong on purpose.

use jiff::civil::Date;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) struct Request {
    /// Path and query as they came.
    pub(super) target: String,
    pub(super) path: String,
    query: String,
    if_none_match: Option<String>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Whole(Vec<u8>),
    /// A byte every 50 ms.
    Slow(Vec<u8>),
    Endless,
    /// Not even a head.
    None,
}

impl Request {
    /// The decoded value of a key, if the query has it.
    pub(super) fn query(&self, key: &str) -> Option<String> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(name, _)| decoded(name) == key).map(|(_, value)| decoded(value)).next()
    }

    pub(super) fn date(&self, key: &str) -> Option<Date> {
        self.query(key)?.parse().ok()
    }
}

fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            b'+' => b' ',
            other => other,
        };
        out.push(decoded);
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Answer {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.as_bytes().to_vec()) }
    }

    pub(super) fn json(body: &serde_json::Value) -> Self {
        Self::text(200, &body.to_string())
    }

    /// Not modified, if the client has the same.
    pub(super) fn with_etag(mut self, request: &Request) -> Self {
        let Body::Whole(body) = &self.body else { return self };
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = format!("\"{:x}\"", hasher.finish());
        if self.status == 200 && request.if_none_match.as_deref() == Some(&etag) {
            return Self { status: 304, headers: Vec::new(), body: Body::Whole(Vec::new()) };
        }
        self.headers.push(("ETag", etag));
        self
    }
}

/// Reads one request and answers it. A client that goes away ends it.
pub(super) async fn serve(mut stream: TcpStream, answer: impl Fn(&Request) -> Answer) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 2_048];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 && head.len() < MAX_HEAD_BYTES => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()) else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let condition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("if-none-match").then(|| value.trim().to_owned())
    });
    let request = Request {
        target: target.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        if_none_match: condition,
    };
    let _client_gone = write(&mut stream, answer(&request)).await;
}

async fn write(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} said\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    match answer.body {
        Body::None => {}
        Body::Whole(body) => {
            head += &format!("Content-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Body::Slow(body) => {
            head += &format!("Content-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            for byte in body {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Body::Endless => {
            stream.write_all((head + "\r\n").as_bytes()).await?;
            loop {
                stream.write_all(&[b' '; 64 * 1024]).await?;
            }
        }
    }
    stream.shutdown().await
}

const MAX_HEAD_BYTES: usize = 16 * 1024;
