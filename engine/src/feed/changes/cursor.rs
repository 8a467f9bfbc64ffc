//! How far a consumer of changes has come, as a text that outlives the process.

use crate::feed::{Cursor, InvalidCursor};
use crate::ids::LogId;
use std::fmt;
use std::str::FromStr;

/// How far a consumer has come: a place in the commit order, and what the subscription knew there. A [`Cursor`] as answers of
/// queries print it is one, too: what was committed since is told, with the watermark of now.
///
/// As a text: `<log id, hex>-<sequence>`, then `-<manifest edit>`, then `-<watermark in nanoseconds>` if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCursor {
    pub(super) at: Cursor,
    pub(super) known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) edit: u64,
    pub(super) watermark: Option<i64>,
}

impl ChangeCursor {
    /// The log that it lies in: once that is sealed and gone, going on from here tells of everything.
    pub fn log(&self) -> LogId {
        self.at.log_id
    }
}

impl From<Cursor> for ChangeCursor {
    fn from(at: Cursor) -> Self {
        Self { at, known: None }
    }
}

impl fmt::Display for ChangeCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        let Some(Known { edit, watermark }) = self.known else { return Ok(()) };
        write!(f, "-{edit}")?;
        watermark.map_or(Ok(()), |watermark| write!(f, "-{watermark}"))
    }
}

impl FromStr for ChangeCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.splitn(4, '-');
        let (Some(log_id), Some(seq)) = (parts.next(), parts.next()) else { return Err(InvalidCursor) };
        let at = format!("{log_id}-{seq}").parse()?;
        let Some(edit) = parts.next() else { return Ok(Self { at, known: None }) };
        let edit = edit.parse().map_err(|_| InvalidCursor)?;
        let watermark = parts.next().map(|text| text.parse().map_err(|_| InvalidCursor)).transpose()?;
        Ok(Self { at, known: Some(Known { edit, watermark }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;

    #[test]
    fn cursors_print_and_parse() {
        let at = Cursor { log_id: LogId(0x1f), seq: Seq(4711) };
        let cursor = |known| ChangeCursor { at, known };
        for (text, known) in [
            ("1f-4711", None),
            ("1f-4711-83", Some(Known { edit: 83, watermark: None })),
            ("1f-4711-0-17", Some(Known { edit: 0, watermark: Some(17) })),
            ("1f-4711-83--17", Some(Known { edit: 83, watermark: Some(-17) })),
        ] {
            assert_eq!(cursor(known).to_string(), text);
            assert_eq!(text.parse(), Ok(cursor(known)));
        }
        for bad in
            ["", "1f", "1f-1-", "1f-1-2-", "1f-1-2-3-4", "1f--1", "1f-1-x", "1f-1-2-9223372036854775808"]
        {
            assert_eq!(bad.parse::<ChangeCursor>(), Err(InvalidCursor), "{bad}");
        }
    }
}
