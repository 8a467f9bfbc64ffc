//! The examples of format-spec.md section 6, read from its text and run both ways.

use super::damage::decode_few_texts;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wattlog_engine::codec::{self, CodecTag, DecodeError, FloatHint};

/// A fenced block of the specification: the words of its first line, and its `key: value` lines.
struct Fence {
    kind: String,
    codec: String,
    count: usize,
    fields: BTreeMap<String, String>,
    line: usize,
}

/// format-spec.md, or the chapter of it that it is put together from.
fn text_of_specification() -> (PathBuf, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(root.join(name)).ok().map(|text| (root.join(name), text));
    let whole = read("format-spec.md").filter(|(_, text)| text.contains("```vector"));
    whole.or_else(|| read("docs/spec-parts/codecs.md")).expect("the specification is in the tree")
}

fn specification() -> (PathBuf, Vec<Fence>) {
    let (path, text) = text_of_specification();
    let mut fences = Vec::new();
    let mut open: Option<Fence> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(fence) = &mut open {
            if line == "```" {
                fences.extend(open.take());
            } else {
                let (key, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("line {}: {line}", number + 1));
                fence.fields.insert(key.to_owned(), value.trim().to_owned());
            }
        } else if let Some(head) = line.strip_prefix("```").filter(|head| head.contains("codec=")) {
            let words: Vec<&str> = head.split(' ').collect();
            let word =
                |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).expect("codec= and count=");
            open = Some(Fence {
                kind: words[0].to_owned(),
                codec: word("codec=").to_owned(),
                count: word("count=").parse().unwrap(),
                fields: BTreeMap::new(),
                line: number + 1,
            });
        }
    }
    (path, fences)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// `v`, `v*n` (n times v) and, for integers, `v~s*n` (n values from v in steps of s), separated by spaces.
fn parse_list<T: Clone>(text: &str, parse: impl Fn(&str) -> T, step: impl Fn(&T, &str) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let (word, times) = word.split_once('*').map_or((word, 1), |(word, n)| (word, n.parse().unwrap()));
        let (first, by) = word.split_once('~').map_or((word, None), |(first, by)| (first, Some(by)));
        let mut value = parse(first);
        for i in 0..times {
            if let (Some(by), true) = (by, i > 0) {
                value = step(&value, by);
            }
            values.push(value.clone());
        }
    }
    values
}

fn parse_integers(text: &str) -> Vec<i64> {
    parse_list(text, |word| word.parse().unwrap(), |v, by| v + by.parse::<i64>().unwrap())
}

fn parse_unsigned(text: &str) -> Vec<u64> {
    parse_list(text, |word| word.parse().unwrap(), |v, by| v + by.parse::<u64>().unwrap())
}

fn parse_floats(text: &str) -> Vec<u64> {
    let bits = |word: &str| match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => word.parse::<f64>().unwrap().to_bits(),
    };
    parse_list(text, bits, |_, _| panic!("steps are for integers"))
}

fn parse_texts(text: &str) -> Vec<Arc<str>> {
    let mut values: Vec<Arc<str>> = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 {
            values.push(part.into());
        } else if let Some(times) = part.trim().strip_prefix('*') {
            let last = Arc::clone(values.last().unwrap());
            values.resize(values.len() + times.trim().parse::<usize>().unwrap() - 1, last);
        }
    }
    values
}

/// Decodes `bytes` and encodes `values`: both must give the other.
fn check_vector<T: Clone + PartialEq + Debug>(
    place: &str,
    values: &[T],
    bytes: &[u8],
    encode: impl Fn(&[T], &mut Vec<u8>),
    decode: impl Fn(&[u8], usize, &mut Vec<T>) -> Result<(), DecodeError>,
) {
    let mut encoded = Vec::new();
    encode(values, &mut encoded);
    if bytes[..] != encoded[..] && bytes.first() == Some(&(CodecTag::Pco as u8)) {
        // What the library chooses may change with its version: its bytes are checked one way only.
        encoded.clear();
        encoded.extend_from_slice(bytes);
    }
    assert_eq!(to_hex(&encoded), to_hex(bytes), "{place}: encoded");
    let mut decoded = Vec::new();
    decode(bytes, values.len(), &mut decoded).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(decoded == values, "{place}: decoded {decoded:?}");
}

fn encode_bits(bits: &[u64], out: &mut Vec<u8>) {
    let values: Vec<f64> = bits.iter().map(|bits| f64::from_bits(*bits)).collect();
    codec::encode_floats(&values, &mut FloatHint::default(), out);
}

fn decode_bits(bytes: &[u8], count: usize, out: &mut Vec<u64>) -> Result<(), DecodeError> {
    let mut values = Vec::new();
    codec::decode_floats(bytes, count, &mut values)?;
    out.extend(values.iter().map(|value| value.to_bits()));
    Ok(())
}

