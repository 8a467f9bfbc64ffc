//! Modbus as far as we speak it: reading holding registers, and the RTU frame that GoodWe puts into datagrams.
//!
//! Promise: function 3 is the only function in this program; there is no code that could write to a device.
//! Parsing is pure and total: any bytes give a frame, "more to come" or a reason.
//!
//! Answer in a datagram: `AA 55`, unit, function, byte count, data, CRC-16/Modbus (low byte first) over unit..data.
//! A refusal has function | 0x80 and one code instead of count and data; some firmware lets other bytes follow the code
//! and puts the checksum over all of them at the end. Neither tells which request it answers.

use std::io;

/// Read holding registers.
pub const READ: u8 = 3;
/// Marks a refusal.
pub const REFUSAL: u8 = 0x80;
/// Most words in one answer.
pub const MAX_WORDS: u16 = 125;
/// First bytes of an answer in a datagram.
pub const PREFIX: [u8; 2] = [0xAA, 0x55];

/// Why a read gave no words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No connection: name not found, refused, unreachable.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[source] io::Error),
    /// Nothing, or not enough, came in time.
    #[error("no answer in time")]
    Silence,
    /// The device refused the request.
    #[error("the device refused: {0}")]
    Refused(Refusal),
    /// What came is no answer to this request.
    #[error("no valid answer: {0}")]
    Malformed(Malformed),
}

/// The code of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Refusal(pub u8);

impl Refusal {
    /// The device has no such function.
    pub const ILLEGAL_FUNCTION: Self = Self(1);
    /// The device has no such registers.
    pub const ILLEGAL_DATA_ADDRESS: Self = Self(2);
    /// The device has the function and the registers, but not so many of them at once.
    pub const ILLEGAL_DATA_VALUE: Self = Self(3);
    /// The device is busy.
    pub const BUSY: Self = Self(6);
    /// A gateway got no answer from the device.
    pub const NO_ANSWER_BEHIND_GATEWAY: Self = Self(11);

    /// True if the same request will be refused again: the device lacks what was asked for.
    pub fn is_final(self) -> bool {
        matches!(self, Self::ILLEGAL_FUNCTION | Self::ILLEGAL_DATA_ADDRESS | Self::ILLEGAL_DATA_VALUE)
    }

    /// True if the same request may well be answered a moment later.
    pub fn is_momentary(self) -> bool {
        matches!(self, Self(5) | Self::BUSY | Self::NO_ANSWER_BEHIND_GATEWAY)
    }

    fn text(self) -> String {
        let known = match self.0 {
            1 => "illegal function",
            2 => "illegal data address",
            3 => "illegal data value",
            4 => "device failure",
            5 => "acknowledged, not done yet",
            6 => "device busy",
            8 => "memory parity error",
            10 => "gateway path unavailable",
            11 => "no answer behind the gateway",
            other => return format!("code {other}"),
        };
        known.to_owned()
    }
}

/// What was wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It does not begin as an answer does.
    #[error("it does not begin with AA 55")]
    Prefix,
    /// Another unit answered.
    #[error("unit {0} answered")]
    Unit(u8),
    /// It answers another function.
    #[error("it answers function {0}")]
    Function(u8),
    /// It holds another number of bytes than was asked for.
    #[error("it holds {found} bytes instead of {expected}")]
    ByteCount {
        /// Bytes asked for.
        expected: usize,
        /// Bytes told.
        found: usize,
    },
    /// The checksum does not fit.
    #[error("checksum {found:04x} instead of {expected:04x}")]
    Checksum {
        /// Calculated over what came.
        expected: u16,
        /// At the end of what came.
        found: u16,
    },
    /// It is no Modbus TCP frame, or belongs to another request.
    #[error("it does not fit the request")]
    Frame,
}

/// CRC-16/Modbus.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| CRC_TABLE[usize::from((crc as u8) ^ byte)] ^ crc >> 8)
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// A request of `count` words from `start`, as one datagram.
pub fn rtu_request(unit: u8, start: u16, count: u16) -> [u8; 8] {
    let [start_high, start_low] = start.to_be_bytes();
    let [count_high, count_low] = count.to_be_bytes();
    let [crc_low, crc_high] =
        crc16(&[unit, READ, start_high, start_low, count_high, count_low]).to_le_bytes();
    [unit, READ, start_high, start_low, count_high, count_low, crc_low, crc_high]
}

