//! One request over HTTP: bounded in time and bytes, with secrets kept out of every message.
//!
//! Invariants
//! 1. No call takes longer than the time-out, whatever the service does; no body grows beyond [`MAX_BODY_BYTES`],
//!    counted after decompression.
//! 2. No message holds the query's secret: addresses are shown with it replaced, as are all values that stand in the query
//!    of the configuration; what a service says is searched for the secret and for such values, unless they are short.
//! 3. Redirects are not followed: the next address would get the secret too.

use parking_lot::Mutex;
use reqwest::header::{
    ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, StatusCode, Url, redirect};
use std::time::Duration;
use wattlog_model::Timestamp;

/// Most bytes of one answer; a week of prices has a tenth of it.
pub(crate) const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Values of a configured query that are shorter are not searched for in what a service says.
const SHORTEST_SECRET_BYTES: usize = 6;
/// A service that asks for a longer rest is asked again after this.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Asks one service.
#[derive(Debug)]
pub(crate) struct Fetcher {
    timeout: Duration,
    secrets: Vec<String>,
    /// Keys of the configured address whose values are not shown.
    hidden_keys: Vec<String>,
    client: Mutex<Option<Client>>,
}

/// What proves that nothing has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

/// An answer that the service's parser decides on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fetched {
    /// The same as the answer that the validators belong to.
    Unchanged,
    Body {
        /// 200, or 400 or 404, by which some services say "no data".
        status: u16,
        body: Vec<u8>,
        validators: Option<Validators>,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GET {url}: {problem}")]
pub(crate) struct FetchError {
    pub(crate) url: String,
    pub(crate) problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("no client for HTTPS: {0}; check the certificates of this machine")]
    Client(String),
    #[error("no answer: {0}; check the network and the address")]
    Transport(String),
    #[error("no whole answer within {0:?}")]
    TooSlow(Duration),
    #[error("the answer is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    #[error("HTTP {status}{hint}")]
    Status { status: u16, hint: String, retry_after: Option<Duration> },
}

impl Fetcher {
    /// `base` is the configured address: what stands in its query may be a key.
    pub(crate) fn new(timeout: Duration, base: &Url, secret: Option<&str>) -> Self {
        let values = base.query_pairs().map(|(_, value)| value.into_owned());
        let values = values.filter(|value| value.len() >= SHORTEST_SECRET_BYTES);
        Self {
            timeout,
            secrets: secret
                .filter(|secret| !secret.is_empty())
                .map(str::to_owned)
                .into_iter()
                .chain(values)
                .collect(),
            hidden_keys: base.query_pairs().map(|(key, _)| key.into_owned()).collect(),
            client: Mutex::default(),
        }
    }

    /// One try. `now` is what a date in `Retry-After` is held against.
    pub(crate) async fn get(
        &self,
        url: &Url,
        known: Option<&Validators>,
        now: Timestamp,
    ) -> Result<Fetched, FetchError> {
        let answer = tokio::time::timeout(self.timeout, self.get_unbounded(url, known, now)).await;
        let answer = answer.unwrap_or(Err(Problem::TooSlow(self.timeout)));
        answer.map_err(|problem| FetchError { url: self.show(url), problem })
    }

    async fn get_unbounded(
        &self,
        url: &Url,
        known: Option<&Validators>,
        now: Timestamp,
    ) -> Result<Fetched, Problem> {
        let mut request = self.client()?.get(url.clone());
        if let Some(etag) = known.and_then(|known| known.etag.as_deref()) {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(date) = known.and_then(|known| known.last_modified.as_deref()) {
            request = request.header(IF_MODIFIED_SINCE, date);
        }
        let mut response = request.send().await.map_err(|error| self.transport(error))?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Fetched::Unchanged);
        }
        if !matches!(status, StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) {
            return Err(self.refusal(status, response.headers(), now));
        }
        let validators = validators(response.headers()).filter(|_| status == StatusCode::OK);
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.transport(error))? {
            if body.len() + piece.len() > MAX_BODY_BYTES {
                return Err(Problem::TooLong);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Fetched::Body { status: status.as_u16(), body, validators })
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Problem {
        let hint = match status.as_u16() {
            401 | 403 => "; check the token of this service".to_owned(),
            429 => "; too many requests, it is asked less often".to_owned(),
            300..=399 => {
                let to = text(headers, &LOCATION).unwrap_or_default();
                format!("; it moved to {:?}: write that address into the configuration", self.hide(&to))
            }
            500..=599 => "; the service has a fault, it is asked again".to_owned(),
            _ => String::new(),
        };
        let retry_after = text(headers, &RETRY_AFTER).and_then(|text| wait(&text, now));
        Problem::Status { status: status.as_u16(), hint, retry_after }
    }

    /// Without the address, which may hold the secret.
    fn transport(&self, error: reqwest::Error) -> Problem {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Problem::Transport(self.hide(&text))
    }

    /// The text with the secrets replaced.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// The address for a message.
    pub(crate) fn show(&self, url: &Url) -> String {
        let Some((place, query)) = url.as_str().split_once('?') else { return self.hide(url.as_str()) };
        // Pair by pair as they are written, so that all else is shown as it was sent.
        let shown = query.split('&').filter(|pair| !pair.is_empty()).zip(url.query_pairs()).map(
            |(pair, (key, _))| {
                let is_hidden = self.hidden_keys.iter().any(|hidden| *hidden == key);
                if is_hidden { format!("{key}=***") } else { pair.to_owned() }
            },
        );
        self.hide(&format!("{place}?{}", shown.collect::<Vec<_>>().join("&")))
    }

    fn client(&self) -> Result<Client, Problem> {
        let mut client = self.client.lock();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        // An error says that another part of the program has installed one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let built = Client::builder()
            .user_agent(concat!("wattlog/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(self.timeout)
            .build()
            .map_err(|error| Problem::Client(error.to_string()))?;
        Ok(client.insert(built).clone())
    }
}

fn text(headers: &HeaderMap, name: &reqwest::header::HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= 512).then(|| value.to_owned())
}

fn validators(headers: &HeaderMap) -> Option<Validators> {
    let (etag, last_modified) = (text(headers, &ETAG), text(headers, &LAST_MODIFIED));
    (etag.is_some() || last_modified.is_some()).then_some(Validators { etag, last_modified })
}

/// Seconds or a date, as RFC 9110 10.2.3 has it; bounded.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let ns = date.as_nanosecond() - i128::from(now.0);
            Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_both_forms_and_bounded() {
        let now = Timestamp(784_111_777_000_000_000 - 30_000_000_000);
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(wait("99999999", now), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("soon", now), None);
    }

    #[tokio::test]
    async fn a_secret_is_in_no_message() {
        let base = Url::parse("http://h/api?key=k1&other=hunter22").unwrap();
        let fetcher = Fetcher::new(Duration::from_secs(1), &base, Some("s3cret"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://{}/api?key=k1&other=hunter22&securityToken=s3cret&x=1",
            listener.local_addr().unwrap()
        );
        drop(listener);
        let error = fetcher.get(&Url::parse(&url).unwrap(), None, Timestamp(0)).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("?key=***&other=***&securityToken=***&x=1"), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("hunter22"), "{shown}");
        assert_eq!(fetcher.hide("denied: hunter22 s3cret k1"), "denied: *** *** k1");
    }
}
