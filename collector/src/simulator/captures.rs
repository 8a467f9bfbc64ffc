//! Answers of real (or synthetic) devices, read from a folder and replayed.
//!
//! A folder holds an index `expected.json` (an object: name of an installation -> `reads`, a list of `start`, `count`
//! and `result`, which names a `.hex` file or a refusal) and the files it names: one answer each, as hexadecimal text,
//! either a datagram (`AA 55` ... CRC) or a Modbus TCP frame. Bytes behind the answer are kept and replayed over UDP.

use crate::modbus::{Answer, PREFIX, Refusal, parse_rtu_answer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the index in a folder.
const INDEX: &str = "expected.json";

/// Recorded answers.
#[derive(Debug, Clone, Default)]
pub struct Captures {
    answers: Vec<Capture>,
}

#[derive(Debug, Clone)]
struct Capture {
    unit: u8,
    start: u16,
    count: u16,
    result: Result<Recorded, Refusal>,
}

#[derive(Debug, Clone)]
struct Recorded {
    words: Vec<u16>,
    /// The datagram as it came, if it came as one.
    datagram: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Installation {
    reads: Vec<Read>,
}

#[derive(Deserialize)]
struct Read {
    start: u16,
    count: u16,
    result: String,
}

/// Why a folder cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index is not what it should be.
    #[error("parse {path}")]
    Index {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The index has no installation of that name.
    #[error("{path} has no installation {name:?}, but {known}")]
    NoSuchInstallation {
        /// Which file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names it has.
        known: String,
    },
    /// A file holds no answer to the request that the index names.
    #[error("{path}: {what}")]
    NoAnswer {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Captures {
    /// Reads a folder: one installation, or all of them. Where two answer the same request of the same unit, the
    /// first by name is replayed.
    ///
    /// # Errors
    /// [`CaptureError`] names the file.
    pub async fn load(folder: &Path, installation: Option<&str>) -> Result<Self, CaptureError> {
        let index = folder.join(INDEX);
        let text = read(&index).await?;
        let mut installations: BTreeMap<String, Installation> = serde_json::from_str(&text)
            .map_err(|source| CaptureError::Index { path: index.clone(), source })?;
        if let Some(name) = installation {
            let Some(chosen) = installations.remove(name) else {
                let known = installations.into_keys().collect::<Vec<_>>().join(", ");
                return Err(CaptureError::NoSuchInstallation { path: index, name: name.to_owned(), known });
            };
            installations = BTreeMap::from([(name.to_owned(), chosen)]);
        }
        let mut captures = Self::default();
        for installation in installations.into_values() {
            captures.add(folder, installation.reads).await?;
        }
        Ok(captures)
    }

    async fn add(&mut self, folder: &Path, reads: Vec<Read>) -> Result<(), CaptureError> {
        let mut answers = Vec::new();
        let mut units = Vec::new();
        for read_ in reads {
            let Read { start, count, result } = read_;
            let result = if let Some(refusal) = refusal(&result) {
                Err(refusal)
            } else {
                let path = folder.join(&result);
                let text = read(&path).await?;
                let (unit, recorded) =
                    parse(&text, count).map_err(|what| CaptureError::NoAnswer { path, what })?;
                units.push(unit);
                Ok(recorded)
            };
            answers.push((start, count, result));
        }
        // A refusal does not tell its unit in the index: it belongs to the unit that gave the other answers.
        let Some(&unit) = units.first() else { return Ok(()) };
        for (start, count, result) in answers {
            let known =
                self.answers.iter().any(|old| (old.unit, old.start, old.count) == (unit, start, count));
            if !known {
                self.answers.push(Capture { unit, start, count, result });
            }
        }
        Ok(())
    }

    /// Units that answer.
    pub fn units(&self) -> Vec<u8> {
        let mut units: Vec<u8> = self.answers.iter().map(|capture| capture.unit).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    /// The answer to a request; a part of a longer recorded answer is an answer too.
    pub(super) fn words(&self, unit: u8, start: u16, count: u16) -> Result<Vec<u16>, Refusal> {
        if let Some(exact) = self.exact(unit, start, count) {
            return exact.result.as_ref().map(|recorded| recorded.words.clone()).map_err(|refusal| *refusal);
        }
        let part = self.answers.iter().filter(|capture| capture.unit == unit).find_map(|capture| {
            let from = usize::from(start.checked_sub(capture.start)?);
            capture.result.as_ref().ok()?.words.get(from..from + usize::from(count)).map(<[u16]>::to_vec)
        });
        part.ok_or(Refusal::ILLEGAL_DATA_ADDRESS)
    }

    /// The datagram that came as the answer to exactly this request, trailing bytes included.
    pub(super) fn datagram(&self, unit: u8, start: u16, count: u16) -> Option<Vec<u8>> {
        self.exact(unit, start, count)?.result.as_ref().ok()?.datagram.clone()
    }

    fn exact(&self, unit: u8, start: u16, count: u16) -> Option<&Capture> {
        self.answers
            .iter()
            .find(|capture| (capture.unit, capture.start, capture.count) == (unit, start, count))
    }
}

async fn read(path: &Path) -> Result<String, CaptureError> {
    let failed = |source| CaptureError::Read { path: path.to_owned(), source };
    tokio::fs::read_to_string(path).await.map_err(failed)
}

fn refusal(result: &str) -> Option<Refusal> {
    match result {
        "ILLEGAL FUNCTION" => Some(Refusal::ILLEGAL_FUNCTION),
        "ILLEGAL DATA ADDRESS" => Some(Refusal::ILLEGAL_DATA_ADDRESS),
        "ILLEGAL DATA VALUE" => Some(Refusal(3)),
        _ => None,
    }
}

fn parse(text: &str, count: u16) -> Result<(u8, Recorded), String> {
    let bytes = hex(text).ok_or("not hexadecimal")?;
    if bytes.starts_with(&PREFIX) {
        let unit = *bytes.get(2).ok_or("too short")?;
        return match parse_rtu_answer(&bytes, unit, count) {
            Ok(Answer::Words(words)) => Ok((unit, Recorded { words, datagram: Some(bytes) })),
            Ok(Answer::Short(missing)) => Err(format!("{missing} bytes are missing")),
            Ok(Answer::Refused(refusal)) => Err(refusal.to_string()),
            Err(malformed) => Err(malformed.to_string()),
        };
    }
    // Modbus TCP: 7 bytes of header, function, byte count, data.
    let data = bytes.get(9..9 + 2 * usize::from(count)).ok_or("shorter than its request asks for")?;
    let words = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    Ok((bytes[6], Recorded { words, datagram: None }))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.trim().chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::rtu_answer;

    fn to_hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[tokio::test]
    async fn a_folder_is_replayed_and_a_wrong_one_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut doubled = rtu_answer(0xF7, &[1, 2, 3]);
        doubled.extend_from_within(..);
        tokio::fs::write(at("a.hex"), to_hex(&doubled)).await.unwrap();
        tokio::fs::write(at("b.hex"), "0001000000077f0304000900 0a\n".replace(' ', "")).await.unwrap();
        let index = r#"{"A": {"reads": [{"start": 100, "count": 3, "result": "a.hex"},
                                        {"start": 200, "count": 9, "result": "ILLEGAL DATA ADDRESS"}]},
                        "B": {"reads": [{"start": 300, "count": 2, "result": "b.hex"}], "sensors": {}}}"#;
        tokio::fs::write(at(INDEX), index).await.unwrap();

        let captures = Captures::load(folder.path(), None).await.unwrap();
        assert_eq!(captures.units(), [0x7F, 0xF7]);
        assert_eq!(captures.words(0xF7, 100, 3), Ok(vec![1, 2, 3]));
        assert_eq!(captures.words(0xF7, 101, 2), Ok(vec![2, 3]));
        assert_eq!(captures.words(0xF7, 200, 9), Err(Refusal::ILLEGAL_DATA_ADDRESS));
        assert_eq!(captures.words(0x7F, 100, 3), Err(Refusal::ILLEGAL_DATA_ADDRESS));
        assert_eq!(captures.words(0x7F, 300, 2), Ok(vec![9, 10]));
        assert_eq!(captures.datagram(0xF7, 100, 3), Some(doubled));
        assert_eq!(captures.datagram(0x7F, 300, 2), None);

        assert_eq!(Captures::load(folder.path(), Some("B")).await.unwrap().units(), [0x7F]);
        let error = Captures::load(folder.path(), Some("C")).await.unwrap_err().to_string();
        assert!(error.contains("\"C\"") && error.contains("A, B"), "{error}");
        tokio::fs::write(at("a.hex"), "zz").await.unwrap();
        let error = Captures::load(folder.path(), None).await.unwrap_err().to_string();
        assert!(error.ends_with("a.hex: not hexadecimal"), "{error}");
        let nowhere = Captures::load(&folder.path().join("none"), None).await.unwrap_err();
        assert!(nowhere.to_string().ends_with(INDEX));
    }
}
