//! The way out of a sandbox: by name, counted, through one process that can do nothing else.
//!
//! Whatever a command connects to, by whatever client, ends at listeners of this process: the
//! router of the sandbox takes every address as its own, and the resolver gives each allowed name
//! an address that stands for it. So a connection says which name it is for, the plan says whether
//! that may be, the host's resolver says where it is, once, and the address is looked at before it
//! is used. There is no other way: without the gateway there is no route. What goes over a connection
//! is carried unread, unless the destination says what may be asked of it: then the gateway is the
//! server to the client and the client to the server, and looks at every request.
//!
//! Here is the side of the supervisor: start the gateway, hear that it is ready, and at the end ask
//! it what happened. The gateway is this program again, in a process of its own, and gets its plan
//! in a sealed file. It reads nothing of the sandbox before it has confined itself, it ends with
//! the supervisor, and if it ends earlier the run has no network any more.

mod body;
mod confine;
mod connection;
mod credential;
mod dns;
mod gateway;
mod hello;
mod http;
mod inspect;
mod meter;
mod metered;
mod names;
pub mod proof;
mod proxy;
mod relay;
mod request;
mod resolve;
mod tls;
mod upstream;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;

pub use credential::Lent;
pub use gateway::stage;
pub use wire::LeaseSeen;

use self::wire::{Start, Word};
use crate::model::{Denial, Layer, Level, Traffic};
use crate::plan::egress::EgressPlan;
use crate::sys::message;

/// The first word of the command line by which this program becomes a gateway.
pub const STAGE: &str = "--gateway";

/// The gateway starts in milliseconds; a machine that needs longer is not usable.
const READY_SECONDS_MAX: i64 = 10;
/// What it has counted is in its memory.
const REPORT_SECONDS_MAX: i64 = 5;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("the gateway could not be started: {doing}: {source}")]
    Start { doing: &'static str, source: io::Error },
    #[error("the gateway could not be started: its plan has no binary form: {0}")]
    Plan(String),
    #[error("the gateway could not be started: {0}")]
    Refused(String),
    #[error("the gateway ended before it was ready")]
    Ended,
}

/// The gateway of one run.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    channel: OwnedFd,
    level: Level,
    plan: EgressPlan,
    /// What it has counted, whatever becomes of it.
    counters: File,
    /// What it said when it was ready.
    ready: Option<Readiness>,
}

/// A gateway that has confined itself.
#[derive(Debug, Clone, Default)]
struct Readiness {
    authority: Vec<u8>,
}

/// What happened on the way out.
#[derive(Debug, Default)]
pub struct Report {
    pub denials: Vec<Denial>,
    pub traffic: Vec<Traffic>,
    pub notes: Vec<String>,
    /// Names by their numbers in the pool, of those that were asked for.
    pub names: BTreeMap<u32, String>,
    /// How often each credential was used.
    pub leases: Vec<LeaseSeen>,
}

/// Starts the gateway. It gets ready by itself meanwhile.
pub fn start(plan: &EgressPlan, lent: Vec<Lent>, level: Level) -> Result<Gateway, EgressError> {
    let failed = |doing| move |source: io::Error| EgressError::Start { doing, source };
    let mut words = postcard::to_stdvec(&Start { plan: plan.clone(), level, lent })
        .map_err(|error| EgressError::Plan(error.to_string()))?;
    let file = sealed(&words);
    // Secrets are in it.
    words.fill(0);
    std::hint::black_box(&words);
    let file = file.map_err(failed("writing its plan"))?;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (channel, theirs) = pair.map_err(|errno| failed("making a socket pair")(errno.into()))?;
    let counters = counters(plan).map_err(failed("making a file for its counters"))?;
    message::send_descriptors(channel.as_fd(), b'c', &[counters.as_raw_fd()])
        .map_err(|errno| failed("giving it a file for its counters")(errno.into()))?;
    let process = Command::new("/proc/self/exe")
        .arg(OsStr::new(STAGE))
        .env_clear()
        .current_dir("/")
        // What the user types at the terminal is for the command.
        .process_group(0)
        .stdin(Stdio::from(file))
        .stdout(Stdio::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed("starting the process"))?;
    Ok(Gateway { process, channel, level, plan: plan.clone(), counters, ready: None })
}

