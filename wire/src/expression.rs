//! Expressions over fields as text: `pv_power - 0.5 * (consumption + ev)`.
//!
//! ```text
//! sum     = product { ("+" | "-") product }      product = one { ("*" | "/") one }
//! one     = "-" one | "(" sum ")" | NUMBER | NAME
//! ```
//! Promise: any text gives an expression or an error that names the place; nesting and length are bounded.

use crate::text::shortened;
use wattlog_engine::query::{Arithmetic, Expression};

/// Longest text of an expression, in bytes.
pub const MAX_EXPRESSION_BYTES: usize = 4096;

/// Reads an expression.
///
/// # Errors
/// What is wrong and at which character.
pub fn parse_expression(text: &str) -> Result<Expression, String> {
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(format!(
            "an expression has at most {MAX_EXPRESSION_BYTES} bytes, this one {}",
            text.len()
        ));
    }
    let mut parser = Parser { text, at: 0, operands: 0, joined: 0 };
    let expression = parser.sum(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.wrong("one of + - * /, or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Byte that is next.
    at: usize,
    operands: usize,
    /// Operators so far.
    joined: usize,
}

impl Parser<'_> {
    fn sum(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.product(depth)?;
        while let Some(sign) = self.peek().filter(|c| matches!(c, '+' | '-')) {
            self.at += 1;
            let operator = if sign == '+' { Arithmetic::Add } else { Arithmetic::Subtract };
            let right = self.product(depth)?;
            left = self.join(operator, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self, depth: usize) -> Result<Expression, String> {
        let mut left = self.one(depth)?;
        while let Some(sign) = self.peek().filter(|c| matches!(c, '*' | '/')) {
            self.at += 1;
            let operator = if sign == '*' { Arithmetic::Multiply } else { Arithmetic::Divide };
            let right = self.one(depth)?;
            left = self.join(operator, left, right)?;
        }
        Ok(left)
    }

    /// What is joined leans to the left: each operator makes it one deeper.
    fn join(
        &mut self,
        operator: Arithmetic,
        left: Expression,
        right: Expression,
    ) -> Result<Expression, String> {
        self.joined += 1;
        if self.joined > LIMIT {
            return Err(format!("an expression has at most {LIMIT} operators"));
        }
        Ok(Expression::Binary(operator, Box::new(left), Box::new(right)))
    }

    fn one(&mut self, depth: usize) -> Result<Expression, String> {
        if depth >= LIMIT {
            return Err(format!("an expression is nested at most {LIMIT} deep"));
        }
        match self.peek() {
            Some('-') => {
                self.at += 1;
                Ok(Expression::Negate(Box::new(self.one(depth + 1)?)))
            }
            Some('(') => {
                self.at += 1;
                let inner = self.sum(depth + 1)?;
                if self.peek() != Some(')') {
                    return Err(self.wrong("one of + - * / )"));
                }
                self.at += 1;
                Ok(inner)
            }
            Some(c) => self.operand(c),
            None => Err(self.wrong("a field, a number or (")),
        }
    }

    fn operand(&mut self, first: char) -> Result<Expression, String> {
        self.operands += 1;
        if self.operands > Expression::MAX_OPERANDS {
            return Err(format!("an expression has at most {} numbers and fields", Expression::MAX_OPERANDS));
        }
        let rest = &self.text[self.at..];
        if first == '`' {
            let Some(end) = rest[1..].find('`') else { return Err(self.wrong("a closing `")) };
            let name = rest[1..=end].to_owned();
            self.at += end + 2;
            return Ok(Expression::Field(name));
        }
        if first.is_alphabetic() || first == '_' {
            let end =
                rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len());
            self.at += end;
            return Ok(Expression::Field(rest[..end].to_owned()));
        }
        if first.is_ascii_digit() || first == '.' {
            let bytes = rest.as_bytes();
            let mut end = 1;
            while let Some(byte) = bytes.get(end) {
                let sign = matches!(byte, b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E');
                if !(byte.is_ascii_alphanumeric() || *byte == b'.' || sign) {
                    break;
                }
                end += 1;
            }
            let number = rest[..end].parse::<f64>().ok().filter(|number| number.is_finite());
            let number = number.ok_or_else(|| format!("{:?} is no number", shortened(&rest[..end])))?;
            self.at += end;
            return Ok(Expression::Number(number));
        }
        Err(self.wrong("a field, a number or ("))
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at = self.text.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn wrong(&self, expected: &str) -> String {
        let place = self.text[..self.at].chars().count() + 1;
        let found = self.text[self.at..].chars().next().map_or("the end".to_owned(), |c| format!("{c:?}"));
        format!("at character {place}: {expected} expected, found {found}")
    }
}

/// Half of what the engine takes, for nesting and for operators that follow each other: together they stay within it.
const LIMIT: usize = Expression::MAX_DEPTH / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(name: &str) -> Expression {
        Expression::Field(name.to_owned())
    }

    fn join(operator: Arithmetic, a: Expression, b: Expression) -> Expression {
        Expression::Binary(operator, Box::new(a), Box::new(b))
    }

    #[test]
    fn products_bind_closer_and_the_left_first() {
        use Arithmetic::{Add, Divide, Multiply, Subtract};
        let parsed = |text: &str| parse_expression(text).unwrap();
        assert_eq!(parsed("pv_power - consumption"), join(Subtract, field("pv_power"), field("consumption")));
        assert_eq!(parsed("pv_power-consumption"), join(Subtract, field("pv_power"), field("consumption")));
        assert_eq!(
            parsed("a - b - 2e-1*`grid (W)`/c"),
            join(
                Subtract,
                join(Subtract, field("a"), field("b")),
                join(Divide, join(Multiply, Expression::Number(0.2), field("grid (W)")), field("c")),
            )
        );
        let negated = Expression::Negate(Box::new(join(Add, field("a"), Expression::Number(1.5))));
        assert_eq!(parsed(" -( a+1.5 ) * b"), join(Multiply, negated, field("b")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("", "at character 1: a field, a number or ( expected, found the end"),
            ("a -", "at character 4: a field, a number or ( expected, found the end"),
            ("a b", "at character 3: one of + - * /, or the end expected, found 'b'"),
            ("(ż + 1", "at character 7: one of + - * / ) expected, found the end"),
            ("a + 1kW", "\"1kW\" is no number"),
            ("a + 1e999", "\"1e999\" is no number"),
            ("`a", "a closing ` expected"),
            ("a % 2", "found '%'"),
        ] {
            let error = parse_expression(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(parse_expression(&"(".repeat(100)).unwrap_err().contains("nested at most 16 deep"));
        assert!(parse_expression(&"-".repeat(4000)).unwrap_err().contains("nested at most 16 deep"));
        assert!(parse_expression(&vec!["a"; 20].join("+")).unwrap_err().contains("at most 16 operators"));
        assert!(parse_expression(&" ".repeat(5000)).unwrap_err().contains("bytes"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}", likely in "[a-c0-9+*/()`. -]{0,40}") {
            let _ = parse_expression(&text);
            let _ = parse_expression(&likely);
        }
    }
}
