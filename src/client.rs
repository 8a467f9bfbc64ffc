//! A small HTTP client for the commands that talk to a running server. Plain HTTP/1.1, one connection, no TLS.

use crate::failure::{Failure, Kind};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_ENCODING, HOST, RETRY_AFTER};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;
use tokio::net::TcpStream;

/// An open connection to one server.
pub(crate) struct Client {
    base: Base,
    timeout: Duration,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// The message inside an error body of any of the dialects, or the body itself.
    pub(crate) fn message(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let part = json.as_ref().and_then(|json| json.get("message").or_else(|| json.get("error")));
        match part.and_then(|message| message.as_str()) {
            Some(message) => message.to_owned(),
            None if self.body.is_empty() => format!("status {}", self.status),
            None => self.text(),
        }
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a refusal is to whoever called this program.
    pub(crate) fn failure_kind(&self) -> Kind {
        match self.status {
            // The bytes that were sent are at fault.
            400 | 413 | 415 | 422 => Kind::Data,
            401 | 403 => Kind::Permission,
            408 | 429 => Kind::Unavailable,
            402..500 => Kind::Usage,
            _ => Kind::Unavailable,
        }
    }
}

/// `http://host:port/prefix` in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    authority: String,
    prefix: String,
}

impl Base {
    fn parse(url: &str) -> Result<Self, String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((other, _)) => return Err(format!("{url}: {other} is not spoken here, only http")),
            None => url,
        };
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') {
            return Err(format!("{url}: http://HOST:PORT is expected"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { authority, prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

impl Client {
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Failure> {
        let base = Base::parse(url).map_err(|message| Failure::new(Kind::Usage, message))?;
        Ok(Self { base, timeout, sender: None })
    }

    pub(crate) async fn get(&mut self, target: &str) -> Result<Reply, Failure> {
        self.send(Method::GET, target, Bytes::new(), None).await
    }

    pub(crate) async fn post_json(&mut self, target: &str, body: String) -> Result<Reply, Failure> {
        self.send(Method::POST, target, body.into(), None).await
    }

    /// Sends `body` packed with gzip.
    pub(crate) async fn post_packed(&mut self, target: &str, body: &[u8]) -> Result<Reply, Failure> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let packed = packer.write_all(body).and_then(|()| packer.finish());
        let packed = packed.map_err(|error| Failure::io("compress the body", &error))?;
        self.send(Method::POST, target, packed.into(), Some("gzip")).await
    }

    async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: Bytes,
        encoding: Option<&str>,
    ) -> Result<Reply, Failure> {
        let (place, timeout) = (format!("http://{}", self.base.authority), self.timeout);
        let exchange = async {
            let mut request = Request::builder()
                .method(method)
                .uri(format!("{}{target}", self.base.prefix))
                .header(HOST, &self.base.authority);
            if let Some(encoding) = encoding {
                request = request.header(CONTENT_ENCODING, encoding);
            }
            let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
            let sender = self.connect().await?;
            let answer = sender.send_request(request).await.map_err(|error| crate::failure::chain(&error))?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
            let retry_after = retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let body = answer.into_body().collect().await.map_err(|error| crate::failure::chain(&error))?;
            Ok::<_, String>(Reply { status, retry_after, body: body.to_bytes() })
        };
        let outcome = tokio::time::timeout(timeout, exchange).await;
        let failed = match outcome {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(message)) => message,
            Err(_) => format!("no answer within {timeout:?}"),
        };
        self.sender = None;
        Err(Failure::new(Kind::Unavailable, format!("{place}: {failed}")))
    }

    async fn connect(&mut self) -> Result<&mut http1::SendRequest<Full<Bytes>>, String> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(&self.base.authority).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| crate::failure::chain(&error))?;
            // Ends with the sender; its errors reach the request that was under way.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "not connected".to_owned())
    }
}

/// `path?key=value&...` with values percent-encoded.
pub(crate) fn target<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = path.to_owned();
    for (i, (key, value)) in pairs.into_iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        encode(key, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

pub(crate) fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Runs one command's conversation on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("start the runtime", &error))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_targets() {
        let base =
            |authority: &str, prefix: &str| Base { authority: authority.into(), prefix: prefix.into() };
        assert_eq!(Base::parse("http://127.0.0.1:8470").unwrap(), base("127.0.0.1:8470", ""));
        assert_eq!(Base::parse("box.lan/wattlog/").unwrap(), base("box.lan:80", "/wattlog"));
        assert_eq!(Base::parse("http://[::1]:9").unwrap(), base("[::1]:9", ""));
        assert_eq!(Base::parse("http://[::1]").unwrap(), base("[::1]:80", ""));
        assert!(Base::parse("https://box").unwrap_err().contains("only http"));
        assert!(Base::parse("http://").is_err());
        assert!(Base::parse("http://u:p@box").is_err());
        assert_eq!(target("/q", [("a b", "x&y=ż"), ("c", "-24h")]), "/q?a%20b=x%26y%3D%C5%BC&c=-24h");
    }
}
