//! Who may do what. Nobody asks these tables yet; secrets lie in them only as hashes.

use super::check_name;
use crate::record::{Invalid, record, words};
use wattlog_model::Timestamp;

words! {
    /// What a user may do.
    pub enum Role {
        /// Everything.
        Admin = "admin",
        /// Read and write.
        Writer = "writer",
        /// Read.
        Reader = "reader",
    }
}

record! {
    /// A person or a program.
    pub struct User in "users"
    key ["name"] time "created_ns" filters ["name", "role"] history true
    {
        /// Who it is.
        name: String => "name",
        /// What it may do.
        role: Role => "role",
        /// In the form of the PHC (`$argon2id$...`); none: no password, tokens only.
        #[serde(default)] password_hash: Option<String> => "password_hash",
        /// Kept, but may do nothing.
        #[serde(default)] disabled: bool => "disabled",
    }
}

record! {
    /// A key for a program; the key itself is shown once and never stored.
    pub struct Token in "tokens"
    key ["name"] time "created_ns" filters ["name", "user_id", "token_hash"] history true
    {
        /// What it is for.
        name: String => "name",
        /// Whose it is.
        user_id: i64 => "user_id",
        /// SHA-256 of the key, 64 hexadecimal digits.
        token_hash: String => "token_hash",
        /// What it may do: `read`, `write`, `admin`.
        access: Vec<String> => "access",
        /// When it ends.
        #[serde(default, with = "crate::instant::maybe")] expires: Option<Timestamp> => "expires_ns",
        /// When it was taken away.
        #[serde(default, with = "crate::instant::maybe")] revoked: Option<Timestamp> => "revoked_ns",
    }
}

impl User {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        if self.password_hash.as_ref().is_some_and(|hash| !hash.starts_with('$')) {
            return Err(Invalid::new(
                "password_hash",
                "a hash is expected, as in $argon2id$..., never the password",
            ));
        }
        Ok(())
    }
}

impl Token {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        let hex = self.token_hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if self.token_hash.len() != 64 || !hex {
            return Err(Invalid::new("token_hash", "64 small hexadecimal digits are expected (SHA-256)"));
        }
        match self.access.iter().find(|word| !["read", "write", "admin"].contains(&word.as_str())) {
            Some(_) => Err(Invalid::new("access", "`read`, `write` and `admin` are known")),
            None => Ok(()),
        }
    }
}
