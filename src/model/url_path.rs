//! Paths of HTTP requests in their one spelling, and which of them a pattern means.
//!
//! A path can be written in many ways that one server takes for the same and another does not:
//! encoded letters, `.` and `..`, doubled slashes. So there is one spelling, made here, which is
//! compared and sent on; what servers are known to read in two ways has none: an encoded slash or
//! backslash, an encoding of an encoding, `..` in the disguise of a parameter.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The path of a request: begins with a slash, has no empty part but perhaps the last, no dots, and
/// no letter encoded that could stand for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath(
    // INVARIANT: what `parse` returns for these bytes.
    String,
);

/// Why a text has no one spelling as a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlPathError {
    #[error("it does not begin with `/`")]
    Relative,
    #[error("it has a backslash, or an encoded slash or backslash")]
    Slash,
    #[error("it has a control byte, or another byte that no path has")]
    Byte,
    #[error("it has a `%` without two hexadecimal digits")]
    Percent,
    #[error("it has an encoded `%`, which may be decoded twice")]
    Twice,
    #[error("it has encoded bytes that are no text")]
    Text,
    #[error("it climbs above its root by `..`")]
    Above,
    #[error("it has a part of dots and what a server may drop, as in `..;`")]
    Parameter,
}

impl UrlPath {
    /// Reads a path as a client sent it, without the query.
    pub fn parse(text: &str) -> Result<Self, UrlPathError> {
        let rest = text.strip_prefix('/').ok_or(UrlPathError::Relative)?;
        let mut parts: Vec<String> = Vec::new();
        let mut bytes = Vec::new();
        // Whether the path ends in a slash, so far.
        let mut open = true;
        for part in rest.split('/') {
            let part = part_of(part, &mut bytes)?;
            open = matches!(part.as_str(), "" | "." | "..");
            match part.as_str() {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or(UrlPathError::Above)?),
                _ if is_disguised(&part) => return Err(UrlPathError::Parameter),
                _ => parts.push(part),
            }
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(UrlPathError::Text);
        }
        let end = if open && !parts.is_empty() { "/" } else { "" };
        Ok(Self(format!("/{}{end}", parts.join("/"))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands between two slashes, with letters decoded that may stand for themselves (RFC 3986,
/// 6.2.2.2); `bytes` is what the whole means so far.
fn part_of(text: &str, bytes: &mut Vec<u8>) -> Result<String, UrlPathError> {
    let mut part = String::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let byte = hexadecimal(*high).zip(hexadecimal(*low)).map(|(a, b)| a << 4 | b);
                byte.ok_or(UrlPathError::Percent)?
            }
            (b'%', _) => return Err(UrlPathError::Percent),
            (b'\\', _) => return Err(UrlPathError::Slash),
            (0..=b' ' | 0x7f.., _) => return Err(UrlPathError::Byte),
            (byte, _) => {
                part.push(char::from(*byte));
                bytes.push(*byte);
                continue;
            }
        };
        match byte {
            b'/' | b'\\' => return Err(UrlPathError::Slash),
            b'%' => return Err(UrlPathError::Twice),
            0..b' ' | 0x7f => return Err(UrlPathError::Byte),
            b'-' | b'.' | b'_' | b'~' => part.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => part.push(char::from(byte)),
            _ => part.extend(encoded(byte)),
        }
        bytes.push(byte);
    }
    Ok(part)
}

/// `%2F`, in capitals as RFC 3986 wants them.
fn encoded(byte: u8) -> [char; 3] {
    let digit = |it: u8| char::from_digit(it.into(), 16).unwrap_or('0').to_ascii_uppercase();
    ['%', digit(byte >> 4), digit(byte & 15)]
}

/// Dots, and then what some servers take away before they look for dots.
fn is_disguised(part: &str) -> bool {
    let rest = part.trim_start_matches('.');
    matches!(part.len() - rest.len(), 1 | 2) && rest.starts_with([';', '%'])
}

fn hexadecimal(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|it| u8::try_from(it).ok())
}

/// What a destination says about paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UrlPathPattern {
    Exact(String),
    /// Whatever begins like this, which ends in a slash.
    Below(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlPathPatternError {
    #[error("`{text}` is no path: {why}")]
    Path { text: String, why: UrlPathError },
    #[error("`{text}` is not the plain form of its path: write `{plain}`")]
    NotPlain { text: String, plain: String },
    #[error("`{text}` has `*` elsewhere than alone behind the last slash, or a query")]
    Wildcard { text: String },
}

impl UrlPathPattern {
    /// `/status`, or `/api/*` for everything below.
    pub fn parse(text: &str) -> Result<Self, UrlPathPatternError> {
        let below = text.strip_suffix('*').filter(|it| it.ends_with('/'));
        let path = below.unwrap_or(text);
        if path.contains(['*', '?', '#']) {
            return Err(UrlPathPatternError::Wildcard { text: text.to_owned() });
        }
        let plain = UrlPath::parse(path)
            .map_err(|why| UrlPathPatternError::Path { text: text.to_owned(), why })?
            .0;
        if plain != path {
            let plain = if below.is_some() { plain + "*" } else { plain };
            return Err(UrlPathPatternError::NotPlain { text: text.to_owned(), plain });
        }
        Ok(if below.is_some() { Self::Below(plain) } else { Self::Exact(plain) })
    }

    pub fn matches(&self, path: &UrlPath) -> bool {
        match self {
            Self::Exact(exact) => path.0 == *exact,
            Self::Below(above) => path.0.starts_with(above.as_str()),
        }
    }

    /// Whether every path that this means, the other means too.
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(inner), Self::Exact(outer)) => inner == outer,
            (Self::Exact(inner) | Self::Below(inner), Self::Below(outer)) => {
                inner.starts_with(outer.as_str())
            }
            (Self::Below(_), Self::Exact(_)) => false,
        }
    }
}

