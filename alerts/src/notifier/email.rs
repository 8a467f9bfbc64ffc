//! A mail over SMTP, acknowledged by the 250 that follows its text; `Message-ID` is made of the key, so that a mail that was
//! sent twice is the same to whoever sorts it.
//!
//! All recipients are asked for at once. A server that refuses one of them refuses the mail, so then each has an envelope of his
//! own: it is heard if one took it, those who did not are named in the log, and it is refused only if all are for good.

use super::{Notice, Notifier, Receipt, SendError};
use crate::config::{EmailConfig, InvalidConfig, MailTls, invalid};
use crate::readings::BoxFuture;
use crate::secret::{Secret, shown};
use lettre::address::Envelope;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// Sender, recipients, server.
pub(super) struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    password: Option<Secret>,
    timeout: Duration,
}

/// Most recipients: each may need a connection of his own.
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
        Ok(Self { transport: builder.build(), from, to, password: config.password.clone(), timeout })
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
            // The caller gives up at the whole of it, and would forget who has it already.
            let end = Instant::now() + self.timeout.mul_f64(0.9);
            let message = self.message(notice).map_err(|error| refused(&error))?;
            let mail = message.formatted();
            let envelope = self.envelope(&self.to)?;
            match self.transport.send_raw(&envelope, &mail).await {
                Ok(_) => Ok(()),
                Err(error) if self.to.len() > 1 && is_about_mail(&error) => self.one_by_one(&mail, end).await,
                Err(error) => Err(self.judged(&error)),
            }
            .map(|()| Receipt::default())
        })
    }
}

impl Email {
    /// An envelope for each; those who are left when one took it are told in the log.
    async fn one_by_one(&self, mail: &[u8], end: Instant) -> Result<(), SendError> {
        let mut left = Vec::new();
        for to in &self.to {
            let envelope = self.envelope(std::slice::from_ref(to))?;
            let sent = match timeout_at(end, self.transport.send_raw(&envelope, mail)).await {
                Ok(sent) => sent.map(drop).map_err(|error| self.judged(&error)),
                Err(_) => Err(SendError::failed("no time was left for it")),
            };
            left.extend(sent.err().map(|error| (to, error)));
        }
        if left.len() < self.to.len() {
            for (to, error) in &left {
                tracing::warn!(recipient = %to.email, %error, "a recipient of an alert did not get the mail, others did");
            }
            return Ok(());
        }
        let may_pass = |(_, error): &(_, SendError)| matches!(error, SendError::Failed { .. });
        let told = left.iter().position(may_pass).unwrap_or(0);
        Err(left.swap_remove(told).1)
    }

    fn envelope(&self, to: &[Mailbox]) -> Result<Envelope, SendError> {
        let to = to.iter().map(|to| to.email.clone()).collect();
        Envelope::new(Some(self.from.email.clone()), to).map_err(|error| refused(&error))
    }

    fn judged(&self, error: &smtp::Error) -> SendError {
        let secret = self.password.as_ref().map_or("", Secret::reveal);
        let mut reason = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            reason.push_str(&format!(": {cause}"));
        }
        let reason = shown(&reason, &[secret]);
        // A wrong password is put right by its owner: it is tried until the attempts are used up.
        if error.is_permanent() && is_about_mail(error) {
            SendError::Refused { reason }
        } else {
            SendError::failed(reason)
        }
    }
}

/// Whether the server answered, and neither to the log-in (530, 535) nor that it is closing (421).
fn is_about_mail(error: &smtp::Error) -> bool {
    error.status().is_some_and(|code| ![421, 530, 535].contains(&u16::from(code)))
}

fn refused(error: &lettre::error::Error) -> SendError {
    SendError::Refused { reason: error.to_string() }
}
