//! Numbers as texts, both ways, without detours through an allocation.

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Value of a decimal like `-12.34`, `7`, `.5` or `3.`: the double nearest to it. None for any other text, and for
/// digits beyond what one exact division can turn into the nearest double; `str::parse` then decides.
///
/// Digits below 2^53 over an exact power of ten: both operands are exact, so the one rounding of the division gives
/// the nearest double (W. D. Clinger, "How to read floating point numbers accurately", 1990, section 4).
pub(super) fn short_decimal(text: &[u8]) -> Option<f64> {
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

/// Appends a finite double as the shortest decimal that reads back as the same bits; whole numbers without a point,
/// negative zero as `-0.0`.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64) {
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
pub(crate) fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
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
