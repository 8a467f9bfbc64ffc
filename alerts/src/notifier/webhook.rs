//! `POST` of the notice as JSON, with its key in `Idempotency-Key` and, if there is a signing key, `X-Wattlog-Signature:
//! sha256=HEX`, the HMAC-SHA256 (RFC 2104, FIPS 180-4) of the body.

use super::http::{acknowledged, address, client};
use super::{Notice, Notifier, Receipt, SendError};
use crate::config::{InvalidConfig, WebhookConfig, invalid};
use crate::readings::BoxFuture;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use ring::hmac;

/// One address.
pub(super) struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    signing_key: Option<hmac::Key>,
}

impl Webhook {
    pub(super) fn new(path: &str, config: &WebhookConfig) -> Result<Self, InvalidConfig> {
        let url = address(format!("{path}.url"), config.url.reveal())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let wrong =
                || invalid(format!("{path}.headers"), format!("{name:?} cannot be a header, or its value"));
            let named = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            let mut value = HeaderValue::try_from(value.reveal()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(named, value);
        }
        let key =
            config.signing_key.as_ref().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes()));
        Ok(Self { client: client(path)?, url, headers, signing_key: key })
    }
}

impl Notifier for Webhook {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Receipt, SendError>> {
        Box::pin(async move {
            let body = serde_json::to_vec(notice)
                .map_err(|error| SendError::Refused { reason: error.to_string() })?;
            let mut request = self.client.post(self.url.clone()).headers(self.headers.clone());
            if let Some(key) = &self.signing_key {
                let tag = hmac::sign(key, &body);
                let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                request = request.header("x-wattlog-signature", format!("sha256={hex}"));
            }
            let request = request
                .header("idempotency-key", &notice.key)
                .header(CONTENT_TYPE, "application/json")
                .body(body);
            acknowledged(request).await.map(|_| Receipt::default())
        })
    }
}
