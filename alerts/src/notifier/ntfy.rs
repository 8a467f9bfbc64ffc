//! A push message by ntfy: JSON to the root of the server, so that titles may have any letters (docs.ntfy.sh, "Publish as JSON").
//!
//! ntfy gives each message a number of its own and drops no repeated one: a message that was sent twice is seen twice.

use super::http::{acknowledged, address, client};
use super::{Notice, Notifier, Receipt, SendError};
use crate::config::{InvalidConfig, NtfyConfig, invalid};
use crate::readings::BoxFuture;
use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use std::borrow::Cow;
use wattlog_ledger::schema::{EventState, Severity};

/// One topic of one server.
pub(super) struct Ntfy {
    client: Client,
    url: Url,
    topic: String,
    authorization: Option<HeaderValue>,
}

/// Longest message, in bytes: of a longer one ntfy makes a file (docs.ntfy.sh, "Limitations").
const MAX_MESSAGE_BYTES: usize = 4096;
/// Longest answer that is read for the number of the message, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

impl Ntfy {
    pub(super) fn new(path: &str, config: &NtfyConfig) -> Result<Self, InvalidConfig> {
        let topic = config.topic.reveal();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=64).contains(&topic.len()) || !topic.bytes().all(fits) {
            return Err(invalid(format!("{path}.topic"), "1 to 64 letters, digits, - or _"));
        }
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
                    .map_err(|_| invalid(format!("{path}.token"), "a token has no line breaks"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let url = address(format!("{path}.url"), &config.url)?;
        Ok(Self { client: client(path)?, url, topic: topic.to_owned(), authorization })
    }
}

impl Notifier for Ntfy {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Receipt, SendError>> {
        Box::pin(async move {
            let (priority, tag) = match (notice.state, notice.severity) {
                (EventState::Resolved, _) => (3, "white_check_mark"),
                (_, Severity::Info) => (3, "information_source"),
                (_, Severity::Warning) => (4, "warning"),
                (_, Severity::Critical) => (5, "rotating_light"),
            };
            let body = json!({
                "topic": self.topic,
                "title": notice.title,
                "message": fitting(&notice.message),
                "priority": priority,
                "tags": [tag, notice.severity.as_str()],
            });
            let mut request = self.client.post(self.url.clone()).json(&body);
            request = request.header("idempotency-key", &notice.key);
            if let Some(authorization) = &self.authorization {
                request = request.header(reqwest::header::AUTHORIZATION, authorization.clone());
            }
            let mut answer = acknowledged(request).await?;
            // It is acknowledged; the number is only good to know.
            let mut bytes = Vec::new();
            while let Ok(Some(piece)) = answer.chunk().await {
                bytes.extend_from_slice(&piece);
                if bytes.len() > MAX_ANSWER_BYTES {
                    break;
                }
            }
            let id = serde_json::from_slice::<Value>(&bytes).ok();
            let id = id.and_then(|answer| answer.get("id")?.as_str().map(|id| id.chars().take(64).collect()));
            Ok(Receipt(id))
        })
    }
}

/// The text, cut between two characters if ntfy would not show it.
fn fitting(text: &str) -> Cow<'_, str> {
    const CUT: &str = "...";
    if text.len() <= MAX_MESSAGE_BYTES {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(MAX_MESSAGE_BYTES - CUT.len());
    Cow::Owned(format!("{}{CUT}", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_as_many_bytes_as_ntfy_shows() {
        // 2000 characters of three bytes arrived as a file.
        for (text, len) in [
            ("x".repeat(4096), 4096),
            ("x".repeat(4097), 4096),
            ("\u{20ac}".repeat(2000), 4095),
            (format!("x{}", "\u{1f50b}".repeat(2000)), 4096),
        ] {
            let cut = fitting(&text);
            assert_eq!(cut.len(), len, "of {}", text.len());
            assert!(text.starts_with(cut.trim_end_matches("...")));
        }
    }
}
