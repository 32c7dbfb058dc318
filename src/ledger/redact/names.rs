//! Which names promise a secret: `DB_PASSWORD`, `--api-key`, `clientSecret`.

/// A word of a name that is enough by itself, as the end of a longer word too: `PGPASSWORD`.
const ENDINGS: &[&str] = &["password", "passwd", "passphrase", "secret", "token", "apikey"];

/// Words that only count whole.
const WORDS: &[&str] = &[
    "credential",
    "credentials",
    "jwt",
    "cookie",
    "cookies",
    "storepass",
    "keypass",
    "passin",
    "passout",
];

/// What makes a `key` one that must not be seen.
const KEYS: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "signing",
    "account",
    "master",
    "auth",
    "service",
    "storage",
    "shared",
    "session",
    "hmac",
    "license",
];

/// A name that ends so is about the secret and does not carry it.
const ABOUT: &[&str] = &[
    "file",
    "path",
    "dir",
    "directory",
    "name",
    "id",
    "url",
    "uri",
    "ttl",
    "type",
    "types",
    "length",
    "len",
    "stdin",
    "fd",
    "env",
    "command",
    "cmd",
    "helper",
    "store",
    "manager",
    "policy",
    "prompt",
    "count",
    "limit",
    "expiry",
    "expires",
    "duration",
    "timeout",
    "version",
    "size",
    "class",
    "endpoint",
    "field",
    "jar",
    "budget",
    "format",
    "algorithm",
    "alg",
    "issuer",
    "audience",
    "scope",
    "scopes",
    "provider",
    "location",
    "ref",
    "regex",
    "pattern",
];

/// A name that begins so is a switch or a number.
const SWITCHES: &[&str] =
    &["no", "max", "min", "num", "without", "with", "ask", "prompt", "show", "hide", "skip"];

/// Whether the value of this option, variable or field is a secret.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let words = words(name);
    let is = |word: Option<&String>, list: &[&str]| word.is_some_and(|it| list.contains(&&**it));
    if is(words.last(), ABOUT) || (words.len() > 1 && is(words.first(), SWITCHES)) {
        return false;
    }
    let plain = words.iter().any(|word| {
        ENDINGS.iter().any(|ending| word.ends_with(ending)) || WORDS.contains(&&**word)
    });
    let key = words.windows(2).any(|pair| match pair {
        [kind, key] => key == "key" && KEYS.iter().any(|it| kind.ends_with(it)),
        _ => false,
    });
    let short = match words.last().map(String::as_str) {
        Some("pass" | "pw") => true,
        // `PWD` and `OLDPWD` are directories.
        Some("pwd") => words.len() > 1,
        Some("auth") => name.starts_with(b"_"),
        _ => false,
    };
    plain || key || short
}

/// Splits at everything that is no letter or digit, and before a capital after a small letter.
fn words(name: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut small_before = false;
    for byte in name {
        let next = byte.is_ascii_uppercase() && small_before;
        if (next || !byte.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
        small_before = byte.is_ascii_lowercase();
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A value that gives nothing away: empty, a switch, a small number, a reference, a mark.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    const PLAIN: &[&[u8]] =
        &[b"", b"-", b"true", b"false", b"yes", b"no", b"null", b"none", b"auto", b"***"];
    let number = value.len() <= 2 && value.iter().all(u8::is_ascii_digit);
    number || PLAIN.contains(&value) || is_reference(value) || super::is_mark(value)
}

/// A path is never longer.
const REFERENCE_BYTES_MAX: usize = 4096;

/// `$NAME`, `${NAME}`, `%NAME%`, `env:NAME`, `file:PATH`, `@PATH`: where it is, not what it is.
fn is_reference(value: &[u8]) -> bool {
    if value.len() > REFERENCE_BYTES_MAX {
        return false;
    }
    let name = |text: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        !text.is_empty() && text.iter().all(plain)
    };
    let inner = value
        .strip_prefix(b"${")
        .and_then(|rest| rest.strip_suffix(b"}"))
        .or_else(|| value.strip_prefix(b"$"))
        .or_else(|| value.strip_prefix(b"%").and_then(|rest| rest.strip_suffix(b"%")));
    inner.is_some_and(name)
        || [b"env:".as_slice(), b"file:", b"@/", b"@./", b"fd:"]
            .iter()
            .any(|prefix| value.starts_with(prefix))
}
