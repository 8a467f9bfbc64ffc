//! What the channels over HTTP share: the client, an address, and what a status means.

use super::SendError;
use crate::config::{InvalidConfig, invalid};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
use std::error::Error;
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
            // A proxy before a receiver that starts anew, a token that its owner renews.
            | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_FOUND
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        );
    if may_pass {
        return Err(SendError::Failed { reason, wait: retry_after(answer.headers()) });
    }
    Err(SendError::Refused { reason })
}

/// The chain of an error, without the address.
fn told(error: reqwest::Error) -> String {
    let host = error.url().and_then(Url::host_str).map(str::to_owned);
    without_host(&error.without_url(), host.as_deref())
}

/// The chain of an error without `host`, which may be a secret as all of the address may (a webhook of `file:`).
fn without_host(error: &(dyn Error + 'static), host: Option<&str>) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if is_for_another_name(deeper) {
            // In full it names the host, and the hosts that the certificate is for.
            text.push_str(": the certificate of the server is for another name");
            break;
        }
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    match host {
        Some(host) => text.replace(host.trim_matches(['[', ']']), "***"),
        _ => text,
    }
}

fn is_for_another_name(error: &(dyn Error + 'static)) -> bool {
    // An `io::Error` shows what it holds, and does not give it as its source.
    if let Some(held) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return is_for_another_name(held);
    }
    matches!(
        error.downcast_ref::<rustls::Error>(),
        Some(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
    )
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

    /// An error of a client that `cause` stands behind.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_certificate_for_another_name_does_not_show_the_host() {
        // The log and `last_error` held the host of a webhook whose address is a secret.
        let cause = rustls::Error::InvalidCertificate(NotValidForNameContext {
            expected: "hook-7f3a.example.com".try_into().unwrap(),
            presented: vec!["DnsName(\"*.example.org\")".to_owned()],
        });
        let nested = std::io::Error::other(std::io::Error::other(cause.clone()));
        for error in [std::io::Error::other(cause), nested] {
            let text = without_host(&Outer(error), Some("hook-7f3a.example.com"));
            assert_eq!(text, "client error (Connect): the certificate of the server is for another name");
        }
        let other = std::io::Error::other("no route to hook-7f3a.example.com");
        let text = without_host(&Outer(other), Some("hook-7f3a.example.com"));
        assert_eq!(text, "client error (Connect): no route to ***");
    }

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
