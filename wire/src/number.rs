//! Numbers as texts, both ways, without detours through an allocation.

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

const WHOLE_POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Value of a decimal like `-12.34`, `7`, `.5` or `3.`: the double nearest to it. None for any other text, and for
/// digits beyond what one exact division can turn into the nearest double; `str::parse` then decides.
///
/// Digits below 2^53 over an exact power of ten: both operands are exact, so the one rounding of the division gives
/// the nearest double (W. D. Clinger, "How to read floating point numbers accurately", 1990, section 4).
pub(crate) fn short_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // 15 digits are below 2^53; one more byte for the point.
    if digits.len() > 16 {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (i, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if byte == b'.' && point.is_none() {
            point = Some(i);
        } else {
            return None;
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return None;
    }
    let decimals = point.map_or(0, |i| digits.len() - 1 - i);
    let value = mantissa as f64 / POWERS[decimals];
    Some(if negative { -value } else { value })
}

/// A decimal at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeadingDecimal {
    /// It begins with a minus.
    pub(crate) negative: bool,
    /// Its digits as one number, at most seven.
    pub(crate) digits: u32,
    /// How many of them stand behind the point; None without a point.
    pub(crate) decimals: Option<u32>,
    /// Its length in bytes.
    pub(crate) len: usize,
}

impl LeadingDecimal {
    /// The decimal that begins `text`: like [`short_decimal`], up to the first byte that is no part of it. None also for
    /// one of more than seven bytes without its sign, and near the end of the text: eight bytes are looked at in one go,
    /// with no branch per digit.
    #[inline]
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let sign_len = usize::from(negative);
        let word = u64::from_le_bytes(*text.get(sign_len..)?.first_chunk()?);
        let (places, others) = digits_of(word);
        if others == 0 {
            return None;
        }
        let first_other = others.trailing_zeros() / 8;
        let (places, count, decimals) = if (word >> (8 * first_other)) as u8 == b'.' {
            let behind = others & (others - 1);
            if behind == 0 {
                return None;
            }
            let end = behind.trailing_zeros() / 8;
            let before_point = (1 << (8 * first_other)) - 1;
            let joined = (places & before_point) | ((places >> 8) & !before_point);
            (joined, end - 1, Some(end - 1 - first_other))
        } else {
            (places, first_other, None)
        };
        if count == 0 {
            return None;
        }
        let digits = number_of_eight(places << (64 - 8 * count)) as u32;
        let len = sign_len + (count + u32::from(decimals.is_some())) as usize;
        Some(Self { negative, digits, decimals, len })
    }

    /// The double nearest to it; exact operands, one rounding, as in [`short_decimal`].
    #[inline]
    pub(crate) fn float(self) -> f64 {
        let value = f64::from(self.digits) / POWERS[self.decimals.unwrap_or(0) as usize % POWERS.len()];
        // No branch: the sign of a reading around zero cannot be guessed.
        f64::from_bits(value.to_bits() ^ (u64::from(self.negative) << 63))
    }
}

/// The number that the digits at the beginning of `text` make, and how many they are; None if there are more than 19.
#[inline]
pub(crate) fn leading_digits(text: &[u8]) -> Option<(u64, usize)> {
    let (mut number, mut count) = (0_u64, 0);
    while let Some(chunk) = text[count..].first_chunk() {
        let (places, others) = digits_of(u64::from_le_bytes(*chunk));
        if others > 0 {
            let more = others.trailing_zeros() / 8;
            if count as u32 + more > 19 {
                return None;
            }
            if more > 0 {
                number = number * WHOLE_POWERS[more as usize] + number_of_eight(places << (64 - 8 * more));
            }
            return Some((number, count + more as usize));
        }
        if count == 16 {
            return None;
        }
        number = number * 100_000_000 + number_of_eight(places);
        count += 8;
    }
    for byte in text[count..].iter().take_while(|byte| byte.is_ascii_digit()) {
        if count == 19 {
            return None;
        }
        number = number * 10 + u64::from(byte - b'0');
        count += 1;
    }
    Some((number, count))
}

/// Eight bytes of text, the first the lowest: the value of each digit in its byte, and the top bit of each byte that is
/// no digit.
#[inline]
fn digits_of(word: u64) -> (u64, u64) {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const TOP: u64 = 0x8080_8080_8080_8080;
    let places = word ^ ZEROS;
    // 10 and more reach the top bit by adding 118; what has it already is no digit either.
    let others = (((places & !TOP) + 0x7676_7676_7676_7676) | places) & TOP;
    (places, others)
}

