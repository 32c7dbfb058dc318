//! Host names as bytes: what is one, and which of them a pattern means.
//!
//! A name reaches the gateway from a program that may want it to be read in two ways: once by the
//! rule and once by a resolver. So there is one spelling, made here, and everything that has none is
//! no name at all: control bytes and NUL, empty or long labels, other letters than those of host
//! names, and whatever some library would take for an address (`127.1`, `0x7f000001`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a name without its final dot (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host name in its one spelling: lower case, no final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(
    // INVARIANT: what `parse` returns for these bytes.
    String,
);

/// Why some bytes are no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than 253 bytes, or one of its labels is longer than 63")]
    Long,
    #[error("one of its labels is empty")]
    EmptyLabel,
    #[error(
        "it has a byte that no host name has; an international name is written in its `xn--` form"
    )]
    Letter,
    #[error("a label begins or ends with a hyphen")]
    Hyphen,
    #[error("its last label is a number, so it could be taken for an address")]
    Numeric,
}

impl HostName {
    /// Reads a name as a client sent it; one final dot is dropped and letters become small.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err(NameError::Long);
        }
        let mut last: &[u8] = &[];
        for label in bytes.split(|it| *it == b'.') {
            check(label)?;
            last = label;
        }
        if is_number(last) {
            return Err(NameError::Numeric);
        }
        let text = bytes.iter().map(|it| char::from(it.to_ascii_lowercase())).collect();
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(label: &[u8]) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(NameError::Long);
    }
    if !label.iter().all(|it| it.is_ascii_alphanumeric() || *it == b'-' || *it == b'_') {
        return Err(NameError::Letter);
    }
    if label.starts_with(b"-") || label.ends_with(b"-") {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// Whether a last label makes libraries read the whole as an IPv4 address: `1`, `0x7f`, `0`, `0x`
/// (the "ends in a number" rule of the URL standard).
fn is_number(label: &[u8]) -> bool {
    let hexadecimal = label.strip_prefix(b"0x").or_else(|| label.strip_prefix(b"0X"));
    label.iter().all(u8::is_ascii_digit)
        || hexadecimal.is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit))
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(text.as_bytes())
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// What a destination says about names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostPattern {
    Exact(HostName),
    /// `*.` and this domain: every name below it, however deep, and not the domain itself.
    Below(HostName),
}

impl HostPattern {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(domain) => Ok(Self::Below(HostName::parse(domain.as_bytes())?)),
            None => Ok(Self::Exact(HostName::parse(text.as_bytes())?)),
        }
    }

    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(domain) => {
                let above = name.0.strip_suffix(&domain.0);
                above.is_some_and(|it| it.len() > 1 && it.ends_with('.'))
            }
        }
    }

    /// Whether every name that this means, the other means too.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), _) => other.matches(name),
            (Self::Below(inner), Self::Below(outer)) => inner == outer || other.matches(inner),
            (Self::Below(_), Self::Exact(_)) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        for spelled in ["example.org", "Example.ORG", "example.org.", "EXAMPLE.org."] {
            assert_eq!(HostName::parse(spelled.as_bytes()).unwrap().as_str(), "example.org");
        }
        assert_eq!(HostName::parse(b"xn--mnchen-3ya.de").unwrap().as_str(), "xn--mnchen-3ya.de");
        assert_eq!(HostName::parse(b"_dmarc.a-b.1x").unwrap().as_str(), "_dmarc.a-b.1x");
    }

    /// Each of these was once an allowed name to a suffix check and another host to a resolver.
    #[test]
    fn what_could_be_read_in_two_ways_is_no_name() {
        use NameError::{Empty, EmptyLabel, Hyphen, Letter, Long, Numeric};
        let long_label = format!("{}.org", "a".repeat(64));
        let long = format!("{}.org", ["a"; 126].join("."));
        let table: [(&[u8], NameError); 24] = [
            (b"", Empty),
            (b".", Empty),
            (b"evil.test\0.example.org", Letter),
            (b"example.org\r\nHost: evil.test", Letter),
            (b"example.org ", Letter),
            (b"user@example.org", Letter),
            (b"example.org:443", Letter),
            (b"example.org/x", Letter),
            (b"%65xample.org", Letter),
            (b"fe80::1%eth0", Letter),
            (b"[::1]", Letter),
            ("ex\u{e4}mple.org".as_bytes(), Letter),
            ("example\u{3002}org".as_bytes(), Letter),
            (b"example..org", EmptyLabel),
            (b"example.org..", EmptyLabel),
            (b".example.org", EmptyLabel),
            (b"-a.org", Hyphen),
            (b"a-.org", Hyphen),
            (b"127.1", Numeric),
            (b"2130706433", Numeric),
            (b"0x7f000001", Numeric),
            (b"example.0x7f", Numeric),
            (long_label.as_bytes(), Long),
            (long.as_bytes(), Long),
        ];
        for (bytes, error) in table {
            assert_eq!(HostName::parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        let name = HostName::parse(name.as_bytes()).unwrap();
        assert_eq!(HostPattern::parse(pattern).unwrap().matches(&name), expected);
    }

    #[test]
    fn a_star_stands_for_what_is_below_and_for_nothing_beside() {
        check("example.org", "example.org", true);
        check("example.org", "a.example.org", false);
        check("*.example.org", "a.example.org", true);
        check("*.example.org", "a.b.example.org", true);
        check("*.example.org", "example.org", false);
        check("*.example.org", "evilexample.org", false);
        check("*.example.org", "example.org.evil.test", false);
    }

    #[test]
    fn one_pattern_is_within_another_when_it_means_no_more() {
        let is_within = |a: &str, b: &str| {
            HostPattern::parse(a).unwrap().is_within(&HostPattern::parse(b).unwrap())
        };
        assert!(is_within("a.example.org", "*.example.org"));
        assert!(is_within("*.a.example.org", "*.example.org"));
        assert!(is_within("*.example.org", "*.example.org"));
        assert!(!is_within("*.example.org", "a.example.org"));
        assert!(!is_within("example.org", "*.example.org"));
    }
}
