//! The resolver of a sandbox: every question gets its answer here, and none goes anywhere.
//!
//! An allowed name has an address that stands for it; any other name does not exist. Nothing that
//! is asked leaves the machine, so a question carries nothing out, however it is spelled.

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::{Message, MessageBuilder, ParsedName, Rtype, Ttl};
use domain::rdata::{A, Aaaa};

use crate::model::{HostName, NameError};

/// What a UDP answer may take without fragments (the DNS flag day of 2020).
const UDP_BYTES_MAX: u16 = 1232;
/// The addresses hold for the run; clients that keep them longer do no harm.
const TTL: Ttl = Ttl::from_secs(60);

/// What is known about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its addresses; without the second where the sandbox has no IPv6.
    Addresses(Ipv4Addr, Option<Ipv6Addr>),
    /// There is no such name.
    Nothing,
    /// Too many names are known already.
    Full,
}

/// What a question was about, for whoever keeps count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Name(HostName),
    /// Something that is no name, as it can be shown.
    NoName(String, NameError),
    /// The name of an address, which is nobody's secret and never known here.
    Reverse,
}

/// Answers one message, or says nothing to what is no question. `know` is asked about the name.
pub(super) fn answer(query: &[u8], know: &mut dyn FnMut(&Asked) -> Answer) -> Option<Vec<u8>> {
    let message = Message::from_octets(query).ok()?;
    let header = message.header();
    if header.qr() {
        return None;
    }
    if header.opcode() != Opcode::QUERY {
        return Some(error(&message, Rcode::NOTIMP));
    }
    let Ok(question) = message.sole_question() else {
        return Some(error(&message, Rcode::FORMERR));
    };
    if question.qclass() != Class::IN {
        return Some(error(&message, Rcode::REFUSED));
    }
    let kind = question.qtype();
    let found = know(&asked(question.qname()));
    let rcode = match found {
        Answer::Addresses(..) => Rcode::NOERROR,
        Answer::Nothing => Rcode::NXDOMAIN,
        Answer::Full => Rcode::SERVFAIL,
    };
    let mut answer = MessageBuilder::new_vec().start_answer(&message, rcode).ok()?;
    answer.header_mut().set_ra(true);
    if let Answer::Addresses(v4, v6) = found {
        let name = question.qname();
        // Whatever else is asked for, such as HTTPS or TXT, the name has none of it.
        match (kind, v6) {
            (Rtype::A, _) => answer.push((name, Class::IN, TTL, A::new(v4))).ok()?,
            (Rtype::AAAA, Some(v6)) => answer.push((name, Class::IN, TTL, Aaaa::new(v6))).ok()?,
            _ => {}
        }
    }
    let mut additional = answer.additional();
    if message.opt().is_some() {
        let sized = additional.opt(|opt| {
            opt.set_udp_payload_size(UDP_BYTES_MAX);
            Ok(())
        });
        sized.ok()?;
    }
    Some(additional.finish())
}

fn error(message: &Message<&[u8]>, rcode: Rcode) -> Vec<u8> {
    MessageBuilder::new_vec().start_error(message, rcode).finish()
}

fn asked(name: &ParsedName<&[u8]>) -> Asked {
    let mut bytes = Vec::new();
    let mut dotted = false;
    for label in name.iter().filter(|it| !it.is_root()) {
        dotted |= label.as_slice().contains(&b'.');
        bytes.extend_from_slice(label.as_slice());
        bytes.push(b'.');
    }
    bytes.pop();
    let parsed = if dotted { Err(NameError::Letter) } else { HostName::parse(&bytes) };
    match parsed {
        Ok(name) if name.as_str().rsplit('.').next() == Some("arpa") => Asked::Reverse,
        Ok(name) => Asked::Name(name),
        Err(error) => Asked::NoName(bytes.escape_ascii().to_string(), error),
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use domain::base::Name;

    use super::*;

    fn query(name: &str, kind: Rtype) -> Vec<u8> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(77);
        message.header_mut().set_rd(true);
        let mut question = message.question();
        question.push((Name::<Vec<u8>>::from_str(name).unwrap(), kind)).unwrap();
        question.finish()
    }

    fn know(asked: &Asked) -> Answer {
        match asked {
            Asked::Name(name) if name.as_str() == "a.test" => {
                let v6 = "fd00:5a::107".parse().unwrap();
                Answer::Addresses(Ipv4Addr::new(198, 18, 1, 7), Some(v6))
            }
            Asked::Name(name) if name.as_str() == "full.test" => Answer::Full,
            _ => Answer::Nothing,
        }
    }

    /// The code of the answer, then its records.
    #[track_caller]
    fn check(name: &str, kind: Rtype, expected: &str) {
        let query = query(name, kind);
        let answer = answer(&query, &mut know).unwrap();
        let message = Message::from_octets(answer.as_slice()).unwrap();
        let header = message.header();
        assert_eq!((header.id(), header.qr(), header.rd(), header.ra()), (77, true, true, true));
        let mut words = vec![header.rcode().to_string()];
        for record in message.answer().unwrap() {
            let record = record.unwrap();
            let data = record.to_any_record::<domain::rdata::AllRecordData<_, _>>().unwrap();
            words.push(data.data().to_string());
        }
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn an_allowed_name_has_addresses_and_nothing_else() {
        check("a.test", Rtype::A, "NOERROR 198.18.1.7");
        check("A.TEST", Rtype::A, "NOERROR 198.18.1.7");
        check("a.test", Rtype::AAAA, "NOERROR fd00:5a::107");
        for kind in [Rtype::HTTPS, Rtype::SVCB, Rtype::TXT, Rtype::MX, Rtype::SRV, Rtype::ANY] {
            check("a.test", kind, "NOERROR");
        }
    }

    #[test]
    fn any_other_name_does_not_exist() {
        check("b.test", Rtype::A, "NXDOMAIN");
        check("c2VjcmV0.b.test", Rtype::TXT, "NXDOMAIN");
        check("a.test.b.test", Rtype::A, "NXDOMAIN");
        check("1.2.0.192.in-addr.arpa", Rtype::PTR, "NXDOMAIN");
        check("full.test", Rtype::A, "SERVFAIL");
    }

    #[test]
    fn a_label_that_hides_a_dot_or_a_nul_is_no_name() {
        for (name, shown) in [("a\\.test", "a.test"), ("evil\\000.a.test", "evil\\x00.a.test")] {
            let mut seen = Vec::new();
            let query = query(name, Rtype::A);
            answer(&query, &mut |asked: &Asked| {
                seen.push(asked.clone());
                Answer::Nothing
            });
            assert_eq!(seen, [Asked::NoName(shown.to_owned(), NameError::Letter)]);
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer_or_an_error() {
        assert_eq!(answer(b"", &mut know), None);
        assert_eq!(answer(&[0; 11], &mut know), None);
        let mut answered = query("a.test", Rtype::A);
        answered[2] |= 0x80;
        assert_eq!(answer(&answered, &mut know), None, "an answer is not answered");
        let mut two = query("a.test", Rtype::A);
        two[5] = 2;
        let refused = answer(&two, &mut know).unwrap();
        assert_eq!(Message::from_octets(refused).unwrap().header().rcode(), Rcode::FORMERR);
        let mut update = query("a.test", Rtype::A);
        update[2] |= 5 << 3;
        let refused = answer(&update, &mut know).unwrap();
        assert_eq!(Message::from_octets(refused).unwrap().header().rcode(), Rcode::NOTIMP);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_stumble(bytes: Vec<u8>) {
            answer(&bytes, &mut know);
        }
    }
}
