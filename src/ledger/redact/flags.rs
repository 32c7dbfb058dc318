//! Options that take a secret: `--token X`, `-psecret` of mysql, `-u user:secret` of curl.

use super::names::{is_harmless, is_secret};
use super::{Span, part};

/// How a program's short option carries its secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// In the same word only; alone it asks for the secret: `mysql -p`.
    Attached,
    /// In the same word or the next one.
    Value,
    /// As `Value`, and only what follows this byte is secret: `-u name:secret`.
    After(u8),
}

struct Short {
    programs: &'static [&'static [u8]],
    /// Must be among the words before; empty for any.
    subcommand: &'static [u8],
    option: &'static [u8],
    carries: Carries,
    /// Letters that may stand before the option's own in one word: `-sSu name:secret`.
    flags: &'static [u8],
}

const MYSQL: &[&[u8]] = &[
    b"mysql",
    b"mysqldump",
    b"mysqladmin",
    b"mysqlimport",
    b"mysqlcheck",
    b"mysqlpump",
    b"mysqlshow",
    b"mysqlslap",
    b"mysqlsh",
    b"mycli",
    b"mariadb",
    b"mariadb-admin",
    b"mariadb-dump",
];
const MYSQL_FLAGS: &[u8] = b"ABbCcEfGHIiKLNnQqrsTtvWwX";
const HTTPIE: &[&[u8]] = &[b"http", b"https", b"xh"];
const CURL: &[&[u8]] = &[b"curl", b"curlie"];
const CURL_FLAGS: &[u8] = b"0123456aBfGgIijJklLMnNOpqRsSvVZ#";

const SHORTS: &[Short] = &[
    Short { flags: MYSQL_FLAGS, ..short(MYSQL, b"", b"-p", Carries::Attached) },
    short(&[b"7z", b"7za", b"7zz"], b"", b"-p", Carries::Attached),
    short(&[b"sshpass"], b"", b"-p", Carries::Value),
    short(
        &[b"mongo", b"mongosh", b"mongodump", b"mongorestore", b"mongoexport", b"mongoimport"],
        b"",
        b"-p",
        Carries::Value,
    ),
    short(&[b"cqlsh", b"rabbitmqadmin"], b"", b"-p", Carries::Value),
    short(
        &[b"docker", b"podman", b"buildah", b"nerdctl", b"crane", b"oc", b"helm", b"az", b"cf"],
        b"login",
        b"-p",
        Carries::Value,
    ),
    short(&[b"skopeo", b"podman", b"buildah"], b"", b"--creds", Carries::After(b':')),
    short(&[b"redis-cli"], b"", b"-a", Carries::Value),
    short(
        &[b"ldapsearch", b"ldapadd", b"ldapmodify", b"ldapdelete", b"ldapwhoami"],
        b"",
        b"-w",
        Carries::Value,
    ),
    short(
        &[
            b"zip",
            b"unzip",
            b"zipcloak",
            b"sqlcmd",
            b"mosquitto_pub",
            b"mosquitto_sub",
            b"ipmitool",
        ],
        b"",
        b"-P",
        Carries::Value,
    ),
    Short { flags: CURL_FLAGS, ..short(CURL, b"", b"-u", Carries::After(b':')) },
    Short { flags: CURL_FLAGS, ..short(CURL, b"", b"-U", Carries::After(b':')) },
    short(CURL, b"", b"--user", Carries::After(b':')),
    short(CURL, b"", b"--proxy-user", Carries::After(b':')),
    short(HTTPIE, b"", b"-a", Carries::After(b':')),
    short(HTTPIE, b"", b"--auth", Carries::After(b':')),
    Short { flags: CURL_FLAGS, ..short(CURL, b"", b"-b", Carries::After(b'=')) },
    short(&[b"smbclient", b"rpcclient"], b"", b"-U", Carries::After(b'%')),
    short(&[b"lftp"], b"", b"-u", Carries::After(b',')),
    short(&[b"openssl"], b"", b"-pass", Carries::After(b':')),
    short(&[b"openssl"], b"", b"-passin", Carries::After(b':')),
    short(&[b"openssl"], b"", b"-passout", Carries::After(b':')),
];

const fn short(
    programs: &'static [&'static [u8]],
    subcommand: &'static [u8],
    option: &'static [u8],
    carries: Carries,
) -> Short {
    Short { programs, subcommand, option, carries, flags: b"" }
}

impl Short {
    /// How much of the word is the option, with what stands before it and a `=` behind a long one.
    fn spelled(&self, word: &[u8]) -> Option<usize> {
        let [b'-', letter] = self.option else {
            let rest = word.strip_prefix(self.option)?;
            return match rest {
                [] => Some(word.len()),
                [b'=', ..] => Some(self.option.len() + 1),
                [..] => None,
            };
        };
        let letters = word.strip_prefix(b"-").filter(|it| !it.starts_with(b"-"))?;
        let at = letters.iter().position(|it| it == letter)?;
        let before = part(letters, 0..at);
        before.iter().all(|it| self.flags.contains(it)).then_some(at + 2)
    }
}

