//! Addresses: which belong to the public internet, and which somebody has to name first.
//!
//! A name of the internet may resolve to anything, also to this machine, to its neighbours or to
//! the place where a cloud keeps its credentials. So an address is open to a name only when it is
//! public unicast, in a plain form; every other one needs a profile line that names its range.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    Public,
    Unspecified,
    Loopback,
    Private,
    LinkLocal,
    /// Shared with a carrier's customers, RFC 6598; some clouds keep their metadata there.
    Shared,
    Metadata,
    Multicast,
    /// Documentation, benchmarks, protocols, the future.
    Reserved,
    /// An IPv6 address that stands for an IPv4 one: mapped, translated or tunnelled.
    Disguised,
}

impl AddressClass {
    /// Completes "it is ...".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Unspecified => "the unspecified address, which is this machine",
            Self::Loopback => "a loopback address, which is this machine",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "a carrier's shared address",
            Self::Metadata => "where a cloud hands out credentials",
            Self::Multicast => "a multicast or broadcast address",
            Self::Reserved => "a reserved address",
            Self::Disguised => "an IPv4 address in the form of an IPv6 one",
        }
    }
}

/// The services that give a virtual machine its identity; two of them have public addresses.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// IPv4 ranges of RFC 6890 and its successors, smallest first where they nest.
const V4: [(Ipv4Addr, u8, AddressClass); 17] = {
    use AddressClass::{
        LinkLocal, Loopback, Multicast, Private, Reserved, Shared, Unspecified as Nobody,
    };
    [
        (Ipv4Addr::UNSPECIFIED, 8, Nobody),
        (Ipv4Addr::new(10, 0, 0, 0), 8, Private),
        (Ipv4Addr::new(100, 64, 0, 0), 10, Shared),
        (Ipv4Addr::new(127, 0, 0, 0), 8, Loopback),
        (Ipv4Addr::new(169, 254, 0, 0), 16, LinkLocal),
        (Ipv4Addr::new(172, 16, 0, 0), 12, Private),
        (Ipv4Addr::new(192, 0, 0, 0), 24, Reserved),
        (Ipv4Addr::new(192, 0, 2, 0), 24, Reserved),
        (Ipv4Addr::new(192, 31, 196, 0), 24, Reserved),
        (Ipv4Addr::new(192, 52, 193, 0), 24, Reserved),
        (Ipv4Addr::new(192, 88, 99, 0), 24, Reserved),
        (Ipv4Addr::new(192, 168, 0, 0), 16, Private),
        (Ipv4Addr::new(198, 18, 0, 0), 15, Reserved),
        (Ipv4Addr::new(198, 51, 100, 0), 24, Reserved),
        (Ipv4Addr::new(203, 0, 113, 0), 24, Reserved),
        (Ipv4Addr::new(224, 0, 0, 0), 4, Multicast),
        (Ipv4Addr::new(240, 0, 0, 0), 4, Reserved),
    ]
};

/// IPv6 ranges; what none of them names is public only in `2000::/3`.
const V6: [(Ipv6Addr, u8, AddressClass); 15] = {
    use AddressClass::{
        Disguised, LinkLocal, Loopback, Multicast, Private, Reserved, Unspecified as Nobody,
    };
    const fn at(a: u16, b: u16, c: u16) -> Ipv6Addr {
        Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)
    }
    [
        (Ipv6Addr::UNSPECIFIED, 128, Nobody),
        (Ipv6Addr::LOCALHOST, 128, Loopback),
        // ::a.b.c.d, ::ffff:a.b.c.d, ::ffff:0:a.b.c.d
        (at(0, 0, 0), 64, Disguised),
        // NAT64, for everybody and for one network.
        (at(0x64, 0xff9b, 0), 96, Disguised),
        (at(0x64, 0xff9b, 1), 48, Disguised),
        (at(0x100, 0, 0), 64, Reserved),
        // Teredo lies in the first; ORCHID and the rest of the protocols beside it.
        (at(0x2001, 0, 0), 32, Disguised),
        (at(0x2001, 0, 0), 23, Reserved),
        (at(0x2001, 0xdb8, 0), 32, Reserved),
        (at(0x2002, 0, 0), 16, Disguised),
        (at(0x3fff, 0, 0), 20, Reserved),
        (at(0xfc00, 0, 0), 7, Private),
        (at(0xfe80, 0, 0), 10, LinkLocal),
        (at(0xfec0, 0, 0), 10, Private),
        (at(0xff00, 0, 0), 8, Multicast),
    ]
};

