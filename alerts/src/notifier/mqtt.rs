//! The notice as JSON, published with QoS 1: acknowledged by the PUBACK of the broker (MQTT 3.1.1, 4.3.2).
//!
//! Each message has a connection of its own: hours lie between two of them, and one that was lost is not noticed before it is
//! needed.

use super::{Notice, Notifier, Receipt, SendError};
use crate::config::{InvalidConfig, MqttConfig, invalid};
use crate::readings::BoxFuture;
use crate::secret::{Secret, shown};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS, TlsConfiguration,
    Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// One topic of one broker.
pub(super) struct Mqtt {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    login: Option<(String, Secret)>,
    topic: String,
}

/// Largest packet, in bytes.
const MAX_PACKET_BYTES: usize = 64 << 10;
/// How long the goodbye may take after the acknowledgement.
const GOODBYE: Duration = Duration::from_secs(1);

impl Mqtt {
    pub(super) fn new(path: &str, config: &MqttConfig) -> Result<Self, InvalidConfig> {
        if config.host.is_empty() || config.host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(invalid(format!("{path}.host"), "name or address of the broker, without a scheme"));
        }
        let topic = &config.topic;
        if !(1..=1000).contains(&topic.len()) || topic.contains(['#', '+', '\0']) {
            return Err(invalid(format!("{path}.topic"), "1 to 1000 bytes without # and +"));
        }
        if config.password.is_some() && config.username.is_none() {
            return Err(invalid(format!("{path}.username"), "a password needs it"));
        }
        let tls = if config.tls { Some(tls(path, config.ca.as_deref())?) } else { None };
        let login = config
            .username
            .clone()
            .map(|username| (username, config.password.clone().unwrap_or_else(|| Secret::new(""))));
        let port = config.port.unwrap_or(if config.tls { 8883 } else { 1883 });
        Ok(Self { host: config.host.clone(), port, tls, login, topic: topic.clone() })
    }

    fn options(&self) -> MqttOptions {
        // Two connections of one name would end each other.
        static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed) % 100_000;
        let name = format!("wattlog-{}-{number}", std::process::id());
        let mut options = MqttOptions::new(name, &self.host, self.port);
        options.set_keep_alive(Duration::from_secs(60));
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some((username, password)) = &self.login {
            options.set_credentials(username, password.reveal());
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
        }
        options
    }
}

impl Notifier for Mqtt {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Receipt, SendError>> {
        Box::pin(async move {
            let body = serde_json::to_vec(notice)
                .map_err(|error| SendError::Refused { reason: error.to_string() })?;
            let (client, mut events) = AsyncClient::new(self.options(), 4);
            client
                .publish(&self.topic, QoS::AtLeastOnce, false, body)
                .await
                .map_err(|error| SendError::failed(error.to_string()))?;
            loop {
                // The event loop would connect again after an error; one attempt is one connection.
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => break,
                    Ok(_) => {}
                    Err(error) => return Err(self.failed(&error)),
                }
            }
            if client.disconnect().await.is_ok() {
                let _ended = tokio::time::timeout(GOODBYE, until_gone(&mut events)).await;
            }
            Ok(Receipt::default())
        })
    }
}

impl Mqtt {
    fn failed(&self, error: &ConnectionError) -> SendError {
        let reason = match error {
            ConnectionError::ConnectionRefused(code) => {
                format!("the broker refuses the connection: {code:?}")
            }
            other => other.to_string(),
        };
        let secret = self.login.as_ref().map_or("", |(_, password)| password.reveal());
        SendError::failed(shown(&reason, &[secret]))
    }
}

async fn until_gone(events: &mut EventLoop) {
    while let Ok(event) = events.poll().await {
        if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
            return;
        }
    }
}

/// Trust in the given authorities, or in those of the system.
fn tls(path: &str, ca: Option<&str>) -> Result<Arc<ClientConfig>, InvalidConfig> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            let wrong = || {
                invalid(
                    format!("{path}.ca"),
                    "certificates in PEM are expected, as in file:/etc/ssl/broker.pem",
                )
            };
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(|_| wrong())?).map_err(|_| wrong())?;
            }
            if roots.is_empty() {
                return Err(wrong());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let problem = "the system trusts no authority: install ca-certificates, or name `ca`";
                return Err(invalid(format!("{path}.tls"), problem));
            }
        }
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}
