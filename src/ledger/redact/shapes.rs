//! Shapes that only a secret has: the prefixes that services give their tokens, JSON Web Tokens,
//! private keys.

use super::{Span, part};

/// What follows a prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Letters and digits.
    Alnum,
    /// And `_`.
    Word,
    /// And `-`.
    Dashed,
    /// And `.`, as in tokens made of parts.
    Dotted,
    Hex,
    /// Capitals and digits.
    Upper,
}

/// A prefix, what follows it, and how much of that there must be at least and at most.
struct Shape {
    prefix: &'static [u8],
    body: Body,
    least: usize,
    most: usize,
}

const ANY: usize = usize::MAX;

const fn shape(prefix: &'static str, body: Body, least: usize, most: usize) -> Shape {
    Shape { prefix: prefix.as_bytes(), body, least, most }
}

/// Facts about other people's tokens; the lengths are a little under the real ones.
const SHAPES: &[Shape] = &[
    shape("ghp_", Body::Alnum, 30, ANY),
    shape("gho_", Body::Alnum, 30, ANY),
    shape("ghu_", Body::Alnum, 30, ANY),
    shape("ghs_", Body::Alnum, 30, ANY),
    shape("ghr_", Body::Alnum, 30, ANY),
    shape("github_pat_", Body::Word, 22, ANY),
    shape("glpat-", Body::Dotted, 16, ANY),
    shape("gldt-", Body::Dashed, 16, ANY),
    shape("glrt-", Body::Dotted, 16, ANY),
    shape("glptt-", Body::Dashed, 16, ANY),
    shape("glcbt-", Body::Dashed, 16, ANY),
    shape("glagent-", Body::Dashed, 16, ANY),
    shape("sk-", Body::Dashed, 20, ANY),
    shape("sk_live_", Body::Alnum, 16, ANY),
    shape("sk_test_", Body::Alnum, 16, ANY),
    shape("rk_live_", Body::Alnum, 16, ANY),
    shape("rk_test_", Body::Alnum, 16, ANY),
    shape("whsec_", Body::Alnum, 20, ANY),
    shape("AKIA", Body::Upper, 16, 16),
    shape("ASIA", Body::Upper, 16, 16),
    shape("xoxb-", Body::Dashed, 10, ANY),
    shape("xoxp-", Body::Dashed, 10, ANY),
    shape("xoxa-", Body::Dashed, 10, ANY),
    shape("xoxr-", Body::Dashed, 10, ANY),
    shape("xoxs-", Body::Dashed, 10, ANY),
    shape("xoxe.", Body::Dotted, 10, ANY),
    shape("xapp-", Body::Dashed, 10, ANY),
    shape("npm_", Body::Alnum, 30, ANY),
    shape("pypi-AgE", Body::Dashed, 16, ANY),
    shape("AIza", Body::Dashed, 35, 35),
    shape("ya29.", Body::Dotted, 20, ANY),
    shape("GOCSPX-", Body::Dashed, 20, ANY),
    shape("hf_", Body::Alnum, 30, ANY),
    shape("dop_v1_", Body::Hex, 60, 64),
    shape("doo_v1_", Body::Hex, 60, 64),
    shape("dor_v1_", Body::Hex, 60, 64),
    shape("SG.", Body::Dotted, 40, ANY),
    shape("shpat_", Body::Hex, 32, 32),
    shape("shpss_", Body::Hex, 32, 32),
    shape("shpca_", Body::Hex, 32, 32),
    shape("hvs.", Body::Dashed, 20, ANY),
    shape("hvb.", Body::Dashed, 20, ANY),
    shape("dckr_pat_", Body::Dashed, 20, ANY),
    shape("rubygems_", Body::Hex, 48, 48),
    shape("AGE-SECRET-KEY-1", Body::Upper, 50, ANY),
    shape("lin_api_", Body::Alnum, 30, ANY),
    shape("glsa_", Body::Word, 32, ANY),
    shape("sntrys_", Body::Word, 30, ANY),
    shape("gsk_", Body::Alnum, 40, ANY),
    shape("xai-", Body::Alnum, 40, ANY),
    shape("nvapi-", Body::Dashed, 40, ANY),
    shape("ATATT3", Body::Dashed, 40, ANY),
    shape("pscale_tkn_", Body::Dashed, 30, ANY),
    shape("figd_", Body::Dashed, 30, ANY),
    shape("sbp_", Body::Hex, 40, 40),
    shape("ops_eyJ", Body::Dashed, 40, ANY),
];