/// A request as a device sees it; none if `bytes` is no whole, valid request to read.
pub fn parse_rtu_request(bytes: &[u8]) -> Option<(u8, u16, u16)> {
    let bytes: &[u8; 8] = bytes.try_into().ok()?;
    let valid = bytes[1] == READ && crc16(&bytes[..6]).to_le_bytes() == bytes[6..];
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    valid.then(|| (bytes[0], word(2), word(4)))
}

/// An answer with data, as one datagram.
pub fn rtu_answer(unit: u8, words: &[u16]) -> Vec<u8> {
    let mut frame = PREFIX.to_vec();
    frame.extend([unit, READ, (2 * words.len()) as u8]);
    frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    frame.extend(crc16(&frame[2..]).to_le_bytes());
    frame
}

/// A refusal, as one datagram.
pub fn rtu_refusal(unit: u8, refusal: Refusal) -> Vec<u8> {
    let mut frame = PREFIX.to_vec();
    frame.extend([unit, READ | REFUSAL, refusal.0]);
    frame.extend(crc16(&frame[2..]).to_le_bytes());
    frame
}

/// What the bytes that came so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// So many bytes are missing.
    Short(usize),
    /// The words asked for. Bytes behind the frame were ignored.
    Words(Vec<u16>),
    /// The device refused.
    Refused(Refusal),
}

/// Reads an answer to a request of `count` words from `unit`.
///
/// Bytes behind the checksum are ignored: some dongles send the whole answer twice in one datagram.
/// # Errors
/// [`Malformed`] if `bytes` can never become the answer.
pub fn parse_rtu_answer(bytes: &[u8], unit: u8, count: u16) -> Result<Answer, Malformed> {
    if bytes.iter().zip(PREFIX).any(|(found, expected)| *found != expected) {
        return Err(Malformed::Prefix);
    }
    let (Some(&found_unit), Some(&function), Some(&len)) = (bytes.get(2), bytes.get(3), bytes.get(4)) else {
        return Ok(Answer::Short(5 - bytes.len()));
    };
    if found_unit != unit {
        return Err(Malformed::Unit(found_unit));
    }
    match function {
        READ => {}
        other if other == READ | REFUSAL => return parse_refusal(bytes, Refusal(len)),
        other => return Err(Malformed::Function(other)),
    }
    let (expected, found) = (2 * usize::from(count), usize::from(len));
    if expected != found {
        return Err(Malformed::ByteCount { expected, found });
    }
    let end = 5 + expected;
    if let Some(missing) = (end + 2).checked_sub(bytes.len()).filter(|missing| *missing > 0) {
        return Ok(Answer::Short(missing));
    }
    check_sum(&bytes[..end + 2])?;
    let words = bytes[5..end].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    Ok(Answer::Words(words.collect()))
}

/// A refusal: its checksum follows the code, or stands at the end of everything that came.
fn parse_refusal(bytes: &[u8], refusal: Refusal) -> Result<Answer, Malformed> {
    if let Some(missing) = REFUSAL_BYTES.checked_sub(bytes.len()).filter(|missing| *missing > 0) {
        return Ok(Answer::Short(missing));
    }
    check_sum(&bytes[..REFUSAL_BYTES]).or_else(|error| check_sum(bytes).map_err(|_| error))?;
    Ok(Answer::Refused(refusal))
}

/// Prefix, unit, function, code, checksum.
const REFUSAL_BYTES: usize = 7;

