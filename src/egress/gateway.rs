//! The life of the gateway: confine, take the sandbox's sockets, serve until the end, report.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    MsgFlags, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, getsockname, getsockopt, send,
    setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::connection::{self, Closed};
use super::credential::Leases;
use super::dns::{self, Answer, Asked};
use super::meter::{Cut, Meters, Way};
use super::names::Names;
use super::request::Target;
use super::resolve::{Resolver, hosts, read_exact, write_all};
use super::tls::Tls;
use super::wire::{self, Seen, Start, Word};
use super::{confine, relay};
use crate::model::{Denial, HostName, Level};
use crate::plan::egress::{Allowed, EgressPlan, Refused, TRUST_BYTES_MAX, Wanted, is_own_name};
use crate::sys::{descriptor, message};

const PORT_DNS: u16 = 53;
/// Different refusals that are kept; each counts how often it happened.
const DENIALS_MAX: usize = 100;
/// Destinations that are reported one by one.
const TRAFFIC_MAX: usize = 200;
/// Of one thing in a report.
const OBJECT_BYTES_MAX: usize = 280;
/// Connections at once that are read; more wait.
const READERS_MAX: usize = 128;
const PLAN_BYTES_MAX: u64 = 4 << 20;
const HOSTS_BYTES_MAX: u64 = 1 << 20;
/// Questions over one TCP connection, and what each may take.
const QUESTIONS_MAX: usize = 64;
const QUESTION: Duration = Duration::from_secs(10);
/// The largest question that is read.
const QUERY_BYTES_MAX: usize = 2048;
/// After the kernel refused a connection, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of the run know.
#[derive(Debug)]
pub(super) struct State {
    pub(super) plan: EgressPlan,
    pub(super) level: Level,
    pub(super) meters: RefCell<Meters>,
    pub(super) resolver: Resolver,
    pub(super) leases: Leases,
    /// Present where something is read.
    pub(super) tls: Option<Tls>,
    /// For bytes on their way, which stay in it no longer than it is borrowed.
    pub(super) buffer: RefCell<Vec<u8>>,
    /// Room for connections that are read, each of which takes memory.
    pub(super) readers: Arc<Semaphore>,
    names: RefCell<Names>,
    denials: RefCell<Denials>,
    /// The sandbox has addresses of both families.
    v6: bool,
}

/// Refusals by what and why, first seen first.
#[derive(Debug, Default)]
struct Denials {
    list: Vec<Denial>,
    more: u64,
}

/// Becomes the gateway of the run whose supervisor started this process. Returns the exit status.
pub fn stage() -> u8 {
    const FAILED: u8 = 125;
    let Ok(channel) = descriptor::inherited(1) else { return FAILED };
    match prepare(&channel) {
        Ok(life) => {
            life.live(channel);
            0
        }
        Err(why) => {
            say(&channel, &Word::Failed(why));
            FAILED
        }
    }
}

/// Everything that is needed once the walls stand.
struct Life {
    runtime: tokio::runtime::Runtime,
    start: Start,
    hosts: BTreeMap<HostName, Vec<IpAddr>>,
    meters: Meters,
    tls: Option<Tls>,
    connections_max: usize,
}

fn prepare(channel: &OwnedFd) -> Result<Life, String> {
    fn failed<E: std::fmt::Display>(doing: &str) -> impl Fn(E) -> String + '_ {
        move |error| format!("{doing} failed: {error}")
    }
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(failed("tying it to its supervisor"))?;
    let plan = descriptor::inherited(0).map_err(failed("finding its plan"))?;
    let bytes = contents(&plan.into(), PLAN_BYTES_MAX).map_err(failed("reading its plan"))?;
    let start: Start = postcard::from_bytes(&bytes).map_err(failed("reading its plan"))?;
    let text = match File::open("/etc/hosts") {
        Ok(file) => contents(&file, HOSTS_BYTES_MAX).map_err(failed("reading /etc/hosts"))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("opening /etc/hosts")(error)),
    };
    let counters = counters(channel).map_err(failed("taking the file for its counters"))?;
    let meters =
        Meters::new(&start.plan, Some(counters)).map_err(failed("mapping its counters"))?;
    let hosts = hosts(&String::from_utf8_lossy(&text), |name| start.plan.knows(name));
    let tls = tls(&start.plan).map_err(failed("making an authority for the run"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("making its event loop"))?;
    let walls = |error: confine::ConfineError| error.to_string();
    let connections_max = confine::limits().map_err(walls)?;
    confine::confine(&start.plan).map_err(walls)?;
    let authority = tls.as_ref().map(Tls::authority).unwrap_or_default();
    say(channel, &Word::Ready { authority });
    Ok(Life { runtime, start, hosts, meters, tls, connections_max })
}

