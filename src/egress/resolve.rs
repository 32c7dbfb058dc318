//! Where an allowed name is: asked once, of the servers that the machine asks.
//!
//! An answer holds for all connections until it is too old, so nothing changes between the look at
//! an address and its use. A server is believed about the question it was asked, in the message with
//! the number it was asked with, from the socket it was asked on; what else it says is ignored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::model::HostName;
use crate::sys::process::random;

/// Between a question and the next try.
const TRY: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// What the second family may take longer than the first.
const GRACE: Duration = Duration::from_millis(150);
/// Addresses of one answer that are looked at; one that has more is cut.
const ADDRESSES_MAX: usize = 16;
const MESSAGE_BYTES_MAX: usize = 4096;
const NAMES_MAX: usize = 1024;
/// How long an answer counts, whatever it says itself.
const SECONDS_MIN: u32 = 5;
const SECONDS_MAX: u32 = 60;

#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    /// What `hosts(5)` says about names of the plan.
    hosts: BTreeMap<HostName, Vec<IpAddr>>,
    known: RefCell<BTreeMap<HostName, Known>>,
    asking: RefCell<BTreeMap<HostName, Rc<Mutex<()>>>>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// What one question brought.
#[derive(Debug, Default)]
struct Found {
    addresses: Vec<IpAddr>,
    seconds: u32,
}

impl Resolver {
    pub(super) fn new(servers: Vec<SocketAddr>, hosts: BTreeMap<HostName, Vec<IpAddr>>) -> Self {
        Self { servers, hosts, known: RefCell::default(), asking: RefCell::default() }
    }

    /// All addresses of a name, or why there are none.
    pub(super) async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, String> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let turn = self.turn(name);
        let held = turn.lock().await;
        let now = Instant::now();
        if let Some(known) = self.known.borrow().get(name).filter(|it| it.until > now) {
            return Ok(known.addresses.clone());
        }
        let found = self.ask_both(name).await?;
        let mut known = self.known.borrow_mut();
        if known.len() >= NAMES_MAX {
            known.retain(|_, it| it.until > now);
        }
        if known.len() < NAMES_MAX {
            let seconds = found.seconds.clamp(SECONDS_MIN, SECONDS_MAX);
            let until = now + Duration::from_secs(seconds.into());
            known.insert(name.clone(), Known { addresses: found.addresses.clone(), until });
        }
        drop(held);
        Ok(found.addresses)
    }

    /// Who asks for a name while it is being asked for waits, and gets the same answer.
    fn turn(&self, name: &HostName) -> Rc<Mutex<()>> {
        let mut asking = self.asking.borrow_mut();
        if asking.len() >= NAMES_MAX {
            asking.retain(|_, it| Rc::strong_count(it) > 1);
        }
        Rc::clone(asking.entry(name.clone()).or_default())
    }

    /// Both families at once. One that is late does not hold up the other for long.
    async fn ask_both(&self, name: &HostName) -> Result<Found, String> {
        let v4 = pin!(self.ask(name, Rtype::A));
        let v6 = pin!(self.ask(name, Rtype::AAAA));
        let (first, rest): (_, Pin<&mut dyn Future<Output = _>>) = match either(v4, v6).await {
            Either::First(done, rest) | Either::Second(done, rest) => (done, rest),
        };
        let useful = matches!(&first, Ok(found) if !found.addresses.is_empty());
        let second = if useful { timeout(GRACE, rest).await.ok() } else { Some(rest.await) };
        let all = [Some(first), second];
        let mut found = Found { addresses: Vec::new(), seconds: SECONDS_MAX };
        let mut why = None;
        for answer in all.into_iter().flatten() {
            match answer {
                Ok(more) => {
                    found.addresses.extend(more.addresses);
                    found.seconds = found.seconds.min(more.seconds);
                }
                Err(error) => why = Some(error),
            }
        }
        if found.addresses.is_empty() {
            return Err(why.unwrap_or_else(|| "the name has no address".to_owned()));
        }
        // An address that is reached at once, before one that may not be.
        found.addresses.sort_by_key(IpAddr::is_ipv6);
        found.addresses.truncate(ADDRESSES_MAX);
        Ok(found)
    }

    async fn ask(&self, name: &HostName, kind: Rtype) -> Result<Found, String> {
        let mut why = "this machine has no name server".to_owned();
        for server in std::iter::repeat_n(&self.servers, TRIES).flatten() {
            match timeout(TRY, ask_one(*server, name, kind)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(Failed::Name(error))) => return Err(error),
                Ok(Err(Failed::Server(error))) => why = format!("name server {server}: {error}"),
                Err(_) => why = format!("name server {server} does not answer"),
            }
        }
        Err(why)
    }
}

enum Failed {
    /// The answer is that there is none.
    Name(String),
    /// Another server may know.
    Server(String),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Server(error.to_string())
    }
}

async fn ask_one(server: SocketAddr, name: &HostName, kind: Rtype) -> Result<Found, Failed> {
    let odd = || Failed::Server("the question could not be put".to_owned());
    let number =
        u16::from_ne_bytes(random::<2>().map_err(|errno| Failed::Server(errno.to_string()))?);
    let query = question(name, kind, number).ok_or_else(odd)?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(message) = buffer.get(..length).and_then(|it| Message::from_octets(it).ok())
        else {
            continue;
        };
        if !is_answer(&message, &query, number) {
            continue;
        }
        if !message.header().tc() {
            return read(&message, kind);
        }
        let whole = ask_by_stream(server, &query).await?;
        return match Message::from_octets(whole.as_slice()) {
            Ok(message) if is_answer(&message, &query, number) => read(&message, kind),
            _ => Err(Failed::Server("its answer is malformed".to_owned())),
        };
    }
}

