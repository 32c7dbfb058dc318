//! A small internet on the loopback interface of this machine: a name server that says what it is
//! told to, and servers that remember who came by.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::{A, Aaaa, Cname};

use crate::harness::{Place, Run, put};

/// How the name server behaves about one name.
#[derive(Debug, Clone)]
pub(super) enum Says {
    /// All of them, each time.
    Addresses(Vec<IpAddr>),
    /// The first, and after that the second.
    First(IpAddr, IpAddr),
    /// Another name, which is then asked for in the same answer.
    Alias(&'static str, IpAddr),
    /// Nothing at all.
    Silence,
    /// An answer with another number, and one to another question, before the true one.
    Lies(IpAddr, IpAddr),
}

/// What everybody saw.
#[derive(Debug, Default)]
struct Seen {
    questions: Vec<String>,
    requests: Vec<String>,
    connections: usize,
    open: usize,
    received: usize,
    received_in_all: usize,
}

/// What a server has, by path.
pub(super) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A server that has files has nothing else.
pub(super) fn found(files: &Files, path: &str) -> Option<Vec<u8>> {
    let files = lock(files);
    match files.get(path.split('?').next().unwrap_or_default()) {
        Some(bytes) => Some(bytes.clone()),
        None => files.is_empty().then(|| BODY.into()),
    }
}

/// As the clients want to be told.
pub(super) fn kind_of(path: &str) -> &'static str {
    if path.ends_with('/') { "text/html" } else { "application/octet-stream" }
}

#[derive(Debug, Clone)]
pub(super) struct Net {
    seen: Arc<Mutex<Seen>>,
    zone: Arc<Mutex<BTreeMap<String, Says>>>,
    /// By path, with what the server that answers to HTTP says instead of [`BODY`].
    files: Files,
    /// Of the server that answers to HTTP, on both families.
    pub(super) port: u16,
    /// Of one that takes everything and says how much that was.
    pub(super) sink: u16,
    /// Of one that ends every connection by force.
    pub(super) resetter: u16,
    /// Of one that speaks first.
    pub(super) greeter: u16,
    resolver: u16,
}

pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(super) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What the server answers with.
pub(super) const BODY: &str = "here you are";

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    pub(super) fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let greeter = TcpListener::bind("127.0.0.1:0").unwrap();
        let resetter = TcpListener::bind("127.0.0.1:0").unwrap();
        let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let net = Self {
            seen: Arc::default(),
            zone: Arc::default(),
            files: Arc::default(),
            port,
            sink: sink.local_addr().unwrap().port(),
            resetter: resetter.local_addr().unwrap().port(),
            greeter: greeter.local_addr().unwrap().port(),
            resolver: resolver.local_addr().unwrap().port(),
        };
        if let Ok(server) = TcpListener::bind(("::1", port)) {
            net.serve(server, Self::answer);
        }
        net.serve(server, Self::answer);
        net.serve(sink, Self::swallow);
        net.serve(resetter, |_, mut stream| {
            drop(stream.read(&mut [0; 64]));
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger)
                .unwrap();
        });
        net.serve(greeter, |_, mut stream| drop(stream.write_all(b"220 hello\r\n")));
        let names = net.clone();
        std::thread::spawn(move || names.resolve(&resolver));
        net
    }

    fn serve(&self, listener: TcpListener, each: fn(&Self, TcpStream)) {
        let net = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                lock(&net.seen).connections += 1;
                let net = net.clone();
                std::thread::spawn(move || {
                    lock(&net.seen).open += 1;
                    each(&net, stream);
                    lock(&net.seen).open -= 1;
                });
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0; 4096];
        while !head.windows(4).any(|it| it == b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(read @ 1..) => head.extend_from_slice(&byte[..read]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        lock(&self.seen).requests.push(head);
        let body = found(&self.files, &path);
        let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
        let (body, kind) = (body.unwrap_or_default(), kind_of(&path));
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        drop(stream.write_all(&[answer.as_bytes(), &body].concat()));
    }

    fn swallow(&self, mut stream: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        let mut all = 0;
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            all += read;
            let mut seen = lock(&self.seen);
            seen.received += read;
            seen.received_in_all += read;
        }
        drop(stream.write_all(all.to_string().as_bytes()));
    }

    fn resolve(&self, socket: &UdpSocket) {
        let mut buffer = [0; 2048];
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = Message::from_octets(buffer[..length].to_vec()).unwrap();
            let question = query.sole_question().unwrap();
            let (name, kind) = (question.qname().to_string(), question.qtype());
            lock(&self.seen).questions.push(format!("{name} {kind}"));
            let says = lock(&self.zone).get(&name).cloned();
            let before = asked.entry(format!("{name} {kind}")).or_default();
            let addresses = match &says {
                Some(Says::Silence) => continue,
                Some(Says::Addresses(all)) => all.clone(),
                Some(Says::First(first, _)) if *before == 0 => vec![*first],
                Some(Says::First(_, then)) => vec![*then],
                Some(Says::Alias(_, address)) => vec![*address],
                Some(Says::Lies(lie, truth)) => {
                    let mut other = answer(&query, &name, kind, &[*lie], None);
                    other[0] ^= 0xff;
                    socket.send_to(&other, from).unwrap();
                    vec![*truth]
                }
                None => Vec::new(),
            };
            *before += 1;
            let alias = match &says {
                Some(Says::Alias(alias, _)) => Some(*alias),
                _ => None,
            };
            let mut bytes = answer(&query, &name, kind, &addresses, alias);
            if says.is_none() {
                bytes[3] |= Rcode::NXDOMAIN.to_int();
            }
            socket.send_to(&bytes, from).unwrap();
        }
    }

    pub(super) fn name(&self, name: &str, says: Says) {
        lock(&self.zone).insert(name.to_owned(), says);
    }

    /// From now on the server has these, and nothing else.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    pub(super) fn questions(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).questions)
    }

    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen).requests)
    }

    /// How many connections came since the last time.
    pub(super) fn connections(&self) -> usize {
        std::mem::take(&mut lock(&self.seen).connections)
    }

    /// How many are open now.
    pub(super) fn open(&self) -> usize {
        lock(&self.seen).open
    }

    pub(super) fn received(&self) -> usize {
        std::mem::take(&mut lock(&self.seen).received)
    }

    pub(super) fn received_in_all(&self) -> usize {
        lock(&self.seen).received_in_all
    }

    /// A place whose level 3 reaches `a.test` at all servers, and what `more` says.
    pub(super) fn place(&self, more: &str) -> Place {
        let place = Place::new();
        self.name("a.test", Says::Addresses(vec![V4, V6]));
        let config = format!("resolver = \"127.0.0.1:{}\"\n", self.resolver);
        put(&place.home.join(".config/rung/config.toml"), &config);
        let (port, sink, greeter) = (self.port, self.sink, self.greeter);
        let listed = format!(
            "[[network.destination]]\nhost = \"a.test\"\nports = [{port}, {sink}, {greeter}]\n\
             address = [\"127.0.0.0/8\", \"::1\"]\nbecause = \"the test's own server\"\n{more}\n"
        );
        place.set_profile(3, &place.profile(3, &listed));
        place
    }
}

fn answer(
    query: &Message<Vec<u8>>,
    name: &str,
    kind: Rtype,
    addresses: &[IpAddr],
    alias: Option<&str>,
) -> Vec<u8> {
    let query = Message::from_octets(query.as_slice()).unwrap();
    let mut answer = MessageBuilder::new_vec().start_answer(&query, Rcode::NOERROR).unwrap();
    let mut owner = Name::<Vec<u8>>::from_str(name).unwrap();
    if let Some(alias) = alias {
        let target = Name::<Vec<u8>>::from_str(alias).unwrap();
        answer.push((owner, 30, Cname::new(target.clone()))).unwrap();
        owner = target;
    }
    for address in addresses {
        match (address, kind) {
            (IpAddr::V4(it), Rtype::A) => answer.push((owner.clone(), 30, A::new(*it))).unwrap(),
            (IpAddr::V6(it), Rtype::AAAA) => {
                answer.push((owner.clone(), 30, Aaaa::new(*it))).unwrap();
            }
            _ => {}
        }
    }
    answer.finish()
}

/// The probe at level 3 with these words.
pub(super) fn probe<'a>(place: &'a Place, words: &[&str]) -> Run<'a> {
    place.rung(3).probe(words)
}
