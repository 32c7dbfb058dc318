//! The one thing that is read of TLS: whom a client says it speaks to.
//!
//! A `ClientHello` (RFC 8446, 4.1.2) comes in clear and whole before anything else. Every length is
//! checked against what is there, everything has to add up to the end, and what is said twice is
//! refused, so that nobody behind this can read it differently.

/// A `ClientHello` is a few hundred bytes, and about two thousand with post-quantum keys.
pub(super) const HELLO_BYTES_MAX: usize = 32 << 10;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_BYTES_MAX: usize = 16 << 10;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// What became the above, in its last draft.
const ENCRYPTED_NAME: u16 = 0xffce;

/// What the beginning of a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// Not to be said yet.
    More,
    /// Begins like TLS and is none, or says something twice.
    Broken,
    Whole {
        name: Option<Vec<u8>>,
        /// The name that counts is in an encrypted part.
        encrypted: bool,
    },
}

/// Whether a stream that begins with this byte is TLS.
pub(super) fn is_tls(first: u8) -> bool {
    first == HANDSHAKE
}

/// Reads as much of the first message as there is.
pub(super) fn read(stream: &[u8]) -> Hello {
    let message = match handshake(stream) {
        Ok(message) => message,
        Err(end) => return end,
    };
    match client_hello(&message) {
        Some((name, encrypted)) => Hello::Whole { name, encrypted },
        None => Hello::Broken,
    }
}

/// The body of the first handshake message, which may lie in several records.
fn handshake(stream: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut message = Vec::new();
    let mut rest = Reader(stream);
    loop {
        if let Some(wanted) = length_of(&message) {
            match message.get(4..4 + wanted) {
                Some(body) => return Ok(body.to_vec()),
                None if wanted > HELLO_BYTES_MAX => return Err(Hello::Broken),
                None => {}
            }
        }
        if message.first().is_some_and(|it| *it != CLIENT_HELLO) {
            return Err(Hello::Broken);
        }
        let more = if stream.len() < HELLO_BYTES_MAX { Hello::More } else { Hello::Broken };
        let Some(kind) = rest.byte() else { return Err(more) };
        if kind != HANDSHAKE {
            return Err(Hello::Broken);
        }
        let Some(version) = rest.word() else { return Err(more) };
        let Some(length) = rest.word().map(usize::from) else { return Err(more) };
        if version >> 8 != 3 || length == 0 || length > RECORD_BYTES_MAX {
            return Err(Hello::Broken);
        }
        // What there is of the record already decides some streams.
        match rest.take(length) {
            Some(part) => message.extend_from_slice(part),
            None => return Err(more),
        }
    }
}

fn length_of(message: &[u8]) -> Option<usize> {
    let [_, a, b, c] = *message.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()
}

fn client_hello(body: &[u8]) -> Option<(Option<Vec<u8>>, bool)> {
    /// Version and random.
    const FIXED_BYTES: usize = 34;
    let mut body = Reader(body);
    body.take(FIXED_BYTES)?;
    let session = body.byte()?;
    body.take(session.into())?;
    let suites = body.word()?;
    body.take(suites.into())?;
    let compressions = body.byte()?;
    body.take(compressions.into())?;
    if body.0.is_empty() {
        return Some((None, false));
    }
    let length = body.word()?;
    let mut extensions = Reader(body.take(length.into())?);
    if !body.0.is_empty() {
        return None;
    }
    let (mut name, mut encrypted) = (None, false);
    while !extensions.0.is_empty() {
        let kind = extensions.word()?;
        let length = extensions.word()?;
        let value = extensions.take(length.into())?;
        match kind {
            SERVER_NAME if name.is_some() => return None,
            SERVER_NAME => name = Some(server_name(value)?),
            ENCRYPTED_HELLO | ENCRYPTED_NAME => encrypted = true,
            _ => {}
        }
    }
    Some((name, encrypted))
}

