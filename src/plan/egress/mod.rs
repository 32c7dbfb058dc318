//! Where a run may connect to, as data, and the decisions about it.
//!
//! The gateway asks two questions about every connection: may this name or address be reached at
//! this port, and is this address one that the name may have. Both are answered here, from the plan
//! alone, so that `rung explain` and the gateway cannot differ. Destinations only allow: where
//! several mean the same name, what each of them limits holds.

mod credential;
mod request;
mod trust;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Gate, HOST_NAME, Limited, PlanError, gate};
use crate::model::{
    AddressClass, Bytes, Count, Denial, HostFacts, HostName, HostPattern, Layer, Level, Mechanism,
    NameError, Origin, Ports, Range, UrlPathError, UrlPathPattern, classify,
};
use crate::profile::{Destination, Limit, Profile, Table};
pub use credential::{CredentialPlan, Decoy, Source};
pub use request::READING;
pub(super) use trust::{AUTHORITIES, VARIABLES, found as stores};
pub use trust::{STORES, TRUST_BYTES_MAX};

/// Different ports that one plan may name: each costs two sockets, made before the command starts.
const PORTS_MAX: usize = 64;
/// Different ports of ranges that one run may use.
pub const RANGE_PORTS_MAX: u16 = 64;
/// The resolver's, in every run.
const PORT_DNS: u16 = 53;

/// Everything the gateway of one run knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressPlan {
    /// Never empty.
    pub destinations: Vec<DestinationPlan>,
    pub upload_max: Option<Limited<Bytes>>,
    pub download_max: Option<Limited<Bytes>>,
    pub connections_max: Option<Limited<Count>>,
    /// Whom the gateway asks for the addresses of allowed names.
    pub nameservers: Vec<SocketAddr>,
    pub pool: Pool,
    pub router: Router,
    /// Files of the host with the certificates that the gateway believes, where it reads TLS.
    pub trust: Vec<PathBuf>,
    pub credentials: Vec<CredentialPlan>,
}

/// One destination of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationPlan {
    pub to: To,
    pub ports: Vec<Ports>,
    /// Where a name may lie beside the public internet.
    pub addresses: Vec<Range>,
    /// Bytes per second, both ways together.
    pub rate: Option<Bytes>,
    pub upload_max: Option<Bytes>,
    /// Of HTTP requests. Empty, as `paths` is: what goes over a connection is not read.
    pub methods: Vec<String>,
    /// Of HTTP requests. Empty: any path.
    pub paths: Vec<UrlPathPattern>,
    pub because: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum To {
    Name(HostPattern),
    /// Addresses that are connected to without any name.
    Range(Range),
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(pattern) => write!(f, "{pattern}"),
            Self::Range(range) => write!(f, "{range}"),
        }
    }
}

/// Where the connections of a run end, for the gateway to take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Router {
    /// In a network namespace that nobody is in.
    Beside,
    /// In the sandbox's own, among its servers: what a host without [`Mechanism::Router`] can do.
    Within,
}

/// The addresses that stand for names inside the sandbox, and for the gateway itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Pool {
    /// The benchmark range, which no network uses, and a range of local addresses.
    pub const USUAL: Self = Self {
        v4: Ipv4Addr::new(198, 18, 0, 0),
        v6: Ipv6Addr::new(0xfd00, 0x5a, 0, 0, 0, 0, 0, 0),
    };
    /// Names that one run may use.
    pub const NAMES_MAX: u32 = 4096;
    /// Where HTTP and SOCKS clients find a proxy, at the gateway's address.
    pub const PROXY_PORT: u16 = 3128;
    /// The first addresses are the router's and the sandbox's own.
    const FIRST: u32 = 256;

    /// The resolver, the next hop and the proxy.
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.at(1)
    }

    pub fn sandbox(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.at(2)
    }

    /// The addresses of the name with this number.
    pub fn of_name(&self, number: u32) -> (Ipv4Addr, Ipv6Addr) {
        self.at(Self::FIRST.saturating_add(number))
    }

    /// The number of the name that this address stands for.
    pub fn name_at(&self, address: IpAddr) -> Option<u32> {
        let offset = match address {
            IpAddr::V4(it) => it.to_bits().checked_sub(self.v4.to_bits())?,
            IpAddr::V6(it) => u32::try_from(it.to_bits().checked_sub(self.v6.to_bits())?).ok()?,
        };
        offset.checked_sub(Self::FIRST).filter(|it| *it < Self::NAMES_MAX)
    }

    /// Whether it is the sandbox itself, whichever way its connections go.
    pub fn is_own(&self, address: IpAddr) -> bool {
        let (v4, v6) = self.sandbox();
        let itself = address == IpAddr::V4(v4) || address == IpAddr::V6(v6);
        itself || address.is_loopback() || address.is_unspecified()
    }

    pub fn is_gateway(&self, address: IpAddr) -> bool {
        let (v4, v6) = self.gateway();
        address == IpAddr::V4(v4) || address == IpAddr::V6(v6)
    }

    fn at(&self, offset: u32) -> (Ipv4Addr, Ipv6Addr) {
        let v4 = self.v4.to_bits().saturating_add(offset);
        let v6 = self.v6.to_bits().saturating_add(u128::from(offset));
        (Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6))
    }
}

