//! Carries bytes between two connections, each one counted before it goes on.
//!
//! The first bytes of a stream are copied, which is quickest for the short ones; what goes on after
//! that goes through a pipe and never enters this process (`splice(2)`).
//!
//! Two sides that are open and silent may stay so as long as the run lives: a shell on another machine
//! waits for its user. How many connections there are at once is bounded.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::gateway::State;
use super::inspect::{self, LOOK_BYTES_MAX, Step};
use super::meter::{Cut, Way};
use super::resolve::write_all;
use crate::model::HostName;
use crate::plan::egress::{Allowed, Refused};

pub(super) const COPY_BYTES: usize = 16 << 10;
/// From here on a stream is long.
const SPLICE_FROM_BYTES: u64 = 128 << 10;
const PIPE_BYTES: i32 = 512 << 10;
/// A greeting that has begun comes to its end.
const GREETING: Duration = Duration::from_secs(10);
/// What one side may still wait for the other after it has said its last word.
const HALF_OPEN: Duration = Duration::from_secs(300);

/// Two connections that belong together.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    pub(super) to: Allowed,
    /// The name that the client's first words must agree with.
    pub(super) name: Option<HostName>,
}

/// Why a relay ended before both sides had said everything.
#[derive(Debug)]
pub(super) enum End {
    Cut(Cut),
    Refused(Refused),
    /// One of the two is gone.
    Lost,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// Until both have said everything. On any other end both connections are reset, so that nobody
/// takes what came for the whole.
pub(super) async fn relay(pair: &Pair, state: &Rc<State>) -> Result<(), End> {
    let done = Cell::new(false);
    let up = pin!(async {
        let sent = greeting(pair, state).await?;
        let stream = Stream { from: &pair.client, to: &pair.server, way: Way::Up, sent };
        stream.pump(pair, state, &done).await
    });
    let down = pin!(async {
        let stream = Stream { from: &pair.server, to: &pair.client, way: Way::Down, sent: 0 };
        stream.pump(pair, state, &done).await
    });
    let result = both(up, down).await;
    if result.is_err() {
        reset(&pair.client);
        reset(&pair.server);
    }
    result
}

/// Closing this connection will look like what it is: an end by force.
pub(super) fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // Fails only for what is no socket; it would be closed in the ordinary way.
    _ = setsockopt(stream, sockopt::Linger, &linger);
}

