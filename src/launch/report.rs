//! What the processes of a sandbox tell the supervisor: fixed-size messages over one pipe.
//!
//! Encoding and decoding are the only logic. A message is smaller than `PIPE_BUF`, so the kernel
//! writes it whole or not at all (pipe(7)), and writers never interleave. Although they share the
//! supervisor's memory, this is all that they say: a step is reported when it fails, by the process
//! that took it, and a step that works says nothing.

use nix::errno::Errno;

use crate::sys::descriptor;

/// Bytes of every message.
pub(super) const MESSAGE_BYTES: usize = 40;

/// A step of the launch. Until the command's process exists in the order of execution; from then on
/// init confines itself while that process goes through its own steps. The first of init's
/// confinement and of dropping capabilities comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    CloseInherited = 1,
    IdMaps,
    PrivateMounts,
    NewRoot,
    View,
    SealRoot,
    Pivot,
    Loopback,
    Router,
    HostName,
    NamespaceLimits,
    SecondUserNamespace,
    Session,
    Terminal,
    WaitForGo,
    FileRules,
    PayloadFork,
    InitConfinement,
    Cgroup,
    Streams,
    ResourceLimits,
    Capabilities,
    NoNewPrivs,
    Landlock,
    WorkingDirectory,
    Signals,
    Descriptors,
    Seccomp,
    Gate,
    Exec,
}

impl Step {
    const ALL: [Self; 30] = [
        Self::CloseInherited,
        Self::IdMaps,
        Self::PrivateMounts,
        Self::NewRoot,
        Self::View,
        Self::SealRoot,
        Self::Pivot,
        Self::Loopback,
        Self::Router,
        Self::HostName,
        Self::NamespaceLimits,
        Self::SecondUserNamespace,
        Self::Session,
        Self::Terminal,
        Self::WaitForGo,
        Self::FileRules,
        Self::PayloadFork,
        Self::InitConfinement,
        Self::Cgroup,
        Self::Streams,
        Self::ResourceLimits,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Landlock,
        Self::WorkingDirectory,
        Self::Signals,
        Self::Descriptors,
        Self::Seccomp,
        Self::Gate,
        Self::Exec,
    ];

    /// Completes "… failed".
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::CloseInherited => "closing inherited descriptors",
            Self::IdMaps => "mapping the user and group id",
            Self::PrivateMounts => "cutting off mount events",
            Self::NewRoot => "making the new root",
            Self::View => "building the file view",
            Self::SealRoot => "making the new root read-only",
            Self::Pivot => "changing the root",
            Self::Loopback => "bringing up lo",
            Self::Router => "making the way out (`rung doctor` tries what it needs)",
            Self::HostName => "setting the host name",
            Self::NamespaceLimits => "forbidding further namespaces",
            Self::SecondUserNamespace => "locking the mounts in a second user namespace",
            Self::Session => "making a new session",
            Self::Terminal => "making a pseudo terminal",
            Self::WaitForGo => "waiting for the supervisor",
            Self::FileRules => "adding the file rules",
            Self::PayloadFork => "cloning the command's process",
            Self::InitConfinement => "confining init",
            Self::Cgroup => "hiding the host's cgroups",
            Self::Streams => "connecting the standard streams",
            Self::ResourceLimits => "setting the resource limits",
            Self::Capabilities => "dropping capabilities",
            Self::NoNewPrivs => "setting no_new_privs",
            Self::Landlock => "entering the Landlock domain",
            Self::WorkingDirectory => "entering the working directory",
            Self::Signals => "resetting signals",
            Self::Descriptors => "marking descriptors close-on-exec",
            Self::Seccomp => "loading the seccomp filter",
            Self::Gate => "handing over the line to the exec gate",
            Self::Exec => "executing the program",
        }
    }
}

/// Why a step of the launch did not work. `index` counts within the step: the view entry, the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) index: u32,
    pub(super) errno: Errno,
}

/// How the command's own process ended, and what all of them used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// As `wait4(2)` gives it.
    pub(super) status: i32,
    pub(super) user_ms: u64,
    pub(super) system_ms: u64,
    pub(super) peak_rss_kib: u64,
    /// Which private places were full, as `limits::bits` has it.
    pub(super) full: u64,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Failed(Failure),
    /// The command's process stopped by job control.
    Stopped,
    /// Everything in the sandbox but init is gone.
    Ended(Ended),
}

const FAILED: u32 = 0x7275_0001;
const STOPPED: u32 = 0x7275_0002;
const ENDED: u32 = 0x7275_0003;

impl Message {
    pub(super) fn encode(self) -> [u8; MESSAGE_BYTES] {
        let (kind, number, words) = match self {
            Self::Failed(it) => (FAILED, it.index, [it.step as u64, it.errno as u64, 0, 0]),
            Self::Stopped => (STOPPED, 0, [0; 4]),
            Self::Ended(it) => (
                ENDED,
                it.status.cast_unsigned(),
                [it.user_ms, it.system_ms, it.peak_rss_kib, it.full],
            ),
        };
        let mut bytes = [0; MESSAGE_BYTES];
        let head = kind.to_le_bytes().into_iter().chain(number.to_le_bytes());
        let body = words.into_iter().flat_map(u64::to_le_bytes);
        for (slot, byte) in bytes.iter_mut().zip(head.chain(body)) {
            *slot = byte;
        }
        bytes
    }

    /// `None`: not a message of ours, which the supervisor treats as a broken sandbox.
    pub(super) fn decode(bytes: &[u8; MESSAGE_BYTES]) -> Option<Self> {
        let (head, body) = bytes.split_at(8);
        let (kind, number) = head.split_at(4);
        let kind = u32::from_le_bytes(kind.try_into().ok()?);
        let number = u32::from_le_bytes(number.try_into().ok()?);
        let mut words = [0_u64; 4];
        for (slot, chunk) in words.iter_mut().zip(body.chunks_exact(8)) {
            *slot = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        let [first, second, third, fourth] = words;
        match kind {
            FAILED => {
                let step = *Step::ALL.iter().find(|it| **it as u64 == first)?;
                let errno = Errno::from_raw(i32::try_from(second).ok()?);
                Some(Self::Failed(Failure { step, index: number, errno }))
            }
            STOPPED => Some(Self::Stopped),
            ENDED => Some(Self::Ended(Ended {
                status: number.cast_signed(),
                user_ms: first,
                system_ms: second,
                peak_rss_kib: third,
                full: fourth,
            })),
            _ => None,
        }
    }

    /// Sends the message; the caller decides what it means that nobody is listening.
    pub(super) fn send(self, to: std::os::fd::BorrowedFd<'_>) -> Result<(), Errno> {
        descriptor::write_all(to, &self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_reads_back() {
        let failures = Step::ALL
            .into_iter()
            .map(|step| Message::Failed(Failure { step, index: 7, errno: Errno::EPERM }));
        let ended =
            Ended { status: -1, user_ms: 5, system_ms: 6, peak_rss_kib: u64::MAX, full: 1 << 63 };
        for message in failures.chain([Message::Stopped, Message::Ended(ended)]) {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn noise_is_no_message() {
        assert_eq!(Message::decode(&[0; MESSAGE_BYTES]), None);
        assert_eq!(Message::decode(&[0xff; MESSAGE_BYTES]), None);
        let mut unknown_step = Message::Stopped.encode();
        unknown_step[0] = 1;
        unknown_step[8] = 200;
        assert_eq!(Message::decode(&unknown_step), None);
    }
}
