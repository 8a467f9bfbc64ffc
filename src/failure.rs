//! Why a command failed, as an exit code (docs/operations.md) and one sentence for the person at the terminal.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Kinds of failure; the numbers are those of sysexits where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A failure without a code of its own.
    General = 1,
    /// Arguments that do not fit together (clap itself uses the same number).
    Usage = 2,
    /// Damaged data, or input that is not what it claims to be.
    Data = 65,
    /// The server does not answer, or answers that it cannot.
    Unavailable = 69,
    /// A file or directory cannot be made.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Another process is at work; trying later helps.
    Busy = 75,
    /// The operating system, or our own caution, forbids it.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

/// Outcome of a command that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure whose story has been told already (a report on standard output): only the exit code is left to give.
    pub(crate) fn silent(kind: Kind) -> Self {
        Self { kind, message: String::new() }
    }

    /// `action` is what was being done, without a capital: "read /etc/wattlog/wattlog.yaml".
    pub(crate) fn io(action: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::Io,
        };
        Self::new(kind, format!("{action}: {error}"))
    }

    /// An error and all its causes, as one sentence.
    pub(crate) fn from_error(kind: Kind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, chain(error))
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// Another process is at work.
    pub(crate) fn is_busy(&self) -> bool {
        self.kind == Kind::Busy
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// `open store: read footer of seg-000123.seg: unexpected end of file`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
