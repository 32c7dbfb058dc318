//! Counts what goes out and comes in, and says when it is enough.
//!
//! A limit is asked right before bytes are taken from a socket, for so many bytes and no more, and
//! the bytes are counted right after: what may still be sent is therefore exact, however many
//! connections there are at once.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::model::{Bytes, Count, Denial, Layer, Level, Origin, Traffic};
use crate::plan::egress::{Allowed, EgressPlan};
use crate::sys::numbers::Numbers;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// A limit that has been reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// The profile's key.
    pub(super) rule: &'static str,
    pub(super) reason: String,
    pub(super) because: Origin,
}

#[derive(Debug)]
pub(super) struct Meters {
    total: Counter,
    /// One for each destination of the plan.
    each: Vec<Counter>,
    /// Where the supervisor finds them if this process does not live to report.
    board: Option<Numbers>,
}

/// Of one destination: connections, requests, bytes sent, bytes received.
const NUMBERS_EACH: usize = 4;
/// What the numbers of one destination take in the file.
pub(super) const BYTES_EACH: usize = NUMBERS_EACH * size_of::<u64>();

/// What the file says that each destination had, without those that had nothing.
pub(super) fn left_behind(plan: &EgressPlan, bytes: &[u8]) -> Vec<Traffic> {
    let number = |it: &[u8]| it.first_chunk().map_or(0, |it| u64::from_ne_bytes(*it));
    let counters = bytes.chunks_exact(BYTES_EACH).map(|it| {
        let mut numbers = it.chunks_exact(size_of::<u64>()).map(number);
        let mut next = || numbers.next().unwrap_or(0);
        Counter { connections: next(), requests: next(), up: next(), down: next(), paid: None }
    });
    traffic(plan, counters)
}

fn traffic(plan: &EgressPlan, counters: impl Iterator<Item = Counter>) -> Vec<Traffic> {
    let used = plan.destinations.iter().zip(counters).filter(|it| it.1.connections > 0);
    used.map(|(destination, counter)| Traffic {
        destination: destination.to.to_string(),
        connections: Count(counter.connections),
        requests: (destination.is_inspected() || counter.requests > 0)
            .then_some(Count(counter.requests)),
        sent: Bytes(counter.up),
        received: Bytes(counter.down),
    })
    .collect()
}

#[derive(Debug, Default, Clone)]
struct Counter {
    up: u64,
    down: u64,
    connections: u64,
    requests: u64,
    /// When as many bytes as were taken have been paid for, where there is a rate.
    paid: Option<Instant>,
}

/// How far a rate may be used up ahead.
const BURST: Duration = Duration::from_millis(100);

impl Meters {
    pub(super) fn new(plan: &EgressPlan, board: Option<OwnedFd>) -> Result<Self, Errno> {
        let each = vec![Counter::default(); plan.destinations.len()];
        let board = board.map(|it| Numbers::of(it.as_fd(), NUMBERS_EACH * each.len()));
        Ok(Self { total: Counter::default(), each, board: board.transpose()? })
    }

    /// Counts one more connection, if there may be one.
    pub(super) fn connect(&mut self, plan: &EgressPlan, to: &Allowed) -> Result<(), Cut> {
        if let Some(limit) = &plan.connections_max
            && self.total.connections >= limit.max.0
        {
            return Err(Cut {
                rule: "network.budget.connections",
                reason: format!("the run has opened {} connections", limit.max),
                because: limit.because.clone(),
            });
        }
        self.total.connections += 1;
        for index in to.indexes() {
            let Some(counter) = self.each.get_mut(*index) else { continue };
            counter.connections += 1;
            put(self.board.as_ref(), *index, counter);
        }
        Ok(())
    }

    /// Counts a request that is sent on.
    pub(super) fn request(&mut self, to: &Allowed) {
        for index in to.indexes() {
            let Some(counter) = self.each.get_mut(*index) else { continue };
            counter.requests = counter.requests.saturating_add(1);
            put(self.board.as_ref(), *index, counter);
        }
    }

