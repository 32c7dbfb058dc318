//! A server and a name server on this machine's own loopback, and a client of theirs, by which a way
//! out is proved: nobody else is asked or called.
//!
//! Each is this program again. The server is a process of the host, and says at its end who came by;
//! the client is the command of a run, and says by its exit code what it reached.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::dns::{self, Answer, Asked};
use crate::sys::descriptor;

/// The first word of the command line by which this program becomes the server.
pub const SERVER: &str = "--proof-server";
/// The same for the client; behind it is the server's port.
pub const CLIENT: &str = "--proof-client";
/// The name that leads to the server. Like the other, it is nobody's (RFC 6761, 6.2).
pub const NAME: &str = "way-out.rung.test";
/// The name that no destination lists.
pub const OTHER_NAME: &str = "elsewhere.rung.test";
/// An address that is nobody's (RFC 5737), and that no destination lists.
pub const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What the client says, and what it hears where it reached the server.
pub const WORDS: &[u8] = b"is this the way out?\n";
pub const ANSWER: &[u8] = b"it is\n";

/// What the client's exit code is made of.
pub const NOT_REACHED: u8 = 1;
pub const OTHER_NAME_KNOWN: u8 = 2;
pub const OTHER_ADDRESS_REACHED: u8 = 4;
/// The client's words mean nothing.
const USAGE: u8 = 64;

const PATIENCE: Duration = Duration::from_secs(3);
const QUERY_BYTES_MAX: usize = 2048;
const LINE_BYTES_MAX: u64 = 256;

/// The server, as whoever started it has it. Ends with it.
#[derive(Debug)]
pub struct Server {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
    pub names: SocketAddr,
    pub port: u16,
}

/// Who came by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Visits {
    /// Clients that said [`WORDS`].
    pub clients: u64,
    /// Connections at all.
    pub connections: u64,
    /// Questions about other names than [`NAME`].
    pub other_questions: u64,
}

impl Server {
    pub fn start() -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(SERVER)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let said = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut server = Self {
            process,
            said: BufReader::new(said),
            names: (Ipv4Addr::LOCALHOST, 0).into(),
            port: 0,
        };
        let [names, port] = server.numbers()?;
        let number =
            |it: u64| u16::try_from(it).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        server.names.set_port(number(names)?);
        server.port = number(port)?;
        Ok(server)
    }

    /// Ends it, and hears who came by.
    pub fn finish(mut self) -> io::Result<Visits> {
        drop(self.process.stdin.take());
        let [clients, connections, other_questions] = self.numbers()?;
        Ok(Visits { clients, connections, other_questions })
    }

    fn numbers<const N: usize>(&mut self) -> io::Result<[u64; N]> {
        let mut line = String::new();
        self.said.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        let numbers: Option<Vec<u64>> =
            line.split_ascii_whitespace().map(|it| it.parse().ok()).collect();
        numbers.and_then(|it| it.try_into().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has been waited for.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Becomes the server. Returns the exit status.
pub fn server() -> u8 {
    const FAILED: u8 = 125;
    serve().map_or(FAILED, |()| 0)
}

fn serve() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let (end, mut out) = (descriptor::inherited(0)?, File::from(descriptor::inherited(1)?));
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(out, "{} {}", names.local_addr()?.port(), listener.local_addr()?.port())?;
    let mut visits = Visits::default();
    loop {
        let mut ready = [end.as_fd(), names.as_fd(), listener.as_fd()]
            .map(|it| PollFd::new(it, PollFlags::POLLIN));
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        let [ended, asked, called] = ready.map(|it| it.any().unwrap_or(true));
        if asked {
            name(&names, &mut visits)?;
        }
        if called {
            visits.connections += 1;
            let (stream, _) = listener.accept()?;
            visits.clients += u64::from(greet(stream).is_ok());
        }
        if ended {
            let Visits { clients, connections, other_questions } = visits;
            return writeln!(out, "{clients} {connections} {other_questions}");
        }
    }
}

fn name(socket: &UdpSocket, visits: &mut Visits) -> io::Result<()> {
    let mut query = [0; QUERY_BYTES_MAX];
    let (length, from) = socket.recv_from(&mut query)?;
    let answer = dns::answer(query.get(..length).unwrap_or_default(), &mut |asked| match asked {
        Asked::Name(name) if name.as_str() == NAME => Answer::Addresses(Ipv4Addr::LOCALHOST, None),
        Asked::Name(_) | Asked::NoName(..) | Asked::Reverse => {
            visits.other_questions += 1;
            Answer::Nothing
        }
    });
    answer.map_or(Ok(()), |it| socket.send_to(&it, from).map(drop))
}

fn greet(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut words = [0; WORDS.len()];
    stream.read_exact(&mut words)?;
    if words != *WORDS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.write_all(ANSWER)
}

/// Becomes the client of the server at the port that the words say. Returns the exit status.
pub fn client(words: impl Iterator<Item = std::ffi::OsString>) -> u8 {
    let words: Vec<String> = words.filter_map(|it| it.into_string().ok()).collect();
    let [port] = words.as_slice() else { return USAGE };
    let Ok(port) = port.parse::<u16>() else { return USAGE };
    let mut code = 0;
    if !reaches((NAME, port)) {
        code |= NOT_REACHED;
    }
    if (OTHER_NAME, port).to_socket_addrs().is_ok_and(|mut it| it.next().is_some()) {
        code |= OTHER_NAME_KNOWN;
    }
    if reaches((OTHER_ADDRESS, port)) {
        code |= OTHER_ADDRESS_REACHED;
    }
    code
}

/// Whether the server answers there.
fn reaches(place: impl ToSocketAddrs) -> bool {
    let one = |address: SocketAddr| -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(WORDS)?;
        let mut answer = [0; ANSWER.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer == *ANSWER)
    };
    let addresses = place.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    addresses.into_iter().any(|it| one(it).unwrap_or(false))
}
