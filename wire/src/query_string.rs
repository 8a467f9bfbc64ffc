//! The query part of a URL as pairs of texts (WHATWG URL, "application/x-www-form-urlencoded parsing", with one
//! difference: bytes that are no UTF-8 are refused, since a lenient reading would name something else than was meant).

/// Name and value of each parameter, in order; `+` is a blank, a `%` without two hex digits stands for itself.
///
/// # Errors
/// A name or a value that is no UTF-8.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| format!("{:?} in the URL is no UTF-8", crate::text::shortened(text)))
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_blanks_and_what_is_left_out() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("db", "a b/c"), pair("x", "1+2%"), pair("k", ""), pair("\u{fc}", "\u{fffd}")];
        assert_eq!(pairs("db=a+b%2Fc&&x=1%2b2%&k&%C3%bc=%EF%BF%BD").unwrap(), expected);
        assert_eq!(pairs("").unwrap(), []);
    }

    #[test]
    fn what_is_no_utf8_is_refused_and_not_replaced() {
        for query in ["db=%FF", "%C3=x", "a=b&c=%ED%A0%80"] {
            assert!(pairs(query).unwrap_err().contains("is no UTF-8"), "{query}");
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_being_escaped(name in "\\PC{1,10}", value in "\\PC{0,10}") {
            let escape = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let query = format!("{}={}", escape(&name), escape(&value));
            prop_assert_eq!(pairs(&query).unwrap(), [(name, value)]);
        }

        #[test]
        fn any_text_is_taken_or_refused(query in "[ -~]{0,60}") {
            let _ = pairs(&query);
        }
    }
}
