//! Credentials that the sandbox never sees.
//!
//! A program of the run has a placeholder, which is worth nothing. In a request over TLS to the one
//! host that a credential is for, with one of its methods, in its one header and form, the gateway
//! puts the secret in the placeholder's place. A placeholder anywhere else is somebody's try to get
//! at what it stands for, and is refused. What the host answers is searched for the secret, and what
//! is found is covered before the run can read it.

use std::cell::RefCell;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::request::{Target, decoded};
use super::wire::LeaseSeen;
use crate::plan::egress::{CredentialPlan, Refused, Wanted};

/// What covers a secret in an answer: as long as the secret, so that lengths stay as they are.
const COVER: u8 = b'*';

/// One credential of a run, with what is never written down.
#[derive(Clone, Serialize, Deserialize)]
pub struct Lent {
    pub placeholder: String,
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("placeholder", &self.placeholder).finish_non_exhaustive()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.secret.fill(0);
        // So that nobody finds that the above is never read.
        std::hint::black_box(&self.secret);
    }
}

/// All credentials of the run, and how often each was used and refused.
#[derive(Debug)]
pub(super) struct Leases {
    lent: Vec<Lent>,
    counts: RefCell<Vec<(u64, u64)>>,
}

/// A header as the server gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    index: usize,
    name: HeaderName,
    value: HeaderValue,
}

impl Leases {
    pub(super) fn new(lent: Vec<Lent>) -> Self {
        let counts = RefCell::new(vec![(0, 0); lent.len()]);
        Self { lent, counts }
    }

    /// Puts secrets where they belong, or says why the request may not go on.
    pub(super) fn give(
        &self,
        plans: &[CredentialPlan],
        target: &Target,
        head: &mut Parts,
    ) -> Result<(), Refused> {
        match given(plans, &self.lent, target, head) {
            Ok(all) => {
                for Given { index, name, value } in all {
                    head.headers.insert(name, value);
                    self.count(index, |it| it.0 += 1);
                }
                Ok(())
            }
            Err((index, why)) => {
                self.count(index, |it| it.1 += 1);
                Err(why)
            }
        }
    }

    fn count(&self, index: usize, add: impl FnOnce(&mut (u64, u64))) {
        if let Some(counts) = self.counts.borrow_mut().get_mut(index) {
            add(counts);
        }
    }

    /// What an answer of this host may not show to the run.
    pub(super) fn covered(&self, plans: &[CredentialPlan], wanted: &Wanted) -> Vec<Vec<u8>> {
        let mut covered = Vec::new();
        for (plan, lent) in plans.iter().zip(&self.lent).filter(|it| it.0.is_for(wanted)) {
            covered.push(lent.secret.clone());
            covered.push(base64(&[plan.login.as_bytes(), b":", &lent.secret].concat()));
        }
        covered
    }

    pub(super) fn seen(&self, plans: &[CredentialPlan]) -> Vec<LeaseSeen> {
        let counts = self.counts.borrow();
        let all = plans.iter().zip(counts.iter());
        all.map(|(plan, (used, refused))| LeaseSeen {
            name: plan.name.clone(),
            used: *used,
            refused: *refused,
        })
        .collect()
    }
}

/// The headers that become others; or the credential that was about to be misused, and how.
fn given(
    plans: &[CredentialPlan],
    lent: &[Lent],
    target: &Target,
    head: &Parts,
) -> Result<Vec<Given>, (usize, Refused)> {
    let mut all = Vec::new();
    for (index, (plan, lent)) in plans.iter().zip(lent).enumerate() {
        let refused = |how: String| {
            let (name, because) = (plan.name.clone(), plan.because.clone());
            (index, Refused::Credential { name, how, because })
        };
        let placeholder = lent.placeholder.as_str();
        let uri = head.uri.to_string();
        let in_uri = uri.contains(placeholder) || decoded(&uri).contains(placeholder);
        let holds = |value: &&HeaderValue| {
            let value = value.as_bytes();
            contains(value, placeholder.as_bytes())
                || basic(value).is_some_and(|it| contains(&it, placeholder.as_bytes()))
        };
        let found = head.headers.iter().filter(|it| holds(&it.1)).count();
        if !in_uri && found == 0 {
            continue;
        }
        if !plan.is_for(&target.wanted) {
            return Err(refused(format!("it is lent to `{}` alone", plan.host)));
        }
        if !target.tls {
            return Err(refused("it goes over TLS only".to_owned()));
        }
        if !plan.methods.iter().any(|it| it == head.method.as_str()) {
            return Err(refused(format!("it is lent for {} alone", plan.methods.join(", "))));
        }
        let Ok(name) = HeaderName::try_from(plan.header.as_str()) else {
            return Err(refused("its header has no name".to_owned()));
        };
        let mut values = head.headers.get_all(&name).iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) if found == 1 && !in_uri => filled(plan, lent, value),
            _ => None,
        };
        let Some(value) = value else {
            let (header, form) = (&plan.header, &plan.format);
            return Err(refused(format!(
                "it goes into the header `{header}` in the form `{form}`, and nowhere else"
            )));
        };
        all.push(Given { index, name, value });
    }
    Ok(all)
}

