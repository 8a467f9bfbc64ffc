//! A mail over SMTP, acknowledged by the 250 that follows its text; `Message-ID` is made of the key, so that a mail that was
//! sent twice is the same to whoever sorts it.

use super::{Notice, Notifier, Receipt, SendError};
use crate::config::{EmailConfig, InvalidConfig, MailTls, invalid};
use crate::readings::BoxFuture;
use crate::secret::{Secret, shown};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::time::{Duration, UNIX_EPOCH};

/// Sender, recipients, server.
pub(super) struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Secret>,
}

/// Most recipients: a server that takes one and refuses another is asked for all of them again.
const MAX_RECIPIENTS: usize = 20;

impl Email {
    pub(super) fn new(path: &str, config: &EmailConfig, timeout: Duration) -> Result<Self, InvalidConfig> {
        let mailbox = |key: &str, text: &str| {
            let problem = "an address is expected, as in wattlog@example.org";
            text.parse::<Mailbox>().map_err(|_| invalid(format!("{path}.{key}"), problem))
        };
        if config.host.is_empty() || config.host.contains(char::is_whitespace) {
            return Err(invalid(format!("{path}.host"), "name of the mail server"));
        }
        let from = mailbox("from", &config.from)?;
        if !(1..=MAX_RECIPIENTS).contains(&config.to.len()) {
            return Err(invalid(format!("{path}.to"), format!("1 to {MAX_RECIPIENTS} addresses")));
        }
        let to = config.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?;
        let parameters = || {
            TlsParameters::new(config.host.clone())
                .map_err(|error| invalid(format!("{path}.tls"), error.to_string()))
        };
        let (tls, usual_port) = match config.tls {
            MailTls::StartTls => (Tls::Required(parameters()?), 587),
            MailTls::Tls => (Tls::Wrapper(parameters()?), 465),
            MailTls::None => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.clone())
            .port(config.port.unwrap_or(usual_port))
            .tls(tls)
            .timeout(Some(timeout));
        match (&config.username, &config.password) {
            (Some(username), Some(password)) => {
                builder =
                    builder.credentials(Credentials::new(username.clone(), password.reveal().to_owned()));
            }
            (None, None) => {}
            _ => return Err(invalid(format!("{path}.username"), "user name and password go together")),
        }
        Ok(Self { transport: builder.build(), from, to, password: config.password.clone() })
    }

    fn message(&self, notice: &Notice) -> Result<Message, lettre::error::Error> {
        let key: String =
            notice.key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '.' }).collect();
        let mut message = Message::builder()
            .from(self.from.clone())
            .message_id(Some(format!("<wattlog.{key}@{}>", self.from.email.domain())))
            .subject(format!("[{}] {}", notice.severity.as_str(), notice.title));
        if let Ok(since_1970) = u64::try_from(notice.at.0) {
            message = message.date(UNIX_EPOCH + Duration::from_nanos(since_1970));
        }
        for to in &self.to {
            message = message.to(to.clone());
        }
        message.body(format!("{}\n\n-- \nwattlog, event {}\n", notice.message, notice.key))
    }
}

impl Notifier for Email {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<Receipt, SendError>> {
        Box::pin(async move {
            let message =
                self.message(notice).map_err(|error| SendError::Refused { reason: error.to_string() })?;
            let secret = self.password.as_ref().map_or("", Secret::reveal);
            match self.transport.send(message).await {
                Ok(_) => Ok(Receipt::default()),
                Err(error) => {
                    let mut reason = error.to_string();
                    if let Some(cause) = std::error::Error::source(&error) {
                        reason.push_str(&format!(": {cause}"));
                    }
                    let reason = shown(&reason, &[secret]);
                    // A wrong password (535) is put right by its owner: it is tried until the attempts are used up.
                    let is_login =
                        error.status().is_some_and(|code| u16::from(code) == 535 || u16::from(code) == 530);
                    if error.is_permanent() && !is_login {
                        return Err(SendError::Refused { reason });
                    }
                    Err(SendError::failed(reason))
                }
            }
        })
    }
}