/// The supervisor has sent it before it started this process.
fn counters(channel: &OwnedFd) -> Result<OwnedFd, nix::Error> {
    let mut byte = [0; 4];
    let (length, mut received) = message::receive_descriptors(channel.as_fd(), &mut byte)?;
    let ours = byte.get(..length) == Some(wire::COUNTERS);
    received.pop().filter(|_| ours).ok_or(nix::Error::EBADMSG)
}

/// What is needed to read TLS, where the plan has something to read.
fn tls(plan: &EgressPlan) -> Result<Option<Tls>, String> {
    if !plan.reads() {
        return Ok(None);
    }
    let mut trusted = Vec::new();
    for path in &plan.trust {
        let said = |error| format!("`{}`: {error}", path.display());
        let file = File::open(path).map_err(said)?;
        trusted.push(contents(&file, TRUST_BYTES_MAX).map_err(said)?);
    }
    Tls::new(&trusted).map(Some)
}

/// A memory file is read from wherever its writer left it, so from the beginning.
fn contents(mut file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn say(channel: &impl AsRawFd, word: &Word) {
    // Whoever does not listen any more has ended the run.
    _ = send(channel.as_raw_fd(), &word.encode(), MsgFlags::MSG_NOSIGNAL);
}

impl Life {
    fn live(self, channel: OwnedFd) {
        let Self { runtime, start, hosts, meters, tls, connections_max } = self;
        let local = LocalSet::new();
        let word = local.block_on(&runtime, async {
            let channel = registered(channel)?;
            let sockets = sockets(&channel).await?;
            let state = Rc::new(State::new(start, hosts, (meters, tls), &sockets));
            let room = Arc::new(Semaphore::new(connections_max));
            serve(sockets, &state, &room);
            let names = until_the_end(&channel, &state, &room).await;
            let report = state.report(&names);
            say(&channel, &Word::Report(report));
            Some(())
        });
        // Nothing to report where nothing was ever served.
        if word.is_none() {
            drop(runtime);
        }
    }
}

/// The event loop only wants to know when there is something to read, which it asks of every kind of
/// UNIX socket alike.
fn registered(channel: OwnedFd) -> Option<UnixDatagram> {
    let channel = std::os::unix::net::UnixDatagram::from(channel);
    channel.set_nonblocking(true).ok()?;
    UnixDatagram::from_std(channel).ok()
}

/// The next message, with what descriptors came along. Nothing at the end.
async fn hear(channel: &UnixDatagram) -> Option<(Vec<u8>, Vec<OwnedFd>)> {
    loop {
        channel.readable().await.ok()?;
        let mut buffer = [0; wire::QUESTION_BYTES_MAX];
        let heard = channel.try_io(Interest::READABLE, || {
            let (length, received) = message::receive_descriptors(channel.as_fd(), &mut buffer)?;
            Ok((buffer.get(..length).unwrap_or_default().to_vec(), received))
        });
        match heard {
            Ok((bytes, _)) if bytes.is_empty() => return None,
            Ok(heard) => return Some(heard),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Waits for the sandbox's sockets. Nothing: the sandbox was never built.
async fn sockets(channel: &UnixDatagram) -> Option<Vec<OwnedFd>> {
    let (bytes, sockets) = hear(channel).await?;
    (bytes == wire::SOCKETS).then_some(sockets)
}

/// Serves the ports that are opened meanwhile. Returns which names the supervisor wants to know.
async fn until_the_end(
    channel: &UnixDatagram,
    state: &Rc<State>,
    room: &Arc<Semaphore>,
) -> Vec<u32> {
    while let Some((bytes, sockets)) = hear(channel).await {
        if bytes == wire::SOCKETS {
            serve(sockets, state, room);
        }
        if let Some(names) = wire::wanted(&bytes) {
            return names;
        }
    }
    Vec::new()
}

/// What a socket of the sandbox's router is for.
enum Role {
    Questions,
    QuestionStreams,
    Connections,
}

fn role(socket: &OwnedFd) -> io::Result<Role> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = address.as_sockaddr_in().map(SockaddrIn::port);
    let port = v4.or_else(|| address.as_sockaddr_in6().map(SockaddrIn6::port));
    let streams = getsockopt(&socket.as_fd(), sockopt::SockType)? == SockType::Stream;
    Ok(match (streams, port == Some(PORT_DNS)) {
        (false, _) => Role::Questions,
        (true, true) => Role::QuestionStreams,
        (true, false) => Role::Connections,
    })
}

fn is_v6(socket: &OwnedFd) -> bool {
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    address.is_ok_and(|it| it.as_sockaddr_in6().is_some())
}

/// Starts a task for each socket.
fn serve(sockets: Vec<OwnedFd>, state: &Rc<State>, room: &Arc<Semaphore>) {
    for socket in sockets {
        let (state, room) = (Rc::clone(state), Arc::clone(room));
        match role(&socket) {
            Ok(Role::Questions) => drop(spawn_local(questions(socket, state))),
            Ok(Role::QuestionStreams) => {
                drop(spawn_local(accept(socket, room, state, question_stream)));
            }
            Ok(Role::Connections) => {
                drop(spawn_local(accept(socket, room, state, connection::serve)));
            }
            // A port that nobody serves is a port that is closed.
            Err(_) => {}
        }
    }
}

/// Accepts as long as there is room; the rest waits in the kernel. Room is taken by a connection that is
/// there: if each port kept a place for the next one, few places would all be those of idle ports.
async fn accept<S, F>(socket: OwnedFd, room: Arc<Semaphore>, state: Rc<State>, serve: S)
where
    S: Fn(TcpStream, Rc<State>) -> F,
    F: Future<Output = ()> + 'static,
{
    // Every connection has this from its listener.
    if setsockopt(&socket, sockopt::TcpNoDelay, &true).is_err() {
        return;
    }
    let Ok(listener) = TcpListener::from_std(socket.into()) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                let served = serve(stream, Rc::clone(&state));
                drop(spawn_local(async move {
                    served.await;
                    drop(place);
                }));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Questions by datagram, each answered from the address that it was sent to.
async fn questions(socket: OwnedFd, state: Rc<State>) {
    let Ok(socket) = UdpSocket::from_std(socket.into()) else { return };
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        // An answer that cannot be sent is an answer that got lost.
        drop(socket.try_io(Interest::READABLE, || question(&socket, &mut buffer, &state)));
        tokio::task::coop::consume_budget().await;
    }
}

fn question(socket: &UdpSocket, buffer: &mut [u8], state: &Rc<State>) -> io::Result<()> {
    let (length, ends) = message::receive(socket.as_fd(), buffer)?;
    let query = buffer.get(..length).unwrap_or_default();
    match state.answer(query) {
        Some(answer) => Ok(message::send_back(socket.as_fd(), &answer, &ends)?),
        None => Ok(()),
    }
}

/// Questions one after the other over TCP (RFC 7766).
async fn question_stream(stream: TcpStream, state: Rc<State>) {
    for _ in 0..QUESTIONS_MAX {
        let one = timeout(QUESTION, async {
            let mut head = [0; 2];
            read_exact(&stream, &mut head).await?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(head)).min(QUERY_BYTES_MAX)];
            read_exact(&stream, &mut query).await?;
            let Some(answer) = state.answer(&query) else {
                return Err(ErrorKind::InvalidData.into());
            };
            let length = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes();
            write_all(&stream, &[&length, answer.as_slice()].concat()).await
        });
        if !matches!(one.await, Ok(Ok(()))) {
            return;
        }
    }
}

impl State {
    fn new(
        start: Start,
        hosts: BTreeMap<HostName, Vec<IpAddr>>,
        (meters, tls): (Meters, Option<Tls>),
        sockets: &[OwnedFd],
    ) -> Self {
        let Start { plan, level, lent } = start;
        Self {
            meters: RefCell::new(meters),
            resolver: Resolver::new(plan.nameservers.clone(), hosts),
            names: RefCell::new(Names::new(plan.pool, &plan.exact_names())),
            denials: RefCell::default(),
            tls,
            leases: Leases::new(lent),
            buffer: RefCell::new(vec![0; relay::COPY_BYTES]),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            v6: sockets.iter().any(is_v6),
            plan,
            level,
        }
    }

    /// What an address inside the sandbox means.
    pub(super) fn wanted(&self, address: IpAddr) -> Wanted {
        match self.names.borrow().at(address) {
            Some(name) => Wanted::Name(name.clone()),
            None => Wanted::Address(address),
        }
    }

    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        dns::answer(query, &mut |asked| self.know(asked))
    }

    fn know(&self, asked: &Asked) -> Answer {
        match asked {
            Asked::Name(name) if self.plan.knows(name) => {
                match self.names.borrow_mut().addresses_of(name) {
                    Some((v4, v6)) => Answer::Addresses(v4, self.v6.then_some(v6)),
                    None => Answer::Full,
                }
            }
            // The sandbox's own.
            Asked::Name(name) if is_own_name(name) => {
                Answer::Addresses(Ipv4Addr::LOCALHOST, Some(std::net::Ipv6Addr::LOCALHOST))
            }
            Asked::Name(name) => {
                self.refused(name.as_str(), None, &Refused::Unlisted);
                Answer::Nothing
            }
            Asked::NoName(said, error) => {
                self.refused(said, None, &Refused::NoName(*error));
                Answer::Nothing
            }
            Asked::Reverse => Answer::Nothing,
        }
    }

    /// Counts bytes that were taken from a socket.
    pub(super) fn count(&self, to: &Allowed, way: Way, bytes: usize) {
        self.meters.borrow_mut().count(&self.plan, to, way, bytes, relay::now());
    }

    /// How many of the wanted bytes may go now.
    pub(super) fn allowance(&self, to: &Allowed, way: Way, wanted: usize) -> Result<usize, Cut> {
        self.meters.borrow().allowance(&self.plan, to, way, wanted)
    }

    /// Counts bytes that are sent although they were not taken as they are.
    pub(super) fn take_all(&self, to: &Allowed, bytes: usize) -> Result<(), Cut> {
        let mut left = bytes;
        while left > 0 {
            let now = self.meters.borrow().allowance(&self.plan, to, Way::Up, left)?;
            self.count(to, Way::Up, now);
            left -= now;
        }
        Ok(())
    }

    pub(super) fn wait(&self, to: &Allowed) -> Option<Duration> {
        self.meters.borrow().wait(to, relay::now())
    }

    /// Whether a destination names a range with this address in it.
    pub(super) fn is_opened(&self, to: &Allowed, address: IpAddr) -> bool {
        self.plan.of(to).any(|it| it.opens(address))
    }

    /// Remembers why a connection was not made, or did not last.
    pub(super) fn closed(&self, wanted: &Wanted, port: u16, closed: Closed) {
        match closed {
            Closed::Refused(why) => self.refused(&wanted.to_string(), Some(port), &why),
            Closed::Cut(cut) => {
                let denial = cut.denial(self.level, format!("{wanted}:{port}"));
                self.denials.borrow_mut().add(denial);
            }
        }
    }

    pub(super) fn refused(&self, wanted: &str, port: Option<u16>, why: &Refused) {
        let denial = self.plan.denial(self.level, wanted, port, why);
        self.denials.borrow_mut().add(denial);
    }

    /// Of these names as many as there is room for.
    fn known(&self, numbers: &[u32]) -> Vec<(u32, String)> {
        let names = self.names.borrow();
        let mut room = wire::NAMES_BYTES_MAX;
        let one = |number: &u32| {
            let name = names.at(self.plan.pool.of_name(*number).0.into())?.to_string();
            room = room.checked_sub(name.len())?;
            Some((*number, name))
        };
        numbers.iter().filter_map(one).collect()
    }

    /// Remembers why a request was not sent on.
    pub(super) fn refused_request(&self, method: &str, target: &Target, why: &Refused) -> Denial {
        let wanted = target.wanted.to_string();
        let denial = self.plan.denial_of_request(self.level, method, &wanted, target.port, why);
        self.denials.borrow_mut().add(denial.clone());
        denial
    }

    fn report(&self, names: &[u32]) -> Seen {
        let Denials { list, more } = self.denials.take();
        let mut traffic = self.meters.borrow().traffic(&self.plan);
        traffic.truncate(TRAFFIC_MAX);
        let notes = match more {
            0 => Vec::new(),
            _ => vec![format!("{more} more connections or names were refused on the way out")],
        };
        let leases = self.leases.seen(&self.plan.credentials);
        Seen { denials: list, traffic, notes, names: self.known(names), leases }
    }
}

impl Denials {
    fn add(&mut self, mut denial: Denial) {
        for text in [&mut denial.object, &mut denial.reason] {
            shorten(text);
        }
        let same = |it: &&mut Denial| {
            (&it.rule, &it.object, &it.reason) == (&denial.rule, &denial.object, &denial.reason)
        };
        if let Some(known) = self.list.iter_mut().find(same) {
            known.count = known.count.saturating_add(1);
        } else if self.list.len() < DENIALS_MAX {
            self.list.push(denial);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

/// Keeps a text from the sandbox within bounds; names are ASCII, so any place is a boundary.
fn shorten(text: &mut String) {
    if text.len() > OBJECT_BYTES_MAX {
        let end = (0..=OBJECT_BYTES_MAX).rev().find(|it| text.is_char_boundary(*it));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
}