/// Whom a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Name(HostName),
    Address(IpAddr),
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// The destinations that allow a connection, by their place in the plan; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed(Vec<usize>);

impl Allowed {
    pub fn indexes(&self) -> &[usize] {
        &self.0
    }
}

/// Why a connection, or a request on it, is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No destination means this name or address.
    Unlisted,
    /// There is no destination at all, and no route.
    NoWayOut,
    /// A destination does, with other ports.
    Port,
    /// The name resolved to an address that it may not have.
    Address { address: IpAddr, class: AddressClass },
    /// It is an address of the machine that rung runs on.
    OwnAddress { address: IpAddr },
    /// What was asked for is no host name.
    NoName(NameError),
    /// The client spoke of another host than it connected to.
    OtherHost { said: String },
    /// The client hides whom it speaks to.
    Hidden(&'static str),
    /// Nothing answered for the name or at its address.
    Unreachable(String),
    /// The destination has a list of methods, and this one is not in it.
    Method { method: String, listed: Vec<String>, because: Origin },
    /// The destination has a list of paths, and this one is not in it.
    Path { listed: Vec<String>, because: Origin },
    /// The same, and the path can be read in two ways.
    OddPath(UrlPathError),
    /// A request that may mean something else to the server than it says.
    Trick(&'static str),
    /// The destination has a list of methods, and the client speaks something else than HTTP.
    NoHttp(&'static str),
    /// The server does not show that it is the one.
    Unproven(String),
    /// A placeholder where it does not belong.
    Credential { name: String, how: String, because: Origin },
}

/// What can be said of a connection before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// It never leaves the run.
    Own,
    /// It may come to the gateway, which decides by what arrives.
    Open,
    Closed(Refused),
}

/// The files by which programs find their resolver and whom they may believe.
#[derive(Debug)]
pub(super) struct OwnFiles {
    pub(super) resolver: String,
    /// As `hosts(5)`.
    pub(super) hosts: String,
    pub(super) because: Origin,
    /// Where something is read: the first destination that asks for it.
    pub(super) authorities: Option<Origin>,
    /// Below the home directory: each with its text.
    pub(super) decoys: Vec<(&'static str, String, Vec<Origin>)>,
}

/// The lines by which a profile lets its runs reach a name or an address at a port.
pub fn would(profile: &Profile, wanted: &str, port: u16) -> Result<Vec<Origin>, Refused> {
    let destinations = profile.network.destinations.iter();
    // One that cannot be read is no way to anywhere: no run with it starts.
    let destinations: Vec<DestinationPlan> =
        destinations.filter_map(|it| one(it, profile.level).ok()).collect();
    if destinations.is_empty() {
        return Err(Refused::NoWayOut);
    }
    connects(Some(&EgressPlan::to(destinations)), wanted, port)
}

/// The lines by which a run with this way out, or with none, may reach a name or an address at a port.
pub fn connects(
    egress: Option<&EgressPlan>,
    wanted: &str,
    port: u16,
) -> Result<Vec<Origin>, Refused> {
    let plan = egress.ok_or(Refused::NoWayOut)?;
    let allowed = plan.decide(&meant(wanted)?, port)?;
    Ok(plan.of(&allowed).map(|it| it.because.clone()).collect())
}

/// Whether these words name the sandbox itself, whatever its network is.
pub fn is_own(wanted: &str) -> bool {
    match meant(wanted) {
        Ok(Wanted::Address(address)) => address.is_loopback() || address.is_unspecified(),
        Ok(Wanted::Name(name)) => is_own_name(&name),
        Err(_) => false,
    }
}

/// The names of the sandbox itself: those of RFC 6761, 6.3, and what its host is called, which many
/// programs look up.
pub fn is_own_name(name: &HostName) -> bool {
    let name = name.as_str();
    name == "localhost" || name.ends_with(".localhost") || HOST_NAME.to_str() == Ok(name)
}

fn meant(wanted: &str) -> Result<Wanted, Refused> {
    match wanted.parse::<IpAddr>() {
        Ok(address) => Ok(Wanted::Address(address.to_canonical())),
        Err(_) => HostName::parse(wanted.as_bytes()).map(Wanted::Name).map_err(Refused::NoName),
    }
}

/// What becomes of a connection of a run with this way out, or with none, as far as its address says.
pub fn foresee(egress: Option<&EgressPlan>, address: IpAddr, port: u16) -> Foreseen {
    if address.is_loopback() || address.is_unspecified() {
        return Foreseen::Own;
    }
    let Some(plan) = egress else { return Foreseen::Closed(Refused::NoWayOut) };
    if plan.pool.is_own(address) {
        return Foreseen::Own;
    }
    if port == PORT_DNS || (port == Pool::PROXY_PORT && plan.pool.is_gateway(address)) {
        return Foreseen::Open;
    }
    if plan.pool.name_at(address).is_some() {
        let open = plan.destinations.iter().any(|it| it.has(port));
        return if open { Foreseen::Open } else { Foreseen::Closed(Refused::Port) };
    }
    match plan.decide(&Wanted::Address(address), port) {
        Ok(_) => Foreseen::Open,
        Err(why) => Foreseen::Closed(why),
    }
}

impl EgressPlan {
    /// A way to these destinations, without limits of the whole, and with nobody to ask for names.
    pub(crate) fn to(destinations: Vec<DestinationPlan>) -> Self {
        Self {
            destinations,
            upload_max: None,
            download_max: None,
            connections_max: None,
            nameservers: Vec::new(),
            pool: Pool::USUAL,
            router: Router::Beside,
            trust: Vec::new(),
            credentials: Vec::new(),
        }
    }

    /// Whether the name is worth an address: some destination means it, at whatever port.
    pub fn knows(&self, name: &HostName) -> bool {
        self.destinations.iter().any(|it| it.means_name(name))
    }

    /// The destinations that mean a name, at whatever port.
    pub(super) fn meaning<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a DestinationPlan> {
        let name = HostName::parse(name.as_bytes()).ok();
        self.destinations.iter().filter(move |it| name.as_ref().is_some_and(|n| it.means_name(n)))
    }

    /// Whether this may be reached at this port.
    pub fn decide(&self, wanted: &Wanted, port: u16) -> Result<Allowed, Refused> {
        let meant = |it: &&(usize, &DestinationPlan)| match wanted {
            Wanted::Name(name) => it.1.means_name(name),
            Wanted::Address(address) => {
                matches!(&it.1.to, To::Range(range) if range.holds(*address))
            }
        };
        let all: Vec<_> = self.destinations.iter().enumerate().collect();
        let mut found = all.iter().filter(meant).peekable();
        if found.peek().is_none() {
            return Err(Refused::Unlisted);
        }
        let allowed: Vec<usize> = found.filter(|it| it.1.has(port)).map(|it| it.0).collect();
        if allowed.is_empty() { Err(Refused::Port) } else { Ok(Allowed(allowed)) }
    }

    /// Whether the connection that was allowed may go to this address. Any of its destinations may
    /// open a range for the name.
    pub fn check_address(&self, allowed: &Allowed, address: IpAddr) -> Result<(), Refused> {
        let class = classify(address);
        if class == AddressClass::Public || self.of(allowed).any(|it| it.opens(address)) {
            return Ok(());
        }
        Err(Refused::Address { address, class })
    }

    pub fn of<'a>(&'a self, allowed: &'a Allowed) -> impl Iterator<Item = &'a DestinationPlan> {
        allowed.0.iter().filter_map(|it| self.destinations.get(*it))
    }

    /// What `/etc/resolv.conf` says inside: one resolver, and no domain to try names in.
    /// And who is believed, where the gateway opens TLS.
    pub(super) fn own_files(&self) -> OwnFiles {
        let resolver = format!("nameserver {}\n", self.pool.gateway().0);
        // Never empty, so there is a first.
        let because = self.destinations.first().map(|it| it.because.clone());
        let read = self.destinations.iter().find(|it| it.is_inspected()).map(|it| &it.because);
        let lent = self.credentials.first().map(|it| &it.because);
        OwnFiles {
            resolver,
            hosts: self.hosts(),
            because: because.unwrap_or_else(|| Origin::built_in("names")),
            authorities: read.or(lent).cloned(),
            decoys: self.decoys(),
        }
    }

    /// The names that are listed by themselves, once, in the order of their numbers: the first ones of
    /// the pool. The others get theirs when they are asked for.
    pub fn exact_names(&self) -> Vec<&HostName> {
        let mut names = Vec::new();
        for destination in &self.destinations {
            match &destination.to {
                To::Name(HostPattern::Exact(name)) if !names.contains(&name) => names.push(name),
                To::Name(HostPattern::Exact(_) | HostPattern::Below(_)) | To::Range(_) => {}
            }
        }
        names
    }

    /// What `/etc/hosts` says inside. The host's own file would send clients to addresses that they
    /// cannot reach without a name; and what stands here nobody has to ask for.
    fn hosts(&self) -> String {
        let own = HOST_NAME.to_string_lossy();
        let own = format!("127.0.0.1 localhost {own}\n::1 localhost {own}\n");
        let listed = (0..Pool::NAMES_MAX).zip(self.exact_names()).map(|(number, name)| {
            let (v4, v6) = self.pool.of_name(number);
            format!("{v4} {name}\n{v6} {name}\n")
        });
        [own].into_iter().chain(listed).collect()
    }

    fn all_ports(&self) -> impl Iterator<Item = Ports> {
        self.destinations.iter().flat_map(|it| it.ports.iter().copied())
    }

    /// Whether some destination names a range of ports, which are opened when they are first wanted.
    pub fn has_ranges(&self) -> bool {
        self.all_ports().any(|it| it.single().is_none())
    }

    /// Every port that some destination names by itself, once: these are open from the beginning.
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.all_ports().filter_map(Ports::single).collect();
        ports.push(Pool::PROXY_PORT);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The refusal of one connection, in words.
    pub fn denial(&self, level: Level, wanted: &str, port: Option<u16>, why: &Refused) -> Denial {
        let listed = self.destinations.iter().find(|it| match (&it.to, why) {
            (To::Name(pattern), Refused::Port) => {
                HostName::parse(wanted.as_bytes()).is_ok_and(|name| pattern.matches(&name))
            }
            (To::Name(_) | To::Range(_), _) => false,
        });
        let denial = why.denial(level, wanted, port);
        let origin = if let Refused::Method { because, .. }
        | Refused::Path { because, .. }
        | Refused::Credential { because, .. } = why
        {
            Some(because.clone())
        } else {
            listed.map(|it| it.because.clone())
        };
        Denial { origin, ..denial }
    }
}

impl DestinationPlan {
    fn has(&self, port: u16) -> bool {
        self.ports.iter().any(|it| it.holds(port))
    }

    fn means_name(&self, name: &HostName) -> bool {
        matches!(&self.to, To::Name(pattern) if pattern.matches(name))
    }

    /// Whether it names a range that holds this address.
    pub fn opens(&self, address: IpAddr) -> bool {
        match &self.to {
            To::Range(range) => range.holds(address),
            To::Name(_) => self.addresses.iter().any(|range| range.holds(address)),
        }
    }

    /// Whether everything that this allows, the other allows too.
    pub fn is_within(&self, other: &Self) -> bool {
        let to = match (&self.to, &other.to) {
            (To::Name(ours), To::Name(theirs)) => ours.is_within(theirs),
            (To::Range(ours), To::Range(theirs)) => ours.is_within(theirs),
            (To::Name(_), To::Range(_)) | (To::Range(_), To::Name(_)) => false,
        };
        let ranges = self
            .addresses
            .iter()
            .all(|ours| other.addresses.iter().any(|theirs| ours.is_within(theirs)));
        let limit = |ours: Option<Bytes>, theirs: Option<Bytes>| match (ours, theirs) {
            (_, None) => true,
            (Some(ours), Some(theirs)) => ours <= theirs,
            (None, Some(_)) => false,
        };
        to && ranges
            && self.ports.iter().all(|ours| other.ports.iter().any(|it| ours.is_within(*it)))
            && limit(self.rate, other.rate)
            && limit(self.upload_max, other.upload_max)
            && (!other.is_inspected() || self.is_inspected())
            && (other.methods.is_empty() || !self.methods.is_empty())
            && self.methods.iter().all(|it| other.methods.is_empty() || other.methods.contains(it))
            && (other.paths.is_empty() || !self.paths.is_empty())
            && self.paths.iter().all(|ours| {
                other.paths.is_empty() || other.paths.iter().any(|it| ours.is_within(it))
            })
    }
}

impl Refused {
    /// For a client that has to be told.
    pub fn reason(&self) -> String {
        self.words("this", None).0
    }

    /// The refusal of one connection, where no destination means it.
    pub fn denial(&self, level: Level, wanted: &str, port: Option<u16>) -> Denial {
        let object = match port {
            Some(port) => format!("{wanted}:{port}"),
            None => wanted.to_owned(),
        };
        let (reason, allow_with) = self.words(wanted, port);
        Denial {
            layer: Layer::Network,
            rule: self.rule().to_owned(),
            level,
            object,
            reason,
            origin: None,
            allow_with,
            next: self.next().to_owned(),
            count: 1,
        }
    }

    /// The profile's key.
    fn rule(&self) -> &'static str {
        match self {
            Self::Method { .. } | Self::Trick(_) | Self::NoHttp(_) => "network.destination.methods",
            Self::Path { .. } | Self::OddPath(_) => "network.destination.paths",
            Self::Credential { .. } => "credential",
            Self::Unlisted
            | Self::NoWayOut
            | Self::Port
            | Self::Address { .. }
            | Self::OwnAddress { .. }
            | Self::NoName(_)
            | Self::OtherHost { .. }
            | Self::Hidden(_)
            | Self::Unproven(_)
            | Self::Unreachable(_) => "network.destination",
        }
    }

    fn next(&self) -> &'static str {
        match self {
            Self::Method { .. } => "ask with a method that is listed",
            Self::Path { .. } => "ask for a path that is listed",
            Self::OddPath(_) => "write the path plainly, without encoded slashes or dots",
            Self::Trick(_) => "say what is meant in the first line of an ordinary request",
            Self::NoHttp(_) => "speak HTTP to this host",
            Self::Credential { .. } => "use the placeholder only where the profile says",
            Self::Unproven(_) => "leave it; what answers there is not the host",
            Self::Unlisted
            | Self::NoWayOut
            | Self::Port
            | Self::Address { .. }
            | Self::OwnAddress { .. }
            | Self::NoName(_)
            | Self::OtherHost { .. }
            | Self::Hidden(_)
            | Self::Unreachable(_) => "use a listed host, or ask for this one to be listed",
        }
    }

    /// The reason, and the smallest change that would allow it.
    fn words(&self, wanted: &str, port: Option<u16>) -> (String, Option<String>) {
        let list = |port: u16| {
            format!("`[[network.destination]]` with `host = \"{wanted}\"` and `ports = [{port}]`")
        };
        match self {
            Self::Unlisted => {
                let reason = "no destination of the profile means it".to_owned();
                (reason, Some(list(port.unwrap_or(443))))
            }
            Self::NoWayOut => {
                let reason = "the run has no way out: the profile lists no destination".to_owned();
                (reason, Some(list(port.unwrap_or(443))))
            }
            Self::Port => (
                "the profile lists the host, but not this port".to_owned(),
                port.map(|it| format!("`{it}` in the destination's `ports`")),
            ),
            Self::Address { address, class } => (
                format!("the name leads to {address}, and that is {}", class.noun()),
                Some(format!("`address = [\"{address}\"]` in the destination")),
            ),
            Self::OwnAddress { address } => (
                format!("the name leads to {address}, an address of the machine itself"),
                Some(format!("`address = [\"{address}\"]` in the destination")),
            ),
            Self::NoName(error) => (format!("it is no host name: {error}"), None),
            Self::OtherHost { said } => (
                format!("the connection is for `{wanted}`, and the client asks for `{said}`"),
                None,
            ),
            Self::Hidden(how) => (format!("the client hides which host it asks for: {how}"), None),
            Self::Unreachable(why) => (why.clone(), None),
            Self::Method { method, listed, .. } => (
                format!("`{wanted}` may only be asked with {}", listed.join(", ")),
                Some(format!("`\"{method}\"` in the destination's `methods`")),
            ),
            Self::Path { listed, .. } => (
                format!("`{wanted}` may only be asked for {}", listed.join(", ")),
                Some("the path, in the destination's `paths`".to_owned()),
            ),
            Self::OddPath(error) => {
                (format!("the path of the request can be read in two ways: {error}"), None)
            }
            Self::Trick(how) => (format!("the request is not what it says: {how}"), None),
            Self::Unproven(why) => {
                (format!("the server does not prove that it is `{wanted}`: {why}"), None)
            }
            Self::Credential { name, how, .. } => {
                (format!("the placeholder of credential `{name}` is misused: {how}"), None)
            }
            Self::NoHttp(how) => {
                (format!("`{wanted}` may only be asked by HTTP requests, and {how}"), None)
            }
        }
    }
}