fn question(name: &HostName, kind: Rtype, number: u16) -> Option<Vec<u8>> {
    let name: Name<Vec<u8>> = name.as_str().parse().ok()?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(number);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((name, kind)).ok()?;
    Some(question.finish())
}

fn is_answer(message: &Message<&[u8]>, query: &[u8], number: u16) -> bool {
    let asked = Message::from_octets(query).ok();
    let same = || {
        let question = asked.as_ref()?.sole_question().ok()?;
        Some(message.sole_question().ok()? == question)
    };
    message.header().qr() && message.header().id() == number && same() == Some(true)
}

/// An answer too large for a datagram (RFC 7766).
async fn ask_by_stream(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>, Failed> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let stream = socket.connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes();
    write_all(&stream, &[&length, query].concat()).await?;
    let mut head = [0; 2];
    read_exact(&stream, &mut head).await?;
    let mut answer = vec![0; u16::from_be_bytes(head).into()];
    read_exact(&stream, &mut answer).await?;
    Ok(answer)
}

pub(super) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.writable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) async fn read_exact(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut left = buffer;
    while !left.is_empty() {
        match stream.try_read(left) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => left = left.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.readable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The addresses of the name that the answer's chain of aliases ends at.
fn read(message: &Message<&[u8]>, kind: Rtype) -> Result<Found, Failed> {
    match message.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Err(Failed::Name("there is no such name".to_owned())),
        other => return Err(Failed::Server(format!("it says {other}"))),
    }
    let broken = |_| Failed::Server("its answer is malformed".to_owned());
    let mut found = Found { addresses: Vec::new(), seconds: SECONDS_MAX };
    let Some(canonical) = message.canonical_name() else { return Ok(found) };
    for record in message.answer().map_err(broken)? {
        let record = record.map_err(broken)?;
        if record.class() != Class::IN || record.owner() != canonical || record.rtype() != kind {
            continue;
        }
        found.seconds = found.seconds.min(record.ttl().as_secs());
        let address = if kind == Rtype::A {
            record.to_record::<A>().map_err(broken)?.map(|it| IpAddr::V4(it.data().addr()))
        } else {
            record.to_record::<Aaaa>().map_err(broken)?.map(|it| IpAddr::V6(it.data().addr()))
        };
        found.addresses.extend(address);
    }
    Ok(found)
}

/// What `hosts(5)` says about the names that `wanted` is about.
pub(super) fn hosts(
    text: &str,
    wanted: impl Fn(&HostName) -> bool,
) -> BTreeMap<HostName, Vec<IpAddr>> {
    let mut hosts: BTreeMap<HostName, Vec<IpAddr>> = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|it| it.parse().ok()) else { continue };
        let names = words.filter_map(|it| HostName::parse(it.as_bytes()).ok());
        for name in names.filter(|it| wanted(it)) {
            let addresses = hosts.entry(name).or_default();
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

/// The first of two that is done, and the other as it is.
enum Either<'a, A: Future, B: Future> {
    First(A::Output, Pin<&'a mut B>),
    Second(B::Output, Pin<&'a mut A>),
}

async fn either<'a, A: Future, B: Future>(
    first: Pin<&'a mut A>,
    second: Pin<&'a mut B>,
) -> Either<'a, A, B> {
    let mut both = Some((first, second));
    std::future::poll_fn(move |context| {
        let Some((mut first, mut second)) = both.take() else { return Poll::Pending };
        if let Poll::Ready(done) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(done, second));
        }
        if let Poll::Ready(done) = second.as_mut().poll(context) {
            return Poll::Ready(Either::Second(done, first));
        }
        both = Some((first, second));
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_hosts_file_is_read_for_wanted_names_only() {
        let text =
            "127.0.0.1 localhost A.test # a.test\n::1 a.test\nbroken a.test\n10.0.0.1 b.test\n";
        let hosts = hosts(text, |it| it.as_str() == "a.test");
        let addresses = ["127.0.0.1", "::1"].map(|it| it.parse().unwrap()).to_vec();
        assert_eq!(hosts, BTreeMap::from([(name("a.test"), addresses)]));
    }

    fn answered(number: u16, owner: &str, ttl: u32) -> Vec<u8> {
        let query = question(&name("a.test"), Rtype::A, 7).unwrap();
        let query = Message::from_octets(query).unwrap();
        let mut answer = MessageBuilder::new_vec().start_answer(&query, Rcode::NOERROR).unwrap();
        answer.header_mut().set_id(number);
        let owner: Name<Vec<u8>> = owner.parse().unwrap();
        answer.push((owner, ttl, A::new(Ipv4Addr::new(192, 0, 2, 1)))).unwrap();
        answer.finish()
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let query = question(&name("a.test"), Rtype::A, 7).unwrap();
        let believed = |bytes: &[u8]| is_answer(&Message::from_octets(bytes).unwrap(), &query, 7);
        assert!(believed(&answered(7, "a.test", 60)));
        assert!(!believed(&answered(8, "a.test", 60)), "another number");
        assert!(!believed(&query), "the question itself");
        let other = question(&name("b.test"), Rtype::A, 7).unwrap();
        let mut other = other;
        other[2] |= 0x80;
        assert!(!believed(&other), "another question");
    }

    #[test]
    fn an_address_of_another_name_is_ignored() {
        let found = |owner: &str, ttl| {
            let bytes = answered(7, owner, ttl);
            let found = read(&Message::from_octets(bytes.as_slice()).unwrap(), Rtype::A).ok();
            found.map(|it| (it.addresses.len(), it.seconds))
        };
        assert_eq!(found("a.test", 9), Some((1, 9)));
        assert_eq!(found("b.test", 9), Some((0, 60)));
    }
}
