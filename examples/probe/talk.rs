//! Acts of a client of the network, as any program would do them: by the C library's resolver.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Refused, Tried, Unclear};

/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK_BYTES: usize = 16 << 10;

/// Prints the addresses of a name, one a line.
pub(crate) fn resolve(name: &str) -> Tried {
    let mut lines: Vec<String> = addresses(name, 0)?.iter().map(|it| it.ip().to_string()).collect();
    lines.dedup();
    print(lines.join("\n").as_bytes())
}

/// Prints the body of what a server says to one request.
pub(crate) fn fetch(name: &str, port: u16, host: &str, family: &str) -> Tried {
    let wanted: Vec<SocketAddr> = addresses(name, port)?
        .into_iter()
        .filter(|it| match family {
            "4" => it.is_ipv4(),
            "6" => it.is_ipv6(),
            _ => true,
        })
        .collect();
    let mut stream = connect(&wanted)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(0, |it| it + 4);
    print(answer.get(body..).unwrap_or_default())
}

/// Sends bytes, given as `\xNN` and text, then prints what comes back.
pub(crate) fn say(name: &str, port: u16, words: &str) -> Tried {
    let mut stream = connect(&addresses(name, port)?)?;
    stream.write_all(&bytes(words)?)?;
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    print(&answer)?;
    ended?;
    Ok(())
}

/// Sends so many bytes after a greeting of its own, and prints how many were taken.
pub(crate) fn upload(name: &str, port: u16, count: usize) -> Tried {
    let mut stream = connect(&addresses(name, port)?)?;
    let chunk = [b'.'; CHUNK_BYTES];
    let mut left = count;
    while left > 0 {
        match stream.write(chunk.get(..left).unwrap_or(&chunk)) {
            Ok(written) => left -= written,
            Err(error) => {
                print((count - left).to_string().as_bytes())?;
                return Err(error.into());
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    print(&answer)
}

/// Holds so many connections at once, says "ready", and prints what the last of them brings.
pub(crate) fn keep(name: &str, port: u16, count: usize) -> Tried {
    let at = addresses(name, port)?;
    let held = (0..count).map(|_| connect(&at)).collect::<Result<Vec<_>, _>>()?;
    print(b"ready")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    drop(held);
    fetch(name, port, name, "")
}

/// Makes so many connections, a few at a time, and prints how many brought an answer.
pub(crate) fn many(name: &str, port: u16, count: usize) -> Tried {
    const AT_ONCE: usize = 8;
    let at = addresses(name, port)?;
    let next = AtomicU64::new(0);
    let answered = AtomicU64::new(0);
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let one = || -> Result<(), Refused> {
        let mut stream = connect(&at)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if answer.starts_with(b"HTTP/1.1 200") {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| while next.fetch_add(1, Ordering::Relaxed) < count && one().is_ok() {});
        }
    });
    print(answered.load(Ordering::Relaxed).to_string().as_bytes())
}

/// Begins so many requests and ends none of them; asks once in the ordinary way meanwhile, and prints
/// the answer, and how many of the others were cut.
pub(crate) fn trickle(name: &str, port: u16, count: usize) -> Tried {
    let at = addresses(name, port)?;
    let mut held = (0..count).map(|_| connect(&at)).collect::<Result<Vec<_>, _>>()?;
    for stream in &mut held {
        stream.write_all(b"GET / HT")?;
    }
    fetch(name, port, name, "")?;
    let cut = held.iter().filter(|it| !matches!((&**it).read(&mut [0]), Ok(1..))).count();
    print(format!("cut {cut}").as_bytes())
}

/// Connects to each port but the last, and prints how often it failed with what.
pub(crate) fn sweep(name: &str, from: u16, to: u16) -> Tried {
    let at = addresses(name, 0)?.into_iter().find(SocketAddr::is_ipv4);
    let mut at = at.ok_or(Refused::Not(Unclear::NoName))?;
    let mut failed: BTreeMap<i32, u32> = BTreeMap::new();
    for port in from..to {
        at.set_port(port);
        // A connection that is made is one that is ended when the other side has been looked for.
        let tried = TcpStream::connect(at).and_then(|mut it| it.read(&mut [0]));
        if let Err(error) = tried {
            *failed.entry(error.raw_os_error().unwrap_or(0)).or_default() += 1;
        }
    }
    let lines: Vec<String> =
        failed.iter().rev().map(|(errno, it)| format!("{errno}: {it}")).collect();
    print(lines.join(", ").as_bytes())
}

/// So many threads connect to one closed port after the other, while this program starts itself again
/// and again. Prints how many connections were refused, how many programs ran, and how many
/// milliseconds the slowest of them took.
pub(crate) fn flood(threads: usize, programs: usize) -> Tried {
    let over = AtomicBool::new(false);
    let refused = AtomicU64::new(0);
    let one = |thread: usize| {
        for port in (1..=60_000).cycle() {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let last = u8::try_from(thread).unwrap_or(0);
            if TcpStream::connect(SocketAddr::from(([192, 0, 2, last], port))).is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let own = std::env::current_exe()?;
    let mut longest = Duration::ZERO;
    let started = std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || one(thread));
        }
        let mut started = 0;
        for _ in 0..programs {
            let from = Instant::now();
            let status = Command::new(&own).args(["--", "exit", "0"]).status();
            started += usize::from(status.is_ok_and(|it| it.success()));
            longest = longest.max(from.elapsed());
        }
        // A storm of programs is over soon; that of connections has to have had its turn.
        let patience = Instant::now();
        while refused.load(Ordering::Relaxed) <= 1000 && patience.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        started
    });
    let refused = refused.load(Ordering::Relaxed);
    print(format!("{refused} {started} {}", longest.as_millis()).as_bytes())
}

/// Sends one datagram on a connected socket, and waits for what comes.
pub(crate) fn datagram(name: &str, port: u16) -> Tried {
    let at = addresses(name, port)?.into_iter().next().ok_or(Refused::Not(Unclear::NoName))?;
    let any = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(at)?;
    socket.send(b"hello")?;
    let mut answer = [0; 64];
    socket.recv(&mut answer)?;
    Ok(())
}

fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
    let found = (name, port).to_socket_addrs();
    found.map(Iterator::collect).map_err(|_| Refused::Not(Unclear::NoName))
}

fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Refused> {
    let stream = TcpStream::connect(addresses)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn print(words: &[u8]) -> Tried {
    let mut out = std::io::stdout();
    out.write_all(words)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// `GET\x20/\x0d` as the bytes it stands for.
fn bytes(words: &str) -> Result<Vec<u8>, Refused> {
    let mut parts = words.split("\\x");
    let mut all = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2).ok_or(Refused::Not(Unclear::Usage))?;
        all.push(u8::from_str_radix(byte, 16).map_err(|_| Refused::Not(Unclear::Usage))?);
        all.extend_from_slice(rest.as_bytes());
    }
    Ok(all)
}