    /// How many of the `wanted` bytes may go now; never 0.
    pub(super) fn allowance(
        &self,
        plan: &EgressPlan,
        to: &Allowed,
        way: Way,
        wanted: usize,
    ) -> Result<usize, Cut> {
        let mut least = u64::try_from(wanted).unwrap_or(u64::MAX);
        let (total, rule, done) = match way {
            Way::Up => (&plan.upload_max, "network.budget.upload", self.total.up),
            Way::Down => (&plan.download_max, "network.budget.download", self.total.down),
        };
        if let Some(limit) = total {
            let left = limit.max.0.saturating_sub(done);
            if left == 0 {
                return Err(Cut {
                    rule,
                    reason: format!("the run has {} {}", way.done(), limit.max),
                    because: limit.because.clone(),
                });
            }
            least = least.min(left);
        }
        for index in to.indexes() {
            let (Some(destination), Some(counter)) =
                (plan.destinations.get(*index), self.each.get(*index))
            else {
                continue;
            };
            if let Some(Bytes(max)) = destination.upload_max.filter(|_| way == Way::Up) {
                let left = max.saturating_sub(counter.up);
                if left == 0 {
                    return Err(Cut {
                        rule: "network.destination.upload",
                        reason: format!("the run has sent {} to {}", Bytes(max), destination.to),
                        because: destination.because.clone(),
                    });
                }
                least = least.min(left);
            }
            if let Some(Bytes(rate)) = destination.rate {
                least = least.min((rate / 10).max(1));
            }
        }
        Ok(usize::try_from(least).unwrap_or(usize::MAX))
    }

    /// Counts bytes that were taken.
    pub(super) fn count(
        &mut self,
        plan: &EgressPlan,
        to: &Allowed,
        way: Way,
        bytes: usize,
        now: Instant,
    ) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.total.add(way, bytes);
        for index in to.indexes() {
            let Some(counter) = self.each.get_mut(*index) else { continue };
            counter.add(way, bytes);
            put(self.board.as_ref(), *index, counter);
            let rate = plan.destinations.get(*index).and_then(|it| it.rate);
            if let Some(Bytes(rate @ 1..)) = rate {
                let worth = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
                let paid = counter.paid.map_or(now, |it| it.max(now));
                counter.paid = paid.checked_add(worth);
            }
        }
    }

    /// How long to wait before more bytes are taken.
    pub(super) fn wait(&self, to: &Allowed, now: Instant) -> Option<Duration> {
        let paid = to.indexes().iter().filter_map(|it| self.each.get(*it)?.paid).max()?;
        let ahead = paid.saturating_duration_since(now);
        ahead.checked_sub(BURST).filter(|it| !it.is_zero())
    }

    /// What each destination had, without those that had nothing.
    pub(super) fn traffic(&self, plan: &EgressPlan) -> Vec<Traffic> {
        traffic(plan, self.each.iter().cloned())
    }
}

fn put(board: Option<&Numbers>, index: usize, counter: &Counter) {
    let Some(board) = board else { return };
    let numbers = [counter.connections, counter.requests, counter.up, counter.down];
    for (at, number) in (index * NUMBERS_EACH..).zip(numbers) {
        board.put(at, number);
    }
}

impl Counter {
    fn add(&mut self, way: Way, bytes: u64) {
        let counter = match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        };
        *counter = counter.saturating_add(bytes);
    }
}

impl Way {
    fn done(self) -> &'static str {
        match self {
            Self::Up => "sent",
            Self::Down => "received",
        }
    }
}