/// Eight digits, the first in the lowest byte: neighbours are joined to pairs, pairs to fours, fours to eight.
#[inline]
fn number_of_eight(places: u64) -> u64 {
    let pairs = places.wrapping_mul(10).wrapping_add(places >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// Appends a finite double as the shortest decimal that reads back as the same bits; whole numbers without a point,
/// negative zero as `-0.0`.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    debug_assert!(value.is_finite());
    // Sensor readings have few decimals. If an integer of at most 15 digits over 10^k divides to the same bits, its
    // digits are the shortest ones, as k is the smallest that does and no two such decimals share a double.
    for (decimals, power) in POWERS[..=4].iter().enumerate() {
        let scaled = value * power;
        if scaled.abs() >= 1e15 {
            break;
        }
        let whole = scaled.round_ties_even();
        if (whole / power).to_bits() == value.to_bits() && !(whole == 0.0 && value.is_sign_negative()) {
            write_scaled(out, whole as i64, decimals as u32);
            return;
        }
    }
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

fn write_scaled(out: &mut Vec<u8>, scaled: i64, decimals: u32) {
    if decimals == 0 {
        write_integer(out, scaled);
        return;
    }
    if scaled < 0 {
        out.push(b'-');
    }
    let (magnitude, power) = (scaled.unsigned_abs(), 10_u64.pow(decimals));
    out.extend_from_slice(itoa::Buffer::new().format(magnitude / power).as_bytes());
    out.push(b'.');
    let mut place = power / 10;
    let fraction = magnitude % power;
    while place > 0 {
        out.push(b'0' + (fraction / place % 10) as u8);
        place /= 10;
    }
}

/// Appends an integer.
pub fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn short_decimals_and_what_is_none() {
        for (text, value) in
            [("1", 1.0), ("-55.5", -55.5), (".5", 0.5), ("3.", 3.0), ("0.1", 0.1), ("1234.5678", 1234.5678)]
        {
            assert_eq!(short_decimal(text.as_bytes()), Some(value));
        }
        assert_eq!(short_decimal(b"-0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
        for text in ["", "-", ".", "-.", "1e5", "+1", "1.2.3", "NaN", "0x1", "1_0", "1234567890123456", "--1"]
        {
            assert_eq!(short_decimal(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_leading_decimal_ends_where_it_ends() {
        let read = |text: &str| LeadingDecimal::read(text.as_bytes());
        let cases = [
            ("1,        ", 1.0, 1),
            ("-55.5 1234", -55.5, 5),
            (".5i      ", 0.5, 2),
            ("3.,      ", 3.0, 2),
            ("1234567 ,", 1_234_567.0, 7),
            ("12.3456,x", 12.3456, 7),
            ("-0 ffffffff", -0.0, 2),
            ("1.2.3    ", 1.2, 3),
            ("7e5      ", 7.0, 1),
        ];
        for (text, value, len) in cases {
            let decimal = read(text).unwrap_or_else(|| panic!("{text:?} is one"));
            assert_eq!((decimal.float().to_bits(), decimal.len), (f64::to_bits(value), len), "{text:?}");
        }
        for text in
            ["", "1", "1,23456", "12345678,", "123.4567,", ".,       ", "-        ", "--1     ", "x1234567"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn leading_digits_up_to_nineteen() {
        let cases = [
            ("", 0, 0),
            ("x", 0, 0),
            ("5", 5, 1),
            ("12345678", 12_345_678, 8),
            ("1780772000000000000\nabc", 1_780_772_000_000_000_000, 19),
            ("9999999999999999999 ........", 9_999_999_999_999_999_999, 19),
            ("1234567890 12345678", 1_234_567_890, 10),
        ];
        for (text, number, count) in cases {
            assert_eq!(leading_digits(text.as_bytes()), Some((number, count)), "{text}");
        }
        for text in
            ["12345678901234567890", "12345678901234567890 ........", "123456789012345678901234567890"]
        {
            assert_eq!(leading_digits(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats_are_written_short() {
        let cases = [
            (55.5, "55.5"),
            (-0.04, "-0.04"),
            (1234.0, "1234"),
            (0.0, "0"),
            (-0.0, "-0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (0.0001, "0.0001"),
            (-12.0625, "-12.0625"),
        ];
        for (value, text) in cases {
            assert_eq!(written(value), text);
        }
    }

    proptest! {
        #[test]
        fn a_fast_decimal_equals_the_slow_one(text in "-?[0-9]{0,9}(\\.[0-9]{0,9})?") {
            if let Some(fast) = short_decimal(text.as_bytes()) {
                prop_assert_eq!(fast.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }

        #[test]
        fn a_leading_decimal_equals_the_slow_one(number in "-?[0-9]{0,7}(\\.[0-9]{0,7})?", rest in "[,ie .-][0-9, .]{7}") {
            let text = format!("{number}{rest}");
            if let Some(fast) = LeadingDecimal::read(text.as_bytes()) {
                let slow = text[..fast.len].parse::<f64>().unwrap();
                prop_assert_eq!(fast.float().to_bits(), slow.to_bits());
                prop_assert_eq!(fast.decimals.is_some(), text[..fast.len].contains('.'));
                prop_assert!(!text.as_bytes()[fast.len].is_ascii_digit());
            }
        }

        #[test]
        fn leading_digits_equal_the_slow_ones(digits in "[0-9]{0,21}", rest in "[^0-9]?[ -~]{0,9}") {
            let text = format!("{digits}{rest}");
            let all: String = text.chars().take_while(char::is_ascii_digit).collect();
            let slow = match all.len() {
                0 => Some((0, 0)),
                1..=19 => Some((all.parse().unwrap(), all.len())),
                _ => None,
            };
            prop_assert_eq!(leading_digits(text.as_bytes()), slow);
        }

        #[test]
        fn a_written_float_reads_back(bits in any::<u64>(), n in -1_000_000_000_i64..1_000_000_000, k in 0_u32..7) {
            for value in [f64::from_bits(bits), n as f64 / 10_f64.powi(k as i32), n as f64 * 1e7] {
                if value.is_finite() {
                    let text = written(value);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
                    let json: f64 = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(json.to_bits(), value.to_bits());
                    let shortest = zmij::Buffer::new().format_finite(value).to_owned();
                    prop_assert!(text.len() <= shortest.len(), "{} against {}", text, shortest);
                }
            }
        }
    }
}
