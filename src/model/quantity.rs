//! Sizes, counts and times as an author writes them: whole words, a unit in the value.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A size in bytes: `"2 GiB"`, `"512 KiB"`, `"64 bytes"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bytes(pub u64);

/// A number of things: `1024`, or `"200 thousand"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Count(pub u64);

/// A length of time in milliseconds: `"30 min"`, `"5 s"`, `"250 ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span(pub u64);

/// A value with a unit, read from text.
pub trait Quantity: Sized {
    /// Unit names and what one of them is worth in the type's own unit; the canonical spelling of
    /// each size first.
    const UNITS: &'static [(&'static str, u64)];
    /// What the value is, for messages: `a size such as "2 GiB"`.
    const IS: &'static str;
    fn from_base(value: u64) -> Self;
}

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("`{text}` has no unit: write {is}")]
    NoUnit { text: String, is: &'static str },
    #[error("`{unit}` is no unit here: use one of {known}")]
    UnknownUnit { unit: String, known: String },
    #[error("`{text}` is not a whole number with a unit: write {is}")]
    NotANumber { text: String, is: &'static str },
    #[error("`{text}` is larger than rung can count")]
    TooLarge { text: String },
}

impl Quantity for Bytes {
    const UNITS: &'static [(&'static str, u64)] = &[
        ("bytes", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("byte", 1),
    ];
    const IS: &'static str = "a size such as \"2 GiB\"";
    fn from_base(value: u64) -> Self {
        Self(value)
    }
}

impl Quantity for Count {
    const UNITS: &'static [(&'static str, u64)] =
        &[("", 1), ("thousand", 1_000), ("million", 1_000_000)];
    const IS: &'static str = "a number such as 1024 or \"200 thousand\"";
    fn from_base(value: u64) -> Self {
        Self(value)
    }
}

impl Quantity for Span {
    const UNITS: &'static [(&'static str, u64)] = &[
        ("ms", 1),
        ("s", 1_000),
        ("min", 60_000),
        ("h", 3_600_000),
        ("days", 86_400_000),
        ("day", 86_400_000),
    ];
    const IS: &'static str = "a time such as \"30 min\"";
    fn from_base(value: u64) -> Self {
        Self(value)
    }
}

impl Span {
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// Reads `"2 GiB"` and the like: a whole number, then its unit.
pub fn parse<Q: Quantity>(text: &str) -> Result<Q, QuantityError> {
    let text = text.trim();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.strip_prefix(&digits).unwrap_or(text).trim();
    if digits.is_empty() {
        return Err(QuantityError::NotANumber { text: text.to_owned(), is: Q::IS });
    }
    let too_large = || QuantityError::TooLarge { text: text.to_owned() };
    let number: u64 = digits.parse().map_err(|_| too_large())?;
    let Some((_, worth)) = Q::UNITS.iter().find(|(name, _)| *name == unit) else {
        if unit.is_empty() {
            return Err(QuantityError::NoUnit { text: text.to_owned(), is: Q::IS });
        }
        let known: Vec<String> =
            Q::UNITS.iter().filter(|it| !it.0.is_empty()).map(|it| format!("`{}`", it.0)).collect();
        return Err(QuantityError::UnknownUnit { unit: unit.to_owned(), known: known.join(", ") });
    };
    number.checked_mul(*worth).map(Q::from_base).ok_or_else(too_large)
}

/// The largest unit that divides the value, so that reading it back gives the same value.
fn write<Q: Quantity>(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (unit, worth) = Q::UNITS
        .iter()
        .filter(|(_, worth)| value != 0 && value.is_multiple_of(*worth))
        .max_by(|a, b| a.1.cmp(&b.1).then(std::cmp::Ordering::Greater))
        .or(Q::UNITS.first())
        .copied()
        .unwrap_or(("", 1));
    let number = value / worth;
    if unit.is_empty() { write!(f, "{number}") } else { write!(f, "{number} {unit}") }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::<Self>(self.0, f)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::<Self>(self.0, f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::<Self>(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_needs_its_unit_and_prints_as_it_was_written() {
        for text in ["2 GiB", "64 bytes", "3 KiB"] {
            assert_eq!(parse::<Bytes>(text).unwrap().to_string(), text);
        }
        for text in ["30 min", "5 s", "250 ms", "2 h"] {
            assert_eq!(parse::<Span>(text).unwrap().to_string(), text);
        }
        assert_eq!(parse::<Count>("200 thousand").unwrap(), Count(200_000));
        assert_eq!(parse::<Count>("1024").unwrap(), Count(1024));
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said() {
        let says = |text: &str| parse::<Bytes>(text).unwrap_err().to_string();
        assert_eq!(says("12"), "`12` has no unit: write a size such as \"2 GiB\"");
        assert!(says("3 GB").starts_with("`GB` is no unit here"));
        assert!(says("-1 GiB").contains("not a whole number"));
        assert!(says("99999999999 TiB").contains("larger than"));
        assert!(says("").contains("not a whole number"));
    }
}