/// The secrets of each word of a command line. Programs are looked for in every word, so that
/// `sudo mysql -pX` and `env A=1 mysql -pX` are seen through.
pub(super) fn find(words: &[&[u8]]) -> Vec<Vec<Span>> {
    let mut found: Vec<Vec<Span>> = vec![Vec::new(); words.len()];
    let mut seen = vec![Seen::default(); SHORTS.len()];
    for (at, word) in words.iter().enumerate() {
        if !word.starts_with(b"-") || word.len() < 2 {
            notice(word, &mut seen);
            continue;
        }
        let next = words.get(at + 1).copied();
        let spans = match short_option(&seen, word, next) {
            Some(spans) => spans,
            None => long_option(word, next),
        };
        for (here, span) in spans {
            let slot = at + usize::from(here == Word::Next);
            if let Some(slot) = found.get_mut(slot) {
                slot.push(span);
            }
        }
    }
    found
}

/// What of one rule's condition stood among the words so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    program: bool,
    subcommand: bool,
}

fn notice(word: &[u8], seen: &mut [Seen]) {
    let name = base_name(word);
    for (rule, seen) in SHORTS.iter().zip(seen) {
        seen.program |= rule.programs.contains(&name);
        seen.subcommand |= rule.subcommand == word;
    }
}

/// Which words are text for an interpreter: what follows `-c`, `-lc`, `-e` or `-c --`.
pub(super) fn scripts(words: &[&[u8]]) -> Vec<bool> {
    let script = |option: &[u8]| {
        let letters = option.strip_prefix(b"-").filter(|it| !it.is_empty() && it.len() <= 5);
        letters.is_some_and(|it| {
            it.iter().all(u8::is_ascii_alphabetic) && (it.ends_with(b"c") || it.ends_with(b"e"))
        })
    };
    let before = |at: usize, back: usize| at.checked_sub(back).and_then(|it| words.get(it));
    let follows = |at: usize, back: usize| before(at, back).is_some_and(|it| script(it));
    let is_script = |at: usize| match before(at, 1) {
        Some(end) if **end == *b"--" => follows(at, 2),
        Some(_) | None => follows(at, 1),
    };
    (0..words.len()).map(is_script).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    This,
    Next,
}

fn base_name(word: &[u8]) -> &[u8] {
    word.rsplit(|byte| *byte == b'/').next().unwrap_or(word)
}

/// Nothing where no rule is about this option.
fn short_option(seen: &[Seen], word: &[u8], next: Option<&[u8]>) -> Option<Vec<(Word, Span)>> {
    let is_about = |(rule, seen): &(&Short, &Seen)| {
        seen.program && (rule.subcommand.is_empty() || seen.subcommand)
    };
    let mut about = SHORTS.iter().zip(seen).filter(is_about);
    let (rule, length) = about.find_map(|(rule, _)| Some((rule, rule.spelled(word)?)))?;
    let attached = word.len() > length;
    let (place, start, value) = match (attached, rule.carries, next) {
        (true, _, _) => (Word::This, length, part(word, length..word.len())),
        (false, Carries::Attached, _) | (false, _, None) => return Some(Vec::new()),
        (false, _, Some(next)) => (Word::Next, 0, next),
    };
    let skipped = match rule.carries {
        Carries::Attached | Carries::Value => Some(0),
        Carries::After(byte) => value.iter().position(|it| *it == byte).map(|it| it + 1),
    };
    let span = skipped
        .filter(|skipped| !is_harmless(value) && !is_harmless(part(value, *skipped..value.len())))
        .map(|skipped| (place, Span::new(start + skipped, start + value.len(), "flag")));
    Some(span.into_iter().collect())
}

/// `--name value` and `--name=value`, with one dash too.
fn long_option(word: &[u8], next: Option<&[u8]>) -> Vec<(Word, Span)> {
    let name_end = word.iter().position(|byte| *byte == b'=').unwrap_or(word.len());
    let name = part(word, 0..name_end);
    if name.len() < 4 || !is_secret(name) {
        return Vec::new();
    }
    if name_end < word.len() {
        let value = part(word, name_end + 1..word.len());
        let span = Span::new(name_end + 1, word.len(), "flag");
        return if is_harmless(value) { Vec::new() } else { vec![(Word::This, span)] };
    }
    match next {
        Some(value) if !value.starts_with(b"-") && !is_harmless(value) => {
            if names_a_key_file(name, value) {
                return Vec::new();
            }
            vec![(Word::Next, Span::new(0, value.len(), "flag"))]
        }
        Some(_) | None => Vec::new(),
    }
}

/// `--private-key ~/.ssh/id`: the file's name is no secret.
fn names_a_key_file(name: &[u8], value: &[u8]) -> bool {
    let key = name.to_ascii_lowercase().ends_with(b"key");
    key && [b"/".as_slice(), b"./", b"../", b"~/"].iter().any(|it| value.starts_with(it))
}