/// RFC 6066, 3: a list that in practice has one host name.
fn server_name(value: &[u8]) -> Option<Vec<u8>> {
    let mut list = Reader(value);
    let length = list.word()?;
    if usize::from(length) != list.0.len() || list.byte()? != HOST_NAME {
        return None;
    }
    let length = list.word()?;
    let name = list.take(length.into())?;
    list.0.is_empty().then(|| name.to_vec())
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u16> {
        let [a, b] = *self.take(2)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes([a, b]))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        let entry = [&[HOST_NAME][..], &length.to_be_bytes(), name].concat();
        let list = u16::try_from(entry.len()).unwrap();
        extension(SERVER_NAME, &[&list.to_be_bytes()[..], &entry].concat())
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let length = u16::try_from(extensions.len()).unwrap();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &[0, 2, 0x13, 0x01],
            &[1, 0],
            &length.to_be_bytes(),
            extensions,
        ]
        .concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO], &length[1..], &body].concat()
    }

    fn record(part: &[u8]) -> Vec<u8> {
        let length = u16::try_from(part.len()).unwrap();
        [&[HANDSHAKE, 3, 1][..], &length.to_be_bytes(), part].concat()
    }

    pub(in crate::egress) fn hello(name: &[u8]) -> Vec<u8> {
        record(&message(&[extension(23, b""), sni(name)].concat()))
    }

    #[test]
    fn the_name_is_read() {
        let whole = Hello::Whole { name: Some(b"a.test".to_vec()), encrypted: false };
        assert_eq!(read(&hello(b"a.test")), whole);
        let message = message(&sni(b"a.test"));
        let (first, second) = message.split_at(9);
        assert_eq!(read(&[record(first), record(second)].concat()), whole, "in two records");
    }

    #[test]
    fn a_hello_without_a_name_has_none() {
        let none = Hello::Whole { name: None, encrypted: false };
        assert_eq!(read(&record(&message(&extension(23, b"")))), none);
    }

    #[test]
    fn an_encrypted_hello_is_seen() {
        for kind in [ENCRYPTED_HELLO, ENCRYPTED_NAME] {
            let stream = record(&message(&[sni(b"a.test"), extension(kind, b"x")].concat()));
            let seen = Hello::Whole { name: Some(b"a.test".to_vec()), encrypted: true };
            assert_eq!(read(&stream), seen);
        }
    }

    #[test]
    fn every_beginning_asks_for_more_and_none_is_taken_for_the_whole() {
        let stream = hello(b"a.test");
        for length in 0..stream.len() {
            assert_eq!(read(&stream[..length]), Hello::More, "{length}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_broken() {
        let twice = message(&[sni(b"a.test"), sni(b"b.test")].concat());
        let mut too_long = message(&sni(b"a.test"));
        too_long.extend(b"rest");
        too_long[3] += 4;
        let mut no_end = sni(b"a.test");
        no_end[3] += 1;
        let mut two_names = sni(b"a.test");
        two_names[5] += 1;
        for (what, stream) in [
            ("two names", record(&twice)),
            ("bytes behind the extensions", record(&too_long)),
            ("an extension beyond the end", record(&message(&no_end))),
            ("a list of another length", record(&message(&two_names))),
            ("another message", record(&[2, 0, 0, 1, 0])),
            ("another version", [&[HANDSHAKE, 2, 0, 0, 1][..], &[1]].concat()),
            ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
            ("a record of another kind", [record(&twice[..4]), vec![23, 3, 3, 0, 1, 0]].concat()),
            ("an endless hello", record(&[CLIENT_HELLO, 0xff, 0xff, 0xff, 0])),
        ] {
            assert_eq!(read(&stream), Hello::Broken, "{what}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_stumble(stream: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            read(&stream);
            let mut changed = hello(b"a.test");
            let place = at.index(changed.len());
            changed[place] = byte;
            read(&changed);
        }
    }
}