/// Checks the last two bytes of a frame, at least 7 bytes long, against all from the unit on.
fn check_sum(frame: &[u8]) -> Result<(), Malformed> {
    let (body, checksum) = frame.split_at(frame.len() - 2);
    let (expected, found) = (crc16(&body[2..]), u16::from_le_bytes([checksum[0], checksum[1]]));
    if expected == found { Ok(()) } else { Err(Malformed::Checksum { expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn requests_are_those_that_devices_know() {
        assert_eq!(rtu_request(0xF7, 35000, 33).to_vec(), bytes("f70388b800213ac1"));
        assert_eq!(rtu_request(0xF7, 35100, 125).to_vec(), bytes("f703891c007d7ae7"));
        assert_eq!(rtu_request(0x11, 0x6B, 3).to_vec(), bytes("1103006b00037687"));
        assert_eq!(parse_rtu_request(&bytes("1103006b00037687")), Some((0x11, 0x6B, 3)));
        assert_eq!(parse_rtu_request(&bytes("1103006b00037688")), None);
        assert_eq!(parse_rtu_request(&bytes("1106006b00037688")), None);
    }

    #[test]
    fn answers_are_accepted_or_say_what_is_wrong() {
        let parse = |hex: &str| parse_rtu_answer(&bytes(hex), 0xF7, 2);
        let words = Ok(Answer::Words(vec![0x0102, 0x0304]));
        assert_eq!(parse("aa55f7030401020304cd33"), words);
        assert_eq!(parse("aa55f7030401020304cd33aa55f7030401020304cd33"), words, "doubled");
        assert_eq!(parse("aa55f7030401020304cd"), Ok(Answer::Short(1)));
        assert_eq!(parse("aa55f7"), Ok(Answer::Short(2)));
        assert_eq!(parse(""), Ok(Answer::Short(5)));
        assert_eq!(parse("aa55f7830256c2"), Err(Malformed::Checksum { expected: 0xC320, found: 0xC256 }));
        let failure = Ok(Answer::Refused(Refusal(4)));
        assert_eq!(parse("aa55f783040102030405b35e"), failure, "the checksum covers bytes behind the code");
        let mut doubled = rtu_refusal(0xF7, Refusal(4));
        doubled.extend_from_within(..);
        assert_eq!(parse_rtu_answer(&doubled, 0xF7, 2), failure);
        assert!(matches!(parse("aa55f783040102030405b35f"), Err(Malformed::Checksum { .. })));
        assert_eq!(parse("aa55f78304"), Ok(Answer::Short(2)));
        let refusal = rtu_refusal(0xF7, Refusal::ILLEGAL_DATA_ADDRESS);
        let refused = Ok(Answer::Refused(Refusal::ILLEGAL_DATA_ADDRESS));
        assert_eq!(parse_rtu_answer(&refusal, 0xF7, 2), refused);
        assert!(matches!(parse("aa55f7030401020305cd33"), Err(Malformed::Checksum { found: 0x33CD, .. })));
        assert_eq!(parse("aa557f030401020304cd33"), Err(Malformed::Unit(0x7F)));
        assert_eq!(parse("aa55f7100401020304cd33"), Err(Malformed::Function(16)));
        let expected = Malformed::ByteCount { expected: 4, found: 6 };
        assert_eq!(parse("aa55f70306010203040506"), Err(expected));
        assert_eq!(parse("7fc0"), Err(Malformed::Prefix));
    }

    proptest! {
        #[test]
        fn any_bytes_parse(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..=MAX_WORDS) {
            if let Ok(Answer::Short(missing)) = parse_rtu_answer(&bytes, 0xF7, count) {
                prop_assert!(missing > 0);
            }
            let mut framed = vec![0xAA, 0x55, 0xF7];
            framed.extend(&bytes);
            let _ = parse_rtu_answer(&framed, 0xF7, count);
            let _ = parse_rtu_request(&bytes);
        }

        #[test]
        fn what_is_built_is_read(words in proptest::collection::vec(any::<u16>(), 0..=125), cut in 0_usize..260) {
            let frame = rtu_answer(0x7F, &words);
            let count = words.len() as u16;
            prop_assert_eq!(parse_rtu_answer(&frame, 0x7F, count), Ok(Answer::Words(words)));
            if cut < frame.len() {
                prop_assert!(matches!(parse_rtu_answer(&frame[..cut], 0x7F, count), Ok(Answer::Short(_))));
            }
        }
    }
}