impl Cut {
    pub(super) fn denial(self, level: Level, object: String) -> Denial {
        Denial {
            layer: Layer::Network,
            rule: self.rule.to_owned(),
            level,
            object,
            reason: self.reason,
            origin: Some(self.because),
            allow_with: Some(format!("a larger `{}` in the profile", self.rule)),
            next: "send and fetch less; the connection was cut at the limit".to_owned(),
            count: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{HostName, HostPattern};
    use crate::plan::Limited;
    use crate::plan::egress::{DestinationPlan, To, Wanted};

    fn plan(upload: Option<u64>, total: Option<u64>, rate: Option<u64>) -> EgressPlan {
        let because = Origin::built_in("the test");
        let destination = DestinationPlan {
            to: To::Name(HostPattern::parse("a.test").unwrap()),
            ports: crate::model::Ports::new(80, 80).into_iter().collect(),
            addresses: Vec::new(),
            rate: rate.map(Bytes),
            upload_max: upload.map(Bytes),
            methods: Vec::new(),
            paths: Vec::new(),
            because: because.clone(),
        };
        EgressPlan {
            upload_max: total.map(|it| Limited { max: Bytes(it), because: because.clone() }),
            connections_max: Some(Limited { max: Count(2), because }),
            nameservers: vec![(Ipv4Addr::LOCALHOST, 53).into()],
            ..EgressPlan::to(vec![destination])
        }
    }

    fn allowed(plan: &EgressPlan) -> Allowed {
        plan.decide(&Wanted::Name(HostName::parse(b"a.test").unwrap()), 80).unwrap()
    }

    #[test]
    fn a_budget_is_kept_to_the_byte_and_named() {
        let plan = plan(None, Some(100), None);
        let to = allowed(&plan);
        let mut meters = Meters::new(&plan, None).unwrap();
        assert_eq!(meters.allowance(&plan, &to, Way::Up, 64), Ok(64));
        meters.count(&plan, &to, Way::Up, 64, Instant::now());
        assert_eq!(meters.allowance(&plan, &to, Way::Up, 64), Ok(36));
        meters.count(&plan, &to, Way::Up, 36, Instant::now());
        let cut = meters.allowance(&plan, &to, Way::Up, 64).unwrap_err();
        assert_eq!(cut.rule, "network.budget.upload");
        assert_eq!(meters.allowance(&plan, &to, Way::Down, 64), Ok(64), "the other way is open");
        assert_eq!(meters.traffic(&plan), Vec::new(), "no connection was counted");
    }

    #[test]
    fn a_destination_has_an_upload_of_its_own() {
        let plan = plan(Some(10), Some(100), None);
        let to = allowed(&plan);
        let mut meters = Meters::new(&plan, None).unwrap();
        assert_eq!(meters.allowance(&plan, &to, Way::Up, 64), Ok(10));
        meters.count(&plan, &to, Way::Up, 10, Instant::now());
        let cut = meters.allowance(&plan, &to, Way::Up, 1).unwrap_err();
        assert_eq!(cut.rule, "network.destination.upload");
    }

    #[test]
    fn there_is_a_last_connection() {
        let plan = plan(None, None, None);
        let to = allowed(&plan);
        let mut meters = Meters::new(&plan, None).unwrap();
        assert_eq!(meters.connect(&plan, &to), Ok(()));
        assert_eq!(meters.connect(&plan, &to), Ok(()));
        assert_eq!(meters.connect(&plan, &to).unwrap_err().rule, "network.budget.connections");
        let traffic = meters.traffic(&plan);
        assert_eq!(traffic.first().map(|it| it.connections), Some(Count(2)));
        assert_eq!(traffic.first().map(|it| it.requests), Some(None), "none is read");
        meters.request(&to);
        assert_eq!(meters.traffic(&plan).first().map(|it| it.requests), Some(Some(Count(1))));
    }

    #[test]
    fn a_rate_makes_the_next_bytes_wait() {
        let plan = plan(None, None, Some(1000));
        let to = allowed(&plan);
        let mut meters = Meters::new(&plan, None).unwrap();
        let now = Instant::now();
        assert_eq!(meters.wait(&to, now), None);
        assert_eq!(meters.allowance(&plan, &to, Way::Down, 5000), Ok(100), "a tenth of a second");
        meters.count(&plan, &to, Way::Down, 1100, now);
        assert_eq!(meters.wait(&to, now), Some(Duration::from_secs(1)));
        assert_eq!(meters.wait(&to, now + Duration::from_secs(1)), None);
    }
}