pub(super) fn find(bytes: &[u8], spans: &mut Vec<Span>) {
    private_keys(bytes, spans);
    let mut before = None;
    let mut done = 0;
    for (start, byte) in bytes.iter().enumerate() {
        let boundary = before.is_none_or(|byte| !Body::Dashed.has(byte));
        if boundary && start >= done && byte.is_ascii_alphabetic() {
            let rest = part(bytes, start..bytes.len());
            if let Some(length) = token(rest).or_else(|| json_web_token(rest)) {
                done = start + length;
                spans.push(Span::new(start, done, "token"));
            }
        }
        before = Some(*byte);
    }
    webhooks(bytes, spans);
}

/// As much of a token tells whether it is one.
const LOOK_BYTES: usize = 256;

/// The length of the token that `rest` begins with.
fn token(rest: &[u8]) -> Option<usize> {
    SHAPES.iter().find_map(|shape| {
        let body = rest.strip_prefix(shape.prefix)?;
        let look = part(body, 0..run(part(body, 0..body.len().min(LOOK_BYTES)), shape.body));
        // Words with dashes are prose or names; a token has digits.
        let random = shape.body == Body::Upper || look.iter().any(u8::is_ascii_digit);
        if look.len() < shape.least || !random {
            return None;
        }
        let length = run(body, shape.body);
        (length <= shape.most).then_some(shape.prefix.len() + length)
    })
}

/// How many bytes from the beginning belong to such a body.
fn run(bytes: &[u8], body: Body) -> usize {
    bytes.iter().take_while(|byte| body.has(**byte)).count()
}

impl Body {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Dashed => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
            Self::Dotted => Self::Dashed.has(byte) || byte == b'.',
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        }
    }
}

/// `eyJ....eyJ....signature`: header, claims and signature in base64; or five parts, encrypted.
fn json_web_token(rest: &[u8]) -> Option<usize> {
    const HEADER_BYTES_MIN: usize = 10;
    const ENCRYPTED_PARTS: usize = 5;
    let header = run(rest, Body::Dashed);
    if !rest.starts_with(b"eyJ") || header < HEADER_BYTES_MIN {
        return None;
    }
    let after = rest.get(header..)?.strip_prefix(b".")?;
    let signed = after.starts_with(b"eyJ");
    let mut parts = 1;
    let mut end = header;
    while parts < ENCRYPTED_PARTS && rest.get(end) == Some(&b'.') {
        end += 1 + run(part(rest, end + 1..rest.len()), Body::Dashed);
        parts += 1;
    }
    (signed || parts == ENCRYPTED_PARTS).then_some(end)
}

/// From `-----BEGIN ... PRIVATE KEY` to the end of its footer, or of the text.
fn private_keys(bytes: &[u8], spans: &mut Vec<Span>) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let mut from = 0;
    while let Some(start) = position(bytes, from, BEGIN) {
        let label = start + BEGIN.len();
        let label_end = position(bytes, label, b"-----").unwrap_or(bytes.len());
        from = label_end;
        if position(part(bytes, label..label_end), 0, b"PRIVATE KEY").is_none() {
            continue;
        }
        let footer = position(bytes, label_end, END)
            .and_then(|footer| position(bytes, footer + END.len(), b"-----"));
        let end = footer.map_or(bytes.len(), |footer| footer + 5);
        spans.push(Span::new(start, end, "private-key"));
        from = end;
    }
}

/// Addresses whose path is the secret.
fn webhooks(bytes: &[u8], spans: &mut Vec<Span>) {
    const PLACES: &[&[u8]] = &[
        b"hooks.slack.com/services/",
        b"hooks.slack.com/workflows/",
        b"discord.com/api/webhooks/",
        b"discordapp.com/api/webhooks/",
        b"api.telegram.org/bot",
    ];
    for place in PLACES {
        let mut from = 0;
        while let Some(start) = position(bytes, from, place) {
            let secret = start + place.len();
            let rest = part(bytes, secret..bytes.len());
            let ends = |byte: &u8| !(Body::Dotted.has(*byte) || matches!(*byte, b'/' | b':'));
            from = secret + rest.iter().position(ends).unwrap_or(rest.len());
            spans.push(Span::new(secret, from, "webhook"));
        }
    }
}

pub(super) fn position(bytes: &[u8], from: usize, needle: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(needle.len()).position(|window| window == needle).map(|at| from + at)
}