/// The network part of a plan: nothing where no destination can be served.
pub(super) fn compile(
    profile: &Profile,
    host: &HostFacts,
) -> Result<Option<EgressPlan>, PlanError> {
    let destinations = profile.network.destinations.iter().map(|it| one(it, profile.level));
    let destinations = destinations.collect::<Result<Vec<_>, _>>()?;
    let Some(first) = destinations.first() else {
        return match profile.credentials.first() {
            None => Ok(None),
            Some(it) => Err(PlanError::Entry {
                name: it.name.clone(),
                because: it.origin.clone(),
                why: format!("no `network.destination` lists its host `{}`", it.host),
            }),
        };
    };
    if profile.syscalls.table == Table::Strict {
        return Err(PlanError::Entry {
            name: first.to.to_string(),
            because: first.because.clone(),
            why: "the system call table `strict` has no network sockets; \
                  the destination needs `syscalls.table = \"standard\"`"
                .to_owned(),
        });
    }
    let ranged = |it: &&DestinationPlan| it.ports.iter().any(|it| it.single().is_none());
    if let Some(destination) = destinations.iter().find(ranged)
        && gate(host) == Gate::Without
    {
        return Err(PlanError::Entry {
            name: destination.to.to_string(),
            because: destination.because.clone(),
            why: "the ports of a range are opened when the gate hears of them, and this host has \
                  none (`rung doctor` says why); list each port"
                .to_owned(),
        });
    }
    let network = &profile.network;
    let mut plan = EgressPlan {
        upload_max: network.upload_max.as_ref().map(limited),
        download_max: network.download_max.as_ref().map(limited),
        connections_max: network.connections_max.as_ref().map(limited),
        nameservers: host.nameservers.clone(),
        trust: trust::of(host),
        router: router(host),
        ..EgressPlan::to(destinations)
    };
    plan.credentials = credential::compile(profile, &plan)?;
    let ports = plan.ports().len();
    match plan.destinations.last() {
        Some(last) if ports > PORTS_MAX => Err(PlanError::Entry {
            name: last.to.to_string(),
            because: last.because.clone(),
            why: format!("the destinations have {ports} different ports; {PORTS_MAX} is the most"),
        }),
        Some(_) | None => Ok(Some(plan)),
    }
}

