//! Words to readings: pure, total, and the only place that knows how numbers are coded.
//!
//! Promise: any words give readings, never a panic; a register beyond the end of the words is left out; the "no data"
//! pattern of a register gives a reading without a value, never a zero.
//! Not here: what is plausible (`quality`), what is calculated (`derive`).

use super::registers::{Block, Coding, NoData, Number, Register};
use jiff::civil::DateTime;
use std::sync::Arc;
use wattlog_model::FieldValue;

/// One register's value as the device told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which register.
    pub register: &'static Register,
    /// Its value; none if the device has no data for it.
    pub value: Option<FieldValue>,
}

/// Decodes the words of a block, in the order of its table.
pub fn decode(block: &Block, words: &[u16]) -> Vec<Reading> {
    let mut readings = Vec::with_capacity(block.registers.len());
    decode_into(block, words, &mut readings);
    readings
}

/// As [`decode`], appending.
pub fn decode_into(block: &Block, words: &[u16], readings: &mut Vec<Reading>) {
    for register in block.registers {
        let Some(raw) = raw(block, register, words) else { continue };
        let value = if no_data(block, register, raw, words) { None } else { value(register, raw) };
        readings.push(Reading { register, value });
    }
}

/// The register's words, or none if they are not all there.
fn raw<'a>(block: &Block, register: &Register, words: &'a [u16]) -> Option<&'a [u16]> {
    let at = usize::from(register.address.checked_sub(block.start)?);
    words.get(at..at + register.coding.words())
}

fn no_data(block: &Block, register: &Register, raw: &[u16], words: &[u16]) -> bool {
    let all_ones = match register.coding {
        Coding::ByteHigh => raw[0] >> 8 == 0xFF,
        Coding::ByteLow => raw[0] & 0xFF == 0xFF,
        _ => raw.iter().all(|word| *word == 0xFFFF),
    };
    match register.no_data {
        NoData::AllOnes => all_ones,
        NoData::Temperature => all_ones || raw[0] == 0x7FFF,
        NoData::AllOnesOrZero => all_ones || raw.iter().all(|word| *word == 0),
        NoData::AllOnesIfAlso(anchor) => {
            let anchor = anchor.checked_sub(block.start).and_then(|at| words.get(usize::from(at)));
            all_ones && anchor == Some(&0xFFFF)
        }
    }
}

/// The value of words that do hold data; none if they are no value of their coding (a 30th of February, a NaN).
fn value(register: &Register, raw: &[u16]) -> Option<FieldValue> {
    let pair = || u32::from(raw[0]) << 16 | u32::from(raw[1]);
    // Every integer that Modbus can carry below is smaller than 2^53 in practice; a u64 total beyond it is no energy.
    let whole: i64 = match register.coding {
        Coding::U16 => i64::from(raw[0]),
        Coding::I16 => i64::from(raw[0] as i16),
        Coding::U32 => i64::from(pair()),
        Coding::I32 => i64::from(pair() as i32),
        Coding::ByteHigh => i64::from(raw[0] >> 8),
        Coding::ByteLow => i64::from(raw[0] & 0xFF),
        Coding::U64 => {
            let all = raw.iter().fold(0_u64, |sum, word| sum << 16 | u64::from(*word));
            i64::try_from(all).ok().filter(|all| *all < 1 << 53)?
        }
        Coding::F32 => {
            let number = f64::from(f32::from_bits(pair())).round();
            if number.abs() < 9e15 { number as i64 } else { return None }
        }
        Coding::Clock => clock(raw)?,
    };
    Some(match register.number {
        Number::Float => FieldValue::Float(whole as f64 / f64::from(register.divisor)),
        Number::Integer => FieldValue::Integer(whole),
    })
}

/// Seconds since 1970-01-01 00:00 of the device's own local time.
fn clock(raw: &[u16]) -> Option<i64> {
    let byte = |index: usize| (raw[index / 2] >> (8 - 8 * (index % 2)) & 0xFF) as i8;
    let year = 2000 + (raw[0] >> 8) as i16;
    let civil = DateTime::new(year, byte(1), byte(2), byte(3), byte(4), byte(5), 0).ok()?;
    jiff::tz::Offset::UTC.to_timestamp(civil).ok().map(jiff::Timestamp::as_second)
}

