//! Which database, and how long it may take.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the ledger is opened; see each field for its default.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Where it is.
    pub backend: Backend,
    /// Connections at a time. Default 4.
    pub max_connections: u32,
    /// How long a call waits for a connection, or for another writer. Default 5 s.
    pub wait: Duration,
}

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Backend {
    /// A file of SQLite, made if it is not there.
    Sqlite(PathBuf),
    /// A PostgreSQL database, 15 or newer, that exists.
    Postgres {
        /// `postgresql://user@host/database?sslmode=verify-full&sslrootcert=FILE`. Without `sslmode`: TLS if the server can.
        url: String,
        /// In place of one in the URL.
        password: Option<String>,
    },
}

/// A URL that names no ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` names no ledger: `sqlite:FILE` or `postgresql://user@host/database` is expected")]
pub struct InvalidLedgerUrl {
    /// The URL up to its first colon: the rest may hold a password.
    shown: String,
}

impl LedgerOptions {
    /// The defaults for `backend`.
    pub fn new(backend: Backend) -> Self {
        Self { backend, max_connections: 4, wait: Duration::from_secs(5) }
    }
}

impl Backend {
    /// Reads `sqlite:FILE` (below `folder` if the path is not absolute) or `postgresql://...`.
    ///
    /// # Errors
    /// Another scheme, no file, or a URL that does not parse.
    pub fn from_url(url: &str, password: Option<String>, folder: &Path) -> Result<Self, InvalidLedgerUrl> {
        let wrong = || InvalidLedgerUrl { shown: url.split(':').next().unwrap_or_default().to_owned() };
        match url.split_once(':') {
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(folder.join(file))),
            Some(("postgresql" | "postgres", rest)) if rest.starts_with("//") => {
                url.parse::<sqlx::postgres::PgConnectOptions>().map_err(|_| wrong())?;
                Ok(Self::Postgres { url: url.to_owned(), password: password.filter(|text| !text.is_empty()) })
            }
            _ => Err(wrong()),
        }
    }

    /// `sqlite` or `postgresql`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres { .. } => "postgresql",
        }
    }
}

// A password is not shown.
impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres { .. } => f.write_str("postgresql:..."),
        }
    }
}

impl fmt::Debug for LedgerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerOptions")
            .field("backend", &self.backend)
            .field("max_connections", &self.max_connections)
            .field("wait", &self.wait)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_or_a_database_and_nothing_else() {
        let of = |url: &str| Backend::from_url(url, None, Path::new("/data"));
        assert_eq!(of("sqlite:ledger.db").unwrap(), Backend::Sqlite("/data/ledger.db".into()));
        assert_eq!(of("sqlite:/var/l.db").unwrap(), Backend::Sqlite("/var/l.db".into()));
        assert_eq!(of("postgresql://anna@db/home").unwrap().name(), "postgresql");
        for wrong in ["", "ledger.db", "sqlite:", "mysql://x@y/z", "postgresql:db", "postgresql://h:port/x"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let secret = Some("geheim".to_owned());
        let backend = Backend::from_url("postgresql://anna:offen@db/home", secret, Path::new("")).unwrap();
        let shown = format!("{:?}", LedgerOptions::new(backend));
        assert!(!shown.contains("geheim") && !shown.contains("offen"), "{shown}");
        let wrong = Backend::from_url("mysql://anna:offen@db", None, Path::new("")).unwrap_err();
        assert!(!wrong.to_string().contains("offen"), "{wrong}");
    }
}