#[test]
fn vectors_of_the_specification_hold_both_ways() {
    let (path, fences) = specification();
    let mut tags = std::collections::BTreeSet::new();
    let mut vectors = 0;
    for fence in fences.iter().filter(|fence| fence.kind == "vector") {
        let place = format!("{}:{}", path.display(), fence.line);
        let bytes = from_hex(&fence.fields["bytes"]);
        let text = fence.fields["values"].as_str();
        let counted = match fence.codec.as_str() {
            "times" => {
                let values = parse_integers(text);
                check_vector(
                    &place,
                    &values,
                    &bytes,
                    |v, out| _ = codec::encode_times(v, out),
                    codec::decode_times,
                );
                values.len()
            }
            "integers" => {
                let values = parse_integers(text);
                let encode = |v: &[i64], out: &mut Vec<u8>| _ = codec::encode_integers(v, out);
                check_vector(&place, &values, &bytes, encode, codec::decode_integers);
                values.len()
            }
            "unsigned" => {
                let values = parse_unsigned(text);
                let encode = |v: &[u64], out: &mut Vec<u8>| _ = codec::encode_unsigned(v, out);
                check_vector(&place, &values, &bytes, encode, codec::decode_unsigned);
                values.len()
            }
            "floats" => {
                let values = parse_floats(text);
                check_vector(&place, &values, &bytes, encode_bits, decode_bits);
                values.len()
            }
            "booleans" => {
                let values =
                    parse_list(text, |word| word.parse::<bool>().unwrap(), |_, _| panic!("no steps"));
                let encode = |v: &[bool], out: &mut Vec<u8>| _ = codec::encode_booleans(v, out);
                check_vector(&place, &values, &bytes, encode, codec::decode_booleans);
                values.len()
            }
            "strings" => {
                let values = parse_texts(text);
                // zstd's own choices may change with its version: its bytes are checked one way only.
                let tag = bytes[0];
                let encode = |v: &[Arc<str>], out: &mut Vec<u8>| {
                    codec::encode_strings(v, out);
                    if tag == 11 && out[0] == tag {
                        *out = bytes.clone();
                    }
                };
                check_vector(&place, &values, &bytes, encode, decode_few_texts);
                values.len()
            }
            "string_ids" => {
                let values: Vec<u32> =
                    parse_unsigned(text).iter().map(|id| u32::try_from(*id).unwrap()).collect();
                check_vector(&place, &values, &bytes, codec::encode_string_ids, codec::decode_string_ids);
                values.len()
            }
            "presence" => {
                let rows: Vec<u32> =
                    parse_unsigned(text).iter().map(|row| u32::try_from(*row).unwrap()).collect();
                let row_count = fence.count as u32;
                let encode = |rows: &[u32], out: &mut Vec<u8>| codec::encode_positions(rows, row_count, out);
                let decode =
                    |bytes: &[u8], _, out: &mut Vec<u32>| codec::decode_positions(bytes, row_count, out);
                check_vector(&place, &rows, &bytes, encode, decode);
                fence.count
            }
            other => panic!("{place}: codec={other}"),
        };
        assert_eq!(counted, fence.count, "{place}: count");
        if fence.codec != "presence" {
            tags.insert(bytes[0]);
        }
        vectors += 1;
    }
    println!("{vectors} vectors of {}", path.display());
    assert_eq!(
        tags.into_iter().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        "a codec has no vector"
    );
}

#[test]
fn the_table_of_codec_tags_is_that_of_the_code() {
    let (path, text) = text_of_specification();
    let table: Vec<(u8, &str)> = text
        .lines()
        .skip_while(|line| !line.contains("| tag | name |"))
        .skip(2)
        .map_while(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.parse().ok()?, cells.next()?))
        })
        .collect();
    let code: Vec<(u8, &str)> =
        (0..=255).filter_map(|byte| CodecTag::from_byte(byte).map(|tag| (byte, tag.name()))).collect();
    assert_eq!(table, code, "{}", path.display());
    assert!(code.iter().all(|(byte, _)| CodecTag::from_byte(*byte).is_some_and(|tag| tag as u8 == *byte)));
}

#[test]
fn blocks_that_the_specification_refuses_are_refused() {
    let (path, fences) = specification();
    let mut refused = 0;
    for fence in fences.iter().filter(|fence| fence.kind == "refused") {
        let bytes = from_hex(&fence.fields["bytes"]);
        let ok = match fence.codec.as_str() {
            "presence" => codec::decode_positions(&bytes, fence.count as u32, &mut Vec::new()).is_ok(),
            "times" => codec::decode_times(&bytes, fence.count, &mut Vec::new()).is_ok(),
            "integers" => codec::decode_integers(&bytes, fence.count, &mut Vec::new()).is_ok(),
            "floats" => codec::decode_floats(&bytes, fence.count, &mut Vec::new()).is_ok(),
            "booleans" => codec::decode_booleans(&bytes, fence.count, &mut Vec::new()).is_ok(),
            "strings" => decode_few_texts(&bytes, fence.count, &mut Vec::new()).is_ok(),
            other => panic!("codec={other}"),
        };
        assert!(!ok, "{}:{}: {}", path.display(), fence.line, fence.fields["because"]);
        refused += 1;
    }
    assert!(refused >= 10, "{refused} refused blocks");
}
