//! Conditions of queries as text: `battery_soc < 20 and (price > 0.8 or mode = 'boost')`.
//!
//! Grammar (docs/api.md, "Conditions"), words in any case:
//! ```text
//! condition  = both { "or" both }            both = one { "and" one }
//! one        = "not" one | "(" condition ")" | operand operator operand
//! operand    = NAME | NUMBER | "true" | "false" | TEXT, one of the two a name
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">="
//! ```
//! Promise: any text gives a condition or an error that names the place; nesting and length are bounded, so it ends.

use crate::text::shortened;
use std::iter::Peekable;
use std::str::CharIndices;
use wattlog_engine::query::{Comparison, Condition, Literal, Name, Operator};

/// Longest text of a condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 8192;

/// Reads a condition.
///
/// # Errors
/// What is wrong and at which character.
pub fn parse_condition(text: &str) -> Result<Condition, String> {
    if text.len() > MAX_CONDITION_BYTES {
        return Err(format!("a condition has at most {MAX_CONDITION_BYTES} bytes, this one {}", text.len()));
    }
    let mut parser =
        Parser { tokens: tokens(text)?.into_iter().peekable(), end: text.chars().count(), comparisons: 0 };
    let condition = parser.either(0)?;
    match parser.tokens.next() {
        None => Ok(condition),
        Some(token) => Err(parser.wrong("and, or, or the end", Some(token))),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// Not in backticks: may be a word of the grammar.
    Word(String),
    /// In backticks.
    Quoted(String),
    Value(Literal),
    Operator(Operator),
    Open,
    Close,
}

/// A token and the character at which it begins, counted from one.
type Placed = (usize, Token);

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Placed>>,
    /// Characters of the text.
    end: usize,
    comparisons: usize,
}

enum Operand {
    Name(Name),
    Value(Literal),
}

impl Parser {
    fn either(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.both(depth)?];
        while self.takes_word("or") {
            parts.push(self.both(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn both(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.one(depth)?];
        while self.takes_word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Condition, String> {
        // Half of what the engine takes: every level here is at most two there.
        let limit = Condition::MAX_DEPTH / 2;
        if depth >= limit {
            return Err(format!("a condition is nested at most {limit} deep"));
        }
        if self.takes_word("not") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.tokens.next_if(|(_, token)| *token == Token::Open).is_some() {
            let inner = self.either(depth + 1)?;
            return match self.tokens.next() {
                Some((_, Token::Close)) => Ok(inner),
                other => Err(self.wrong("and, or, or )", other)),
            };
        }
        self.comparisons += 1;
        if self.comparisons > Condition::MAX_COMPARISONS {
            return Err(format!("a condition has at most {} comparisons", Condition::MAX_COMPARISONS));
        }
        let at = self.tokens.peek().map_or(self.end + 1, |(at, _)| *at);
        let left = self.operand("a name, a value, not or (")?;
        let operator = match self.tokens.next() {
            Some((_, Token::Operator(operator))) => operator,
            other => return Err(self.wrong("one of = != < <= > >=", other)),
        };
        let right = self.operand("a value")?;
        let (name, operator, value) = match (left, right) {
            (Operand::Name(name), Operand::Value(value)) => (name, operator, value),
            (Operand::Value(value), Operand::Name(name)) => (name, operator.turned(), value),
            (Operand::Name(_), Operand::Name(_)) => {
                return Err(format!("at character {at}: two names are compared: put texts in quotes"));
            }
            (Operand::Value(_), Operand::Value(_)) => {
                return Err(format!(
                    "at character {at}: two values are compared, one side must be a field or a tag"
                ));
            }
        };
        Ok(Condition::Compare(Comparison { name, operator, value }))
    }

    fn operand(&mut self, expected: &str) -> Result<Operand, String> {
        let token = self.tokens.next();
        Ok(match token {
            Some((_, Token::Value(value))) => Operand::Value(value),
            Some((_, Token::Quoted(name))) => Operand::Name(Name::Any(name)),
            Some((_, Token::Word(word))) if word.eq_ignore_ascii_case("true") => {
                Operand::Value(Literal::Boolean(true))
            }
            Some((_, Token::Word(word))) if word.eq_ignore_ascii_case("false") => {
                Operand::Value(Literal::Boolean(false))
            }
            Some((_, Token::Word(ref word))) if !is_grammar(word) => {
                Operand::Name(match word.strip_prefix("tag.") {
                    Some(key) => Name::Tag(key.to_owned()),
                    None => Name::Any(word.clone()),
                })
            }
            other => return Err(self.wrong(expected, other)),
        })
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let is_wanted =
            |(_, token): &Placed| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.tokens.next_if(is_wanted).is_some()
    }

    fn wrong(&self, expected: &str, found: Option<Placed>) -> String {
        let (at, found) = match found {
            None => (self.end + 1, "the end".to_owned()),
            Some((at, token)) => (at, told(&token)),
        };
        format!("at character {at}: {expected} expected, found {found}")
    }
}

fn is_grammar(word: &str) -> bool {
    ["and", "or", "not"].iter().any(|own| word.eq_ignore_ascii_case(own))
}

fn told(token: &Token) -> String {
    match token {
        Token::Word(text) => shortened(text),
        Token::Quoted(text) => format!("`{}`", shortened(text)),
        Token::Value(Literal::Text(text)) => format!("{:?}", shortened(text)),
        Token::Value(value) => value.to_string(),
        Token::Operator(operator) => operator.sign().to_owned(),
        Token::Open => "(".to_owned(),
        Token::Close => ")".to_owned(),
    }
}

fn tokens(text: &str) -> Result<Vec<Placed>, String> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    let (mut at, mut counted) = (0, 0);
    while let Some((start, c)) = chars.next() {
        // Characters before this one; each byte is looked at once.
        at += text[counted..start].chars().count();
        counted = start;
        let place = at + 1;
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '=' => Token::Operator(Operator::Equal),
            '<' | '>' | '!' => {
                let with_equal = chars.next_if(|(_, c)| *c == '=').is_some();
                Token::Operator(match (c, with_equal) {
                    ('<', false) => Operator::Less,
                    ('<', true) => Operator::LessOrEqual,
                    ('>', false) => Operator::Greater,
                    ('>', true) => Operator::GreaterOrEqual,
                    (_, true) => Operator::NotEqual,
                    (_, false) => {
                        return Err(format!("at character {place}: ! alone is no operator, write != or not"));
                    }
                })
            }
            '\'' | '"' => Token::Value(Literal::Text(quoted(&mut chars, c, place)?)),
            '`' => Token::Quoted(quoted(&mut chars, c, place)?),
            c if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') => {
                let end = number_end(text, start);
                while chars.next_if(|(i, _)| *i < end).is_some() {}
                Token::Value(number(&text[start..end]).ok_or_else(|| {
                    format!("at character {place}: {:?} is no number", shortened(&text[start..end]))
                })?)
            }
            c if c.is_alphabetic() || c == '_' => {
                let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
                let mut end = start + c.len_utf8();
                while let Some((i, c)) = chars.next_if(|(_, c)| goes_on(*c)) {
                    end = i + c.len_utf8();
                }
                Token::Word(text[start..end].to_owned())
            }
            c => {
                return Err(format!(
                    "at character {place}: {c:?} begins nothing; names with such characters stand in backticks, texts in quotes"
                ));
            }
        };
        out.push((place, token));
    }
    Ok(out)
}