/// A file of zeros that never changes its size.
fn counters(plan: &EgressPlan) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"rung-counters", flags)?);
    let length = plan.destinations.len().saturating_mul(meter::BYTES_EACH);
    file.set_len(u64::try_from(length).unwrap_or(u64::MAX))?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// A file in memory that nobody can change any more.
fn sealed(words: &[u8]) -> io::Result<File> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"rung-gateway", flags)?);
    file.write_all(words)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

impl Drop for Gateway {
    /// Without a run it is of no use, and would otherwise wait for one as long as this process lives.
    fn drop(&mut self) {
        // Both fail only when it has been waited for.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Gateway {
    /// The end of the channel by which the sandbox's sockets reach the gateway.
    pub fn channel(&self) -> Result<OwnedFd, EgressError> {
        let copy = self.channel.try_clone();
        copy.map_err(|source| EgressError::Start { doing: "copying its channel", source })
    }

    /// Waits until the gateway has confined itself.
    pub fn ready(&mut self) -> Result<(), EgressError> {
        self.readiness().map(drop)
    }

    /// The certificate of the run's own authority, as text; empty where the run needs none. Waits
    /// until the gateway has made it.
    pub fn authority(&mut self) -> Result<Vec<u8>, EgressError> {
        Ok(self.readiness()?.authority)
    }

    fn readiness(&mut self) -> Result<Readiness, EgressError> {
        if let Some(ready) = &self.ready {
            return Ok(ready.clone());
        }
        match self.hear(READY_SECONDS_MAX) {
            Ok(Some(Word::Ready { authority })) => {
                Ok(self.ready.insert(Readiness { authority }).clone())
            }
            Ok(Some(Word::Failed(why))) => Err(EgressError::Refused(why)),
            Ok(Some(Word::Report(_)) | None) => Err(EgressError::Ended),
            Err(errno) => Err(EgressError::Start { doing: "waiting for it", source: errno.into() }),
        }
    }

    /// Ends the gateway and says what it saw, and which names have these numbers. One that has
    /// ended by itself has taken the run's network with it, but not what it had counted.
    pub fn finish(mut self, names: &[u32]) -> Report {
        // A gateway that is gone does not listen; hearing nothing is the answer then.
        _ = send(self.channel.as_raw_fd(), &wire::end(names), MsgFlags::MSG_NOSIGNAL);
        let heard = self.hear(REPORT_SECONDS_MAX);
        // Fails only when it has ended already.
        drop(self.process.kill());
        let mut report = match heard {
            Ok(Some(Word::Report(report))) => {
                let wire::Seen { denials, traffic, notes, names, leases } = report;
                Report { denials, traffic, notes, names: names.into_iter().collect(), leases }
            }
            Ok(Some(Word::Ready { .. } | Word::Failed(_)) | None) | Err(_) => {
                let traffic = self.left_behind();
                Report { denials: vec![self.lost()], traffic, ..Report::default() }
            }
        };
        if let Err(error) = self.process.wait() {
            report.notes.push(format!("the gateway's end could not be seen: {error}"));
        }
        report
    }

    /// What a gateway that is gone had counted.
    fn left_behind(&self) -> Vec<Traffic> {
        use std::os::unix::fs::FileExt;
        let length = self.plan.destinations.len().saturating_mul(meter::BYTES_EACH);
        let mut bytes = vec![0; length];
        match self.counters.read_exact_at(&mut bytes, 0) {
            Ok(()) => meter::left_behind(&self.plan, &bytes),
            Err(_) => Vec::new(),
        }
    }

    fn lost(&self) -> Denial {
        Denial {
            layer: Layer::Network,
            rule: "network.gateway".to_owned(),
            level: self.level,
            object: "the gateway".to_owned(),
            reason: "it ended before the run did; from then on the run had no network, and what \
                     the gateway had refused itself is not told"
                .to_owned(),
            origin: None,
            allow_with: None,
            next: "run the command again; if it happens again, the gateway has a defect".to_owned(),
            count: 1,
        }
    }

    fn hear(&self, seconds_max: i64) -> Result<Option<Word>, Errno> {
        let timeout = TimeVal::new(seconds_max, 0);
        setsockopt(&self.channel.as_fd(), sockopt::ReceiveTimeout, &timeout)?;
        let mut buffer = vec![0; wire::WORD_BYTES_MAX];
        let length = loop {
            match recv(self.channel.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                result => break result?,
            }
        };
        Ok(buffer.get(..length).and_then(Word::decode))
    }
}
