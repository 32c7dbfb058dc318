//! Ports as a profile writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One port, or all of them from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports {
    // INVARIANT: 1 <= first <= last.
    first: u16,
    last: u16,
}

/// Why a text names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no range of ports; write `8000-8999`, from 1 to 65535")]
pub struct PortsError {
    text: String,
}

impl Ports {
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (1 <= first && first <= last).then_some(Self { first, last })
    }

    /// `443` or `8000-8999`.
    pub fn parse(text: &str) -> Result<Self, PortsError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |it: &str| {
            let digits = it.bytes().all(|it| it.is_ascii_digit()) && !it.starts_with('0');
            it.parse().ok().filter(|_| digits)
        };
        let both = number(first).zip(number(last));
        let found = both.and_then(|(first, last)| Self::new(first, last));
        found.ok_or_else(|| PortsError { text: text.to_owned() })
    }

    pub fn holds(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    pub fn is_within(self, other: Self) -> bool {
        other.holds(self.first) && other.holds(self.last)
    }

    /// The port, if it is only one.
    pub fn single(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }

    pub fn all(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.single() {
            Some(port) => write!(f, "{port}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = PortsError;

    fn try_from(text: String) -> Result<Self, PortsError> {
        Self::parse(&text)
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_and_a_range_are_read_as_they_are_written() {
        for text in ["443", "8000-8999", "1-65535"] {
            assert_eq!(Ports::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Ports::parse("80-80").unwrap().to_string(), "80");
        for text in ["", "-", "0", "0-9", "9-8", "65536", "1-65536", "80-", "-80", "+80", "080"] {
            assert!(Ports::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_holds_its_ends_and_what_is_between() {
        let range = Ports::parse("8000-8999").unwrap();
        assert!([8000, 8500, 8999].iter().all(|it| range.holds(*it)));
        assert!(![7999, 9000].iter().any(|it| range.holds(*it)));
        assert!(Ports::parse("8080").unwrap().is_within(range));
        assert!(!Ports::parse("8080-9000").unwrap().is_within(range));
    }
}