/// The class of an address in the form in which it was given: a disguised one is not unwrapped.
pub fn classify(address: IpAddr) -> AddressClass {
    if METADATA.contains(&address) {
        return AddressClass::Metadata;
    }
    let found = match address {
        IpAddr::V4(it) => V4
            .iter()
            .find(|(base, length, _)| Range::new(IpAddr::V4(*base), *length).holds(it.into()))
            .map(|it| it.2),
        IpAddr::V6(it) => V6
            .iter()
            .find(|(base, length, _)| Range::new(IpAddr::V6(*base), *length).holds(it.into()))
            .map(|it| it.2)
            .or_else(|| (it.segments()[0] >> 13 != 1).then_some(AddressClass::Reserved)),
    };
    found.unwrap_or(AddressClass::Public)
}

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    base: IpAddr,
    // INVARIANT: at most 32 or 128, and no bit of `base` is set behind it.
    length: u8,
}

/// Why a text names no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address range: {why}")]
pub struct RangeError {
    text: String,
    why: &'static str,
}

impl Range {
    fn new(base: IpAddr, length: u8) -> Self {
        Self { base: masked(base, length), length }
    }

    /// `10.1.0.0/16`, `fd12::/16`, or one address.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let error = |why| RangeError { text: text.to_owned(), why };
        let (base, length) = match text.split_once('/') {
            Some((base, length)) => (base, Some(length)),
            None => (text, None),
        };
        let base: IpAddr = base
            .parse()
            .map_err(|_| error("write an address, or an address, a slash and a number of bits"))?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(length) => length
                .parse()
                .ok()
                .filter(|it| *it <= bits)
                .ok_or_else(|| error("the number of bits is not in range"))?,
        };
        if length == 0 {
            return Err(error("it holds every address"));
        }
        if masked(base, length) != base {
            return Err(error("the address has bits behind the prefix"));
        }
        Ok(Self { base, length })
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && masked(address, self.length) == self.base
    }

    pub fn is_within(&self, other: &Self) -> bool {
        self.length >= other.length && other.holds(self.base)
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(it.to_bits() & mask))
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & mask))
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Self, RangeError> {
        Self::parse(&text)
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_public_unicast_is_public() {
        use AddressClass::{
            Disguised, LinkLocal, Loopback, Metadata, Multicast, Private, Public, Reserved, Shared,
            Unspecified,
        };
        let table = [
            ("8.8.8.8", Public),
            ("1.1.1.1", Public),
            ("172.32.0.1", Public),
            ("2606:4700::1111", Public),
            ("2a00:1450:4001::1", Public),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("127.0.0.1", Loopback),
            ("127.255.0.1", Loopback),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("169.254.1.1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("168.63.129.16", Metadata),
            ("100.100.100.200", Metadata),
            ("fd00:ec2::254", Metadata),
            ("100.64.0.1", Shared),
            ("224.0.0.251", Multicast),
            ("255.255.255.255", Reserved),
            ("198.18.0.1", Reserved),
            ("192.0.2.1", Reserved),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Disguised),
            ("::ffff:8.8.8.8", Disguised),
            ("::127.0.0.1", Disguised),
            ("::ffff:0:10.0.0.1", Disguised),
            ("64:ff9b::a00:1", Disguised),
            ("64:ff9b:1::1", Disguised),
            ("2002:7f00:1::", Disguised),
            ("2001:0:53aa:64c::1", Disguised),
            ("2001:10::1", Reserved),
            ("2001:db8::1", Reserved),
            ("3fff::1", Reserved),
            ("fe80::1", LinkLocal),
            ("fec0::1", Private),
            ("fc00::1", Private),
            ("fd12:3456::1", Private),
            ("ff02::fb", Multicast),
            ("4000::1", Reserved),
            ("100::1", Reserved),
        ];
        for (text, class) in table {
            assert_eq!(classify(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn a_range_holds_what_begins_with_its_bits() {
        let range = Range::parse("127.0.0.0/8").unwrap();
        assert!(range.holds("127.9.9.9".parse().unwrap()));
        assert!(!range.holds("128.0.0.1".parse().unwrap()));
        assert!(!range.holds("::ffff:127.0.0.1".parse().unwrap()));
        let one = Range::parse("::1").unwrap();
        assert_eq!(one.to_string(), "::1/128");
        assert!(one.holds("::1".parse().unwrap()) && !one.holds("::2".parse().unwrap()));
        assert!(
            Range::parse("10.1.0.0/16").unwrap().is_within(&Range::parse("10.0.0.0/8").unwrap())
        );
        assert!(
            !Range::parse("10.0.0.0/8").unwrap().is_within(&Range::parse("10.1.0.0/16").unwrap())
        );
    }

    #[test]
    fn a_range_is_written_exactly() {
        for text in ["10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0.0/-1", "10", "a/8"] {
            assert!(Range::parse(text).is_err(), "{text}");
        }
    }
}