/// Text of `words`, cut at the padding (NUL, blanks, all ones); none if nothing or something unprintable is left.
pub fn text(words: &[u16]) -> Option<Arc<str>> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let end = bytes.iter().rposition(|byte| !matches!(byte, 0 | b' ' | 0xFF)).map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    let printable = !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    printable.then(|| String::from_utf8_lossy(bytes).trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BlockName, Family};
    use crate::goodwe::registers;
    use proptest::prelude::*;

    fn running() -> &'static Block {
        registers::block(Family::Et, BlockName::Running).unwrap()
    }

    fn field(words: &[u16], name: &str) -> Option<FieldValue> {
        decode(running(), words).into_iter().find(|reading| reading.register.field == name).unwrap().value
    }

    #[test]
    fn all_ones_is_missing_and_never_zero() {
        let night = [0xFFFF_u16; 125];
        assert!(decode(running(), &night).iter().all(|reading| reading.value.is_none()));
    }

    #[test]
    fn minus_one_watt_is_a_number_while_the_inverter_measures() {
        let mut words = [0_u16; 125];
        words[21] = 2393; // 35121
        words[40] = 0xFFFF; // 35140
        assert_eq!(field(&words, "active_power"), Some(FieldValue::Float(-1.0)));
        words[21] = 0xFFFF;
        assert_eq!(field(&words, "active_power"), None);
    }

    #[test]
    fn a_phase_that_does_not_exist_has_no_power_of_minus_one() {
        let mut words = [0_u16; 125];
        words[30] = 0xFFFF; // 35130
        assert_eq!(field(&words, "ac_power_l2"), Some(FieldValue::Float(-1.0)));
        // A single-phase inverter: voltage, current, frequency and power of phase 2 are all ones.
        words[26..31].fill(0xFFFF);
        words[66] = 0xFFFF; // 35166
        for name in ["ac_voltage_l2", "ac_current_l2", "ac_frequency_l2", "ac_power_l2", "load_power_l2"] {
            assert_eq!(field(&words, name), None, "{name}");
        }
        assert_eq!(field(&words, "ac_power_l1"), Some(FieldValue::Float(0.0)));
    }

    #[test]
    fn a_meter_total_of_nothing_is_missing() {
        let meter = registers::block(Family::Et, BlockName::Meter).unwrap();
        let mut words = [0_u16; 125];
        let missing = |words: &[u16]| {
            let totals = decode(meter, words).into_iter().filter(|reading| reading.register.unit == "kWh");
            totals.filter(|reading| reading.value.is_none()).count()
        };
        let all = missing(&words);
        assert!(all > 8);
        words[107] = 1; // 36104 to 36107
        assert_eq!(missing(&words), all - 1);
    }

    #[test]
    fn temperatures_have_two_patterns_for_nothing() {
        let mut words = [0_u16; 125];
        for (raw, expected) in [
            (0xFFFF, None),
            (0x7FFF, None),
            (0xFFF6, Some(FieldValue::Float(-1.0))),
            (0, Some(FieldValue::Float(0.0))),
        ] {
            words[76] = raw;
            assert_eq!(field(&words, "inverter_temp"), expected);
        }
    }

    #[test]
    fn a_clock_that_shows_no_date_is_missing() {
        let mut words = [0_u16; 125];
        words[..3].copy_from_slice(&[0x1508, 0x160B, 0x0B0C]);
        let expected = "2021-08-22T11:11:12Z".parse::<jiff::Timestamp>().unwrap().as_second();
        assert_eq!(field(&words, "inverter_clock"), Some(FieldValue::Integer(expected)));
        words[0] = 0x150D;
        assert_eq!(field(&words, "inverter_clock"), None);
    }

    #[test]
    fn texts_lose_their_padding() {
        assert_eq!(text(&[0x4757, 0x3130, 0x2020, 0x0000]).as_deref(), Some("GW10"));
        assert_eq!(text(&[0xFFFF, 0xFFFF]), None);
        assert_eq!(text(&[0x0101]), None);
    }

    proptest! {
        #[test]
        fn any_words_decode(words in proptest::collection::vec(any::<u16>(), 0..130)) {
            for block in [Family::Et, Family::Dt].into_iter().flat_map(registers::blocks) {
                for reading in decode(block, &words) {
                    let end = usize::from(reading.register.address - block.start) + reading.register.coding.words();
                    prop_assert!(end <= words.len());
                    if let Some(FieldValue::Float(number)) = reading.value {
                        prop_assert!(number.is_finite());
                    }
                }
            }
            let _ = text(&words);
        }
    }
}