/// The rest of a quoted text; a quote in it is doubled.
fn quoted(chars: &mut Peekable<CharIndices<'_>>, quote: char, place: usize) -> Result<String, String> {
    let mut out = String::new();
    while let Some((_, c)) = chars.next() {
        if c != quote {
            out.push(c);
        } else if chars.next_if(|(_, c)| *c == quote).is_some() {
            out.push(quote);
        } else {
            return Ok(out);
        }
    }
    Err(format!("at character {place}: {quote} is not closed"))
}

/// Where what looks like a number ends: letters belong to it, so that `20W` is refused whole.
fn number_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = start + 1;
    while let Some(byte) = bytes.get(end) {
        let sign_of_exponent = matches!(byte, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E');
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign_of_exponent) {
            break;
        }
        end += 1;
    }
    end
}

fn number(text: &str) -> Option<Literal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        // Beyond 39 digits it is further out than anything stored; the nearest double says the same.
        if let Ok(whole) = text.parse() {
            return Some(Literal::Integer(whole));
        }
    }
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite()).map(Literal::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compare(name: &str, operator: Operator, value: Literal) -> Condition {
        Condition::compare(name, operator, value)
    }

    fn check(text: &str, expected: Condition) {
        assert_eq!(parse_condition(text), Ok(expected), "{text}");
    }

    #[test]
    fn comparisons_of_all_kinds() {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        check("battery_soc<20", compare("battery_soc", Less, Literal::Integer(20)));
        check(" price >= -0.85e1 ", compare("price", GreaterOrEqual, Literal::Float(-8.5)));
        check("20 > soc", compare("soc", Less, Literal::Integer(20)));
        check("20<=soc", compare("soc", GreaterOrEqual, Literal::Integer(20)));
        check("mode='it''s'", compare("mode", Equal, Literal::Text("it's".into())));
        check("mode != \"a 'b'\"", compare("mode", NotEqual, Literal::Text("a 'b'".into())));
        check("on = TRUE", compare("on", Equal, Literal::Boolean(true)));
        check("`grid power (W)` > .5", compare("grid power (W)", Greater, Literal::Float(0.5)));
        check("`and`<=+1", compare("and", LessOrEqual, Literal::Integer(1)));
        check("temp.in > 1", compare("temp.in", Greater, Literal::Integer(1)));
        check("Ładowanie=170141183460469231731687303715884105727", {
            compare("Ładowanie", Equal, Literal::Integer(i128::MAX))
        });
        check("tag.site = 'x'", {
            let name = Name::Tag("site".into());
            Condition::Compare(Comparison { name, operator: Equal, value: Literal::Text("x".into()) })
        });
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let leaf = |name: &str| compare(name, Operator::Equal, Literal::Integer(1));
        check(
            "a=1 or b=1 and not c=1 AND (d=1 or e=1)",
            Condition::Any(vec![
                leaf("a"),
                Condition::All(vec![
                    leaf("b"),
                    Condition::Not(Box::new(leaf("c"))),
                    Condition::Any(vec![leaf("d"), leaf("e")]),
                ]),
            ]),
        );
        check("not(a=1)", Condition::Not(Box::new(leaf("a"))));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("", "at character 1: a name, a value, not or ( expected, found the end"),
            ("soc", "at character 4: one of = != < <= > >= expected, found the end"),
            ("soc <", "at character 6: a value expected, found the end"),
            ("soc < 20 price > 1", "at character 10: and, or, or the end expected, found price"),
            ("(soc < 20", "at character 10: and, or, or ) expected, found the end"),
            ("soc == 20", "at character 6: a value expected, found ="),
            ("ż < ! 20", "at character 5: ! alone is no operator"),
            ("mode = boost", "at character 1: two names are compared: put texts in quotes"),
            ("1 = 1", "at character 1: two values are compared"),
            ("soc < 20%", "at character 9: '%' begins nothing"),
            ("soc < 20W", "\"20W\" is no number"),
            ("soc < 1e999", "\"1e999\" is no number"),
            ("soc < -inf", "\"-inf\" is no number"),
            ("mode = 'x", "at character 8: ' is not closed"),
            ("and = 1", "found and"),
        ] {
            let error = parse_condition(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn length_depth_and_number_of_comparisons_are_bounded() {
        let deep = |n: usize| format!("{}a=1{}", "(".repeat(n), ")".repeat(n));
        assert!(parse_condition(&deep(Condition::MAX_DEPTH / 2 - 1)).is_ok());
        assert!(parse_condition(&deep(Condition::MAX_DEPTH / 2)).unwrap_err().contains("nested at most"));
        assert!(parse_condition(&"not ".repeat(2000)).unwrap_err().contains("nested at most"));
        let many = |n: usize| vec!["a=1"; n].join(" or ");
        assert!(parse_condition(&many(Condition::MAX_COMPARISONS)).is_ok());
        assert!(parse_condition(&many(Condition::MAX_COMPARISONS + 1)).unwrap_err().contains("comparisons"));
        assert!(parse_condition(&" ".repeat(MAX_CONDITION_BYTES + 1)).unwrap_err().contains("bytes"));
    }

    fn written(condition: &Condition) -> String {
        let joined = |parts: &[Condition], word: &str| {
            format!("({})", parts.iter().map(written).collect::<Vec<_>>().join(word))
        };
        match condition {
            Condition::Not(inner) => format!("not {}", written(inner)),
            Condition::All(parts) => joined(parts, " and "),
            Condition::Any(parts) => joined(parts, " or "),
            Condition::Compare(Comparison { name, operator, value }) => {
                let name = match name {
                    Name::Any(name) => format!("`{}`", name.replace('`', "``")),
                    Name::Tag(key) => format!("tag.{key}"),
                };
                let value = match value {
                    Literal::Text(text) => format!("'{}'", text.replace('\'', "''")),
                    Literal::Float(number) => format!("{number:e}"),
                    other => other.to_string(),
                };
                format!("{name}{}{value}", operator.sign())
            }
        }
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        let value = prop_oneof![
            any::<i128>().prop_map(Literal::Integer),
            prop::num::f64::NORMAL.prop_map(Literal::Float),
            any::<bool>().prop_map(Literal::Boolean),
            "\\PC{0,8}".prop_map(Literal::Text),
        ];
        let operator = prop::sample::select(vec![
            Operator::Equal,
            Operator::NotEqual,
            Operator::Less,
            Operator::GreaterOrEqual,
        ]);
        let name = prop_oneof!["\\PC{1,8}".prop_map(Name::Any), "[a-z_]{1,6}".prop_map(Name::Tag)];
        let leaf = (name, operator, value)
            .prop_map(|(name, operator, value)| Condition::Compare(Comparison { name, operator, value }));
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|inner| Condition::Not(Box::new(inner))),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Condition::All),
                prop::collection::vec(inner, 2..4).prop_map(Condition::Any),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(condition in any_condition()) {
            prop_assert_eq!(parse_condition(&written(&condition)), Ok(condition));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", likely in "[a-c<>=!()'\"` 0-9.+-]{0,40}(and|or|not)?") {
            let _ = parse_condition(&text);
            let _ = parse_condition(&likely);
        }
    }
}