impl fmt::Display for UrlPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Below(above) => write!(f, "{above}*"),
        }
    }
}

impl TryFrom<String> for UrlPathPattern {
    type Error = UrlPathPatternError;

    fn try_from(text: String) -> Result<Self, UrlPathPatternError> {
        Self::parse(&text)
    }
}

impl From<UrlPathPattern> for String {
    fn from(pattern: UrlPathPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_becomes_the_one() {
        for (text, plain) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/%61/%62", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/x/../b", "/a/b"),
            ("/a/x/%2e%2E/b", "/a/b"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/c/..", "/a/b/"),
            ("/a/..", "/"),
            ("/a%3ab", "/a%3Ab"),
            ("/%7Eme/%2d", "/~me/-"),
            ("/%c3%a4", "/%C3%A4"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/...", "/..."),
        ] {
            let found = UrlPath::parse(text).map(|it| it.0);
            assert_eq!(found.as_deref(), Ok(plain), "{text}");
            assert_eq!(UrlPath::parse(plain).map(|it| it.0).as_deref(), Ok(plain), "{plain}");
        }
    }

    #[test]
    fn what_servers_read_in_two_ways_is_no_path() {
        use UrlPathError::{Above, Byte, Parameter, Percent, Relative, Slash, Text, Twice};
        for (text, why) in [
            ("", Relative),
            ("a", Relative),
            ("*", Relative),
            ("/a%2fb", Slash),
            ("/a%2Fb", Slash),
            ("/a%5cb", Slash),
            ("/a\\b", Slash),
            ("/a%00", Byte),
            ("/a%0d%0a", Byte),
            ("/a%7f", Byte),
            ("/a b", Byte),
            ("/\u{e4}", Byte),
            ("/a%", Percent),
            ("/a%2", Percent),
            ("/a%zz", Percent),
            ("/%252e%252e/b", Twice),
            ("/100%25", Twice),
            ("/%c0%af", Text),
            ("/%c0%ae%c0%ae/b", Text),
            ("/..", Above),
            ("/a/../../b", Above),
            ("/%2e%2e/b", Above),
            ("/a/..;/b", Parameter),
            ("/a/..;x=1/b", Parameter),
            ("/a/..%3b/b", Parameter),
            ("/a/.;/b", Parameter),
            ("/a/..%20/b", Parameter),
            ("/a/%2e%2e;/b", Parameter),
        ] {
            assert_eq!(UrlPath::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_pattern_means_one_path_or_what_lies_below() {
        let matches = |pattern: &str, path: &str| {
            UrlPathPattern::parse(pattern).unwrap().matches(&UrlPath::parse(path).unwrap())
        };
        for (pattern, path, meant) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/A", false),
            ("/a", "/a/b", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a", false),
            ("/a/*", "/ab", false),
            ("/a/*", "/a/../b", false),
            ("/a/*", "/%61//b", true),
            ("/*", "/", true),
        ] {
            assert_eq!(matches(pattern, path), meant, "{pattern} {path}");
        }
        let within = |inner: &str, outer: &str| {
            UrlPathPattern::parse(inner).unwrap().is_within(&UrlPathPattern::parse(outer).unwrap())
        };
        assert!(within("/a/b", "/a/*") && within("/a/b/*", "/a/*") && within("/a", "/a"));
        assert!(!within("/a/*", "/a/b/*") && !within("/a", "/a/*") && !within("/a/*", "/a/"));
        for wrong in ["a", "/a*", "/*/b", "/a?b", "/a//b", "/a/../b", "/%61", "/a%2f*", "/a#b"] {
            assert!(UrlPathPattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_one_spelling_is_its_own(text in "/[a-c./%;25eEfF\\\\]{0,12}") {
            if let Ok(path) = UrlPath::parse(&text) {
                assert_eq!(UrlPath::parse(path.as_str()), Ok(path.clone()), "{text}");
                assert!(!path.as_str().split('/').any(|it| it == "." || it == ".."), "{path}");
                assert!(!path.as_str().contains("//"), "{path}");
            }
        }
    }
}
