//! The addresses that stand for names inside one sandbox.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::HostName;
use crate::plan::egress::Pool;

/// Every name that was asked for and is allowed, with its number. A name keeps its address for as
/// long as the run lasts, and there are never more than [`Pool::NAMES_MAX`].
#[derive(Debug)]
pub(super) struct Names {
    pool: Pool,
    list: Vec<HostName>,
    numbers: BTreeMap<HostName, u32>,
}

impl Names {
    /// With those that have the first numbers.
    pub(super) fn new(pool: Pool, first: &[&HostName]) -> Self {
        let mut names = Self { pool, list: Vec::new(), numbers: BTreeMap::new() };
        for name in first {
            names.addresses_of(name);
        }
        names
    }

    /// The name's addresses; nothing when there are too many names.
    pub(super) fn addresses_of(&mut self, name: &HostName) -> Option<(Ipv4Addr, Ipv6Addr)> {
        if let Some(number) = self.numbers.get(name) {
            return Some(self.pool.of_name(*number));
        }
        let number = u32::try_from(self.list.len()).ok().filter(|it| *it < Pool::NAMES_MAX)?;
        self.list.push(name.clone());
        self.numbers.insert(name.clone(), number);
        Some(self.pool.of_name(number))
    }

    /// The name that an address stands for.
    pub(super) fn at(&self, address: IpAddr) -> Option<&HostName> {
        let number = self.pool.name_at(address)?;
        self.list.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_the_address_leads_back_to_it() {
        let mut names = Names::new(Pool::USUAL, &[&name("listed.test")]);
        assert_eq!(names.at("198.18.1.0".parse().unwrap()), Some(&name("listed.test")));
        let first = names.addresses_of(&name("a.test")).unwrap();
        let second = names.addresses_of(&name("b.test")).unwrap();
        assert_ne!(first, second);
        assert_eq!(names.addresses_of(&name("a.test")), Some(first));
        assert_eq!(names.at(second.0.into()), Some(&name("b.test")));
        assert_eq!(names.at(second.1.into()), Some(&name("b.test")));
        assert_eq!(names.at("198.18.1.3".parse().unwrap()), None, "not given out yet");
    }

    #[test]
    fn there_is_a_last_name() {
        let mut names = Names::new(Pool::USUAL, &[]);
        for number in 0..Pool::NAMES_MAX {
            assert!(names.addresses_of(&name(&format!("n{number}.test"))).is_some());
        }
        assert_eq!(names.addresses_of(&name("one-more.test")), None);
        assert!(names.addresses_of(&name("n0.test")).is_some());
    }
}