/// The header with the secret, if the placeholder stands there as it should.
fn filled(plan: &CredentialPlan, lent: &Lent, value: &HeaderValue) -> Option<HeaderValue> {
    let (before, after) = plan.format.split_once("{}")?;
    let bytes = value.as_bytes();
    let with = |middle: &[u8]| [before.as_bytes(), middle, after.as_bytes()].concat();
    let filled = if bytes == with(lent.placeholder.as_bytes()) {
        with(&lent.secret)
    } else {
        // What programs make of a `.netrc`.
        let login = [plan.login.as_bytes(), b":"].concat();
        let basic = basic(bytes)?;
        if basic.strip_prefix(&*login)? != lent.placeholder.as_bytes() {
            return None;
        }
        [b"Basic ", &*base64(&[&*login, &lent.secret].concat())].concat()
    };
    let mut filled = HeaderValue::from_bytes(&filled).ok()?;
    filled.set_sensitive(true);
    Some(filled)
}

/// What a value in the form of RFC 7617 says.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    from_base64(rest.trim_ascii())
}

/// Takes what would let the answer come in a form that cannot be searched.
pub(super) fn in_clear(headers: &mut HeaderMap) {
    use hyper::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // A secret in two answers is in neither.
    for name in [RANGE, IF_RANGE] {
        headers.remove(name);
    }
}

/// Whether an answer can be searched.
pub(super) fn is_clear(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(hyper::header::CONTENT_ENCODING);
    encodings.iter().all(|it| it.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Covers secrets in a stream, also those that lie across two of its parts.
#[derive(Debug, Default)]
pub(super) struct Cover {
    secrets: Vec<Vec<u8>>,
    /// What may be the beginning of one.
    held: Vec<u8>,
}

impl Cover {
    pub(super) fn new(secrets: Vec<Vec<u8>>) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// What of the stream can go on, now that this came.
    pub(super) fn pass(&mut self, part: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(part);
        cover(&mut bytes, &self.secrets);
        let begins = |from: &usize| {
            let tail = bytes.get(*from..).unwrap_or_default();
            self.secrets.iter().any(|it| it.len() > tail.len() && it.starts_with(tail))
        };
        let longest = self.secrets.iter().map(Vec::len).max().unwrap_or(0);
        let first = bytes.len().saturating_sub(longest.saturating_sub(1));
        let cut = (first..bytes.len()).find(begins).unwrap_or(bytes.len());
        self.held = bytes.split_off(cut);
        bytes
    }

    /// What was held back and turned out to be the end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The same in headers.
    pub(super) fn headers(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if cover(&mut bytes, &self.secrets)
                && let Ok(covered) = HeaderValue::from_bytes(&bytes)
            {
                *value = covered;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }
}

/// Whether there was anything to cover.
fn cover(bytes: &mut [u8], secrets: &[Vec<u8>]) -> bool {
    let mut found = false;
    for secret in secrets.iter().filter(|it| !it.is_empty()) {
        let mut from = 0;
        while let Some(window) = bytes.get_mut(from..from + secret.len()) {
            if window == secret.as_slice() {
                window.fill(COVER);
                found = true;
            }
            from += 1;
        }
    }
    found
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len().max(1)).any(|it| it == part)
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, 4.
pub(super) fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut letters = Vec::new();
    for three in bytes.chunks(3) {
        let mut bits = 0;
        for place in 0..3 {
            bits = bits << 8 | u32::from(three.get(place).copied().unwrap_or(0));
        }
        for place in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let filled = place <= three.len();
            letters.push(LETTERS.get(index).copied().filter(|_| filled).unwrap_or(b'='));
        }
    }
    letters
}

fn from_base64(letters: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in letters.iter().take_while(|it| **it != b'=') {
        let value = LETTERS.iter().position(|it| it == letter)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
