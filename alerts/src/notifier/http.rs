//! What the channels over HTTP share: the client, an address, and what a status means.

use super::SendError;
use crate::config::{InvalidConfig, invalid};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use std::time::Duration;

/// A client for one channel: each message has a connection of its own, since hours lie between two of them.
pub(super) fn client(path: &str) -> Result<Client, InvalidConfig> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("wattlog/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| invalid(path, format!("no client for it: {}", error.without_url())))
}

/// Reads an address; the message does not repeat it.
pub(super) fn address(path: String, text: &str) -> Result<Url, InvalidConfig> {
    let wrong = "an address that begins with http:// or https:// and names a host";
    let url = Url::parse(text).map_err(|_| invalid(path.clone(), wrong))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(invalid(path, wrong))
    }
}

/// Sends, and judges the answer.
pub(super) async fn acknowledged(request: reqwest::RequestBuilder) -> Result<Response, SendError> {
    let answer = request.send().await.map_err(|error| SendError::failed(told(error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let reason = format!("the answer is {status}");
    let may_pass = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if may_pass {
        return Err(SendError::Failed { reason, wait: retry_after(answer.headers()) });
    }
    Err(SendError::Refused { reason })
}

/// The chain of an error, without the address.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    text
}

/// Seconds, or an instant; that one against the clock of the server, which alone knows what it meant.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let after = text(RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let instant = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|at| at.timestamp());
    let wait = instant(after)?.duration_since(instant(text(DATE)?)?);
    Duration::try_from(wait).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_an_instant() {
        let asked = |after: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            retry_after(&headers)
        };
        let date = Some("Sun, 01 Mar 2026 10:00:00 GMT");
        assert_eq!(asked("120", None), Some(Duration::from_secs(120)));
        assert_eq!(asked("Sun, 01 Mar 2026 10:01:30 GMT", date), Some(Duration::from_secs(90)));
        assert_eq!(asked("Sun, 01 Mar 2026 09:00:00 GMT", date), None);
        assert_eq!(asked("Sun, 01 Mar 2026 10:01:30 GMT", None), None);
        assert_eq!(asked("soon", date), None);
        assert_eq!(asked("-5", date), None);
    }
}