/// Both, or the first that fails.
async fn both<F, G>(
    mut first: std::pin::Pin<&mut F>,
    mut second: std::pin::Pin<&mut G>,
) -> Result<(), End>
where
    F: Future<Output = Result<(), End>>,
    G: Future<Output = Result<(), End>>,
{
    let (mut first_done, mut second_done) = (false, false);
    std::future::poll_fn(move |context| {
        if !first_done && let Poll::Ready(result) = first.as_mut().poll(context) {
            first_done = true;
            if result.is_err() {
                return Poll::Ready(result);
            }
        }
        if !second_done && let Poll::Ready(result) = second.as_mut().poll(context) {
            second_done = true;
            if result.is_err() {
                return Poll::Ready(result);
            }
        }
        if first_done && second_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// Takes the client's first words, looks whether they agree with the name, and passes them on.
/// Returns how many they were.
async fn greeting(pair: &Pair, state: &Rc<State>) -> Result<u64, End> {
    let Some(name) = &pair.name else { return Ok(0) };
    let mut words = Vec::new();
    // Some clients wait for the server to speak first.
    pair.client.readable().await?;
    let look = async {
        loop {
            let before = words.len();
            let words = &mut words;
            let mut keep = |bytes: &[u8]| words.extend_from_slice(bytes);
            take(pair, state, (&pair.client, Way::Up), &mut keep).await?;
            if words.len() == before {
                return Ok(());
            }
            match inspect::look(words, name) {
                Step::Pass => return Ok(()),
                Step::Refuse(why) => return Err(End::Refused(why)),
                Step::More if words.len() >= LOOK_BYTES_MAX => {
                    return Err(End::Refused(Refused::Hidden("its greeting has no end")));
                }
                Step::More => {}
            }
        }
    };
    timeout(GREETING, look)
        .await
        .unwrap_or(Err(End::Refused(Refused::Hidden("its greeting does not come to an end"))))?;
    write_all(&pair.server, &words).await?;
    Ok(u64::try_from(words.len()).unwrap_or(u64::MAX))
}

/// Reads once, no more than the limits allow, counts it, and has it used: it lies in a buffer that
/// all connections share. Nothing is the end.
async fn take<R>(
    pair: &Pair,
    state: &Rc<State>,
    (from, way): (&TcpStream, Way),
    used: &mut impl FnMut(&[u8]) -> R,
) -> Result<R, End> {
    loop {
        let allowance = state.meters.borrow().allowance(&state.plan, &pair.to, way, COPY_BYTES);
        let allowance = match allowance {
            Ok(allowance) => allowance,
            Err(cut) => return at_the_limit(from, cut).await.map(|_| used(&[])),
        };
        let read = {
            let mut buffer = state.buffer.borrow_mut();
            let part = buffer.get_mut(..allowance).unwrap_or_default();
            from.try_read(part).map(|read| {
                state.count(&pair.to, way, read);
                used(part.get(..read).unwrap_or_default())
            })
        };
        match read {
            Ok(result) => return Ok(result),
            Err(error) if error.kind() == ErrorKind::WouldBlock => from.readable().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says as much as the other side takes at once. Returns how much there was, and what is left.
fn pass_on(to: &TcpStream, bytes: &[u8]) -> io::Result<(usize, Vec<u8>)> {
    let written = match to.try_write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    Ok((bytes.len(), bytes.get(written..).unwrap_or_default().to_vec()))
}

/// Nothing more may go. That is a cut only if there is more.
async fn at_the_limit(from: &TcpStream, cut: Cut) -> Result<usize, End> {
    let mut byte = [0];
    match from.peek(&mut byte).await? {
        0 => Ok(0),
        _ => Err(End::Cut(cut)),
    }
}

/// One direction.
struct Stream<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    way: Way,
    sent: u64,
}

impl Stream<'_> {
    async fn pump(mut self, pair: &Pair, state: &Rc<State>, done: &Cell<bool>) -> Result<(), End> {
        while self.sent < SPLICE_FROM_BYTES {
            self.turn(pair, state, done).await?;
            let mut pass = |bytes: &[u8]| pass_on(self.to, bytes);
            let (read, left) = take(pair, state, (self.from, self.way), &mut pass).await??;
            if read == 0 {
                self.end(done);
                return Ok(());
            }
            write_all(self.to, &left).await?;
            self.sent = self.sent.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        let pipe = Pipe::new()?;
        loop {
            self.turn(pair, state, done).await?;
            let read = self.fill(pair, state, &pipe).await?;
            if read == 0 {
                self.end(done);
                return Ok(());
            }
            pipe.empty(self.to, read).await?;
        }
    }

    /// Waits for bytes, for the rate, and for the others.
    async fn turn(&self, pair: &Pair, state: &Rc<State>, done: &Cell<bool>) -> Result<(), End> {
        tokio::task::coop::consume_budget().await;
        if let Some(wait) = state.wait(&pair.to) {
            sleep(wait).await;
        }
        if done.get() {
            return match timeout(HALF_OPEN, self.from.readable()).await {
                Ok(ready) => Ok(ready?),
                Err(_) => Err(End::Lost),
            };
        }
        Ok(())
    }

    /// As [`take`], into the pipe.
    async fn fill(&self, pair: &Pair, state: &Rc<State>, pipe: &Pipe) -> Result<usize, End> {
        loop {
            let allowance =
                state.meters.borrow().allowance(&state.plan, &pair.to, self.way, pipe.room);
            let allowance = match allowance {
                Ok(allowance) => allowance,
                Err(cut) => return at_the_limit(self.from, cut).await,
            };
            let moved = self.from.try_io(Interest::READABLE, || {
                Ok(splice(self.from, None, &pipe.into, None, allowance, FLAGS)?)
            });
            match moved {
                Ok(read) => {
                    state.count(&pair.to, self.way, read);
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.from.readable().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The sender has said everything: the other side hears that, and may go on itself.
    fn end(&self, done: &Cell<bool>) {
        done.set(true);
        // The other side may be gone already, which its own direction finds out.
        _ = shutdown(self.to.as_raw_fd(), Shutdown::Write);
    }
}

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// Where bytes wait between the two sockets; always empty between two turns.
struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
    room: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (from, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A user who has many pipes gets small ones, which only costs time.
        let room = fcntl(&into, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))
            .or_else(|_| fcntl(&into, FcntlArg::F_GETPIPE_SZ))?;
        Ok(Self { from, into, room: usize::try_from(room).unwrap_or(4096) })
    }

    async fn empty(&self, to: &TcpStream, mut bytes: usize) -> io::Result<()> {
        while bytes > 0 {
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&self.from, None, to, None, bytes, FLAGS)?)
            });
            match moved {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.saturating_sub(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The time, for the meters.
pub(super) fn now() -> Instant {
    Instant::now()
}