fn router(host: &HostFacts) -> Router {
    if host.works(Mechanism::Router) { Router::Beside } else { Router::Within }
}

fn one(destination: &Destination, level: Level) -> Result<DestinationPlan, PlanError> {
    let wrong = |why: String| PlanError::Entry {
        name: destination.host.clone(),
        because: destination.origin.clone(),
        why,
    };
    if destination.ports.iter().any(|it| it.holds(PORT_DNS)) {
        return Err(wrong("port 53 is the run's own resolver's, at every address".to_owned()));
    }
    let range = Range::parse(&destination.host);
    let to = match range {
        Ok(range) => To::Range(range),
        Err(_) => To::Name(
            HostPattern::parse(&destination.host)
                .map_err(|error| wrong(format!("it is no host name: {error}")))?,
        ),
    };
    let addresses = destination
        .addresses
        .iter()
        .map(|text| Range::parse(text).map_err(|error| wrong(error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    if matches!(to, To::Range(_)) && !addresses.is_empty() {
        return Err(wrong("it is an address range itself, and needs no `address`".to_owned()));
    }
    Ok(DestinationPlan {
        to,
        ports: destination.ports.clone(),
        addresses,
        rate: destination.rate,
        upload_max: destination.upload,
        methods: request::methods(destination, level)?,
        paths: destination
            .paths
            .iter()
            .map(|text| UrlPathPattern::parse(text).map_err(|error| wrong(error.to_string())))
            .collect::<Result<_, _>>()?,
        because: destination.origin.clone(),
    })
}

fn limited<T: Copy>(limit: &Limit<T>) -> Limited<T> {
    Limited { max: limit.max, because: limit.origin.clone() }
}

#[cfg(test)]
mod tests;
