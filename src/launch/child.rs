//! What happens between the clone and the program: the whole list, in order.
//!
//! Two processes run this code. The first becomes init, pid 1 of the sandbox: it builds the
//! namespaces' contents while it holds the capabilities of the outer user namespace. The second is
//! cloned from it, gives up everything, and becomes the command. Only `sys` is called, nothing is
//! decided, nothing is built: the supervisor put everything into the [`Kit`]. The first step that
//! fails is reported and ends the sandbox, so a command that starts stands behind every wall.
//!
//! Neither has a copy of the supervisor's memory: each runs in it, on a stack of its own
//! (`CLONE_VM`), beside the supervisor and beside the other. Init reads the [`Kit`] until it ends; the
//! command's process reads it, and what init keeps for it on its stack, until it executes the
//! program, which has memory of its own. Both write to their own stacks only.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::init;
use super::kit::Kit;
use super::report::{Failure, Message, Step};
use super::{router, view};
use crate::plan::HOST_NAME;
use crate::sys::process::{self, NEW_CGROUP, NEW_MOUNT, NEW_USER, Sharing};
use crate::sys::{capability, descriptor, landlock, network, pty, seccomp};

/// Exit status of a process that could not do its part; the message says why.
const BROKEN: i32 = 125;

/// The life of init.
pub(super) fn main(kit: &Kit) -> ! {
    match sandbox(kit) {
        Ok(never) => match never {},
        Err(failure) => give_up(kit, failure),
    }
}

/// The life of the command's process until the program starts.
fn payload(start: &Start<'_>) -> ! {
    let failure = match become_command(start) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    give_up(start.kit, failure)
}

fn give_up(kit: &Kit, failure: Failure) -> ! {
    // If the pipe is gone as well nobody is left to tell; the exit status still says failure.
    _ = Message::Failed(failure).send(kit.status.as_fd());
    process::exit_now(BROKEN)
}

/// What the payload takes from init beyond the kit.
struct Start<'a> {
    kit: &'a Kit,
    /// Our end of the pseudo terminal, where there is one.
    terminal: Option<OwnedFd>,
}

/// Names the step that failed.
pub(super) fn at(step: Step) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, index: 0, errno }
}

/// Names the step and the element of its list that failed.
pub(super) fn at_index(step: Step, index: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, index: u32::try_from(index).unwrap_or(u32::MAX), errno }
}

/// Builds the sandbox around this process, starts the command's process in it, and becomes init.
fn sandbox(kit: &Kit) -> Result<Infallible, Failure> {
    for number in &kit.foreign {
        descriptor::close_between(*number, *number).map_err(at(Step::CloseInherited))?;
    }
    map_ids(kit).map_err(at(Step::IdMaps))?;
    // Before the view, because it needs the host's `/proc`.
    if let Some(kit) = &kit.router {
        router::build(kit).map_err(at(Step::Router))?;
    }
    // Modes below are meant as written; the command gets its own mask back.
    process::file_mask(0);
    let proc = view::build(&kit.view)?;
    if kit.loopback {
        network::loopback_up().map_err(at(Step::Loopback))?;
    }
    process::set_host_name(HOST_NAME).map_err(at(Step::HostName))?;
    forbid_namespaces(proc.as_fd()).map_err(at(Step::NamespaceLimits))?;
    // Mounts inherited from a more privileged mount namespace are locked: nobody below can unmount
    // them or make them writable again (mount_namespaces(7)).
    process::unshare(NEW_USER | NEW_MOUNT).map_err(at(Step::SecondUserNamespace))?;
    map_inner_ids(kit, proc.as_fd()).map_err(at(Step::SecondUserNamespace))?;
    // Still detached from every tree, so closing it would wait for all processors (RCU).
    view::leave_open(proc);
    // Out of the supervisor's process group and session, which signals could reach.
    process::new_session().map_err(at(Step::Session))?;
    process::new_session_keyring().map_err(at(Step::Session))?;
    let terminal = open_terminal(kit).map_err(at(Step::Terminal))?;
    wait_for_go(kit).map_err(at(Step::WaitForGo))?;
    add_inner_rules(kit)?;
    // Before the clone, so that there is no moment in which the command could attach to init.
    process::dumpable(false).map_err(at(Step::InitConfinement))?;
    process::set_signal_mask(!0).map_err(at(Step::InitConfinement))?;
    for number in 0..=kit.last_capability {
        process::drop_bounding(number).map_err(at(Step::Capabilities))?;
    }
    let start = Start { kit, terminal };
    let clone = Sharing::new(&start, payload).map_err(at(Step::PayloadFork))?;
    #[expect(unsafe_code, reason = "the second of the two clones")]
    // SAFETY: `payload` calls only `sys`, and this process, itself just cloned, has one thread.
    // `start` and `clone` stay where they are, because this function is not left any more.
    let child = unsafe { clone.start(0, kit.cgroup.as_ref().map(AsFd::as_fd)) };
    let child = child.map_err(at(Step::PayloadFork))?;
    init::run(kit, child.pid, start.terminal.as_ref().map(AsFd::as_fd))
}

fn map_ids(kit: &Kit) -> Result<(), Errno> {
    // A group map by an unprivileged user needs it (user_namespaces(7)), and without it a process
    // could drop a group that a file's mode denies.
    descriptor::put(descriptor::HERE, c"/proc/self/setgroups", b"deny")?;
    descriptor::put(descriptor::HERE, c"/proc/self/uid_map", &kit.uid_map)?;
    descriptor::put(descriptor::HERE, c"/proc/self/gid_map", &kit.gid_map)
}

/// Through the sandbox's own, still writable `/proc`; `setgroups` stays denied by inheritance.
fn map_inner_ids(kit: &Kit, proc: BorrowedFd<'_>) -> Result<(), Errno> {
    descriptor::put(proc.as_raw_fd(), c"1/uid_map", &kit.inner_uid_map)?;
    descriptor::put(proc.as_raw_fd(), c"1/gid_map", &kit.inner_gid_map)
}

/// One more user namespace, which this process takes itself, and then none: the kernel refuses to
/// make any (ENOSPC), whatever a filter overlooks. Without one nobody inside has the capability that
/// every other kind of namespace needs.
fn forbid_namespaces(proc: BorrowedFd<'_>) -> Result<(), Errno> {
    descriptor::put(proc.as_raw_fd(), c"sys/user/max_user_namespaces", b"1")
}

/// Opens a new pair of the sandbox's own `devpts`: the master goes to the supervisor.
fn open_terminal(kit: &Kit) -> Result<Option<OwnedFd>, Errno> {
    let Some(terminal) = &kit.terminal else { return Ok(None) };
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = descriptor::open_at(descriptor::HERE, c"/dev/pts/ptmx", flags, 0)?;
    let slave = pty::open_peer(master.as_fd())?;
    // Init leads the session, so that the command's group has a parent in it and can be stopped.
    descriptor::control_terminal(slave.as_fd())?;
    pty::send_descriptor(terminal.channel.as_fd(), master.as_fd())?;
    Ok(Some(slave))
}

/// The supervisor's word that the rules on host objects are in the ruleset.
fn wait_for_go(kit: &Kit) -> Result<(), Errno> {
    let mut go = [0];
    match descriptor::read(kit.control.as_fd(), &mut go)? {
        0 => Err(Errno::EOWNERDEAD),
        _ => Ok(()),
    }
}

fn add_inner_rules(kit: &Kit) -> Result<(), Failure> {
    let Some(ruleset) = &kit.ruleset else { return Ok(()) };
    for (index, (path, rights)) in kit.inner_rules.iter().enumerate() {
        let fail = at_index(Step::FileRules, index);
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let place = descriptor::open_at(descriptor::HERE, path, flags, 0).map_err(&fail)?;
        landlock::allow_beneath(ruleset.as_fd(), place.as_fd(), *rights).map_err(&fail)?;
    }
    Ok(())
}

/// Gives everything up and becomes the program. The order matters: securebits need a capability,
/// Landlock and seccomp need `no_new_privs`, and the filter comes last because it refuses some of
/// the calls before it.
fn become_command(start: &Start<'_>) -> Result<Infallible, Failure> {
    let kit = start.kit;
    if kit.cgroup.is_some() {
        // Init is in none: it could not have put this process where it cannot see.
        process::unshare(NEW_CGROUP).map_err(at(Step::Cgroup))?;
    }
    connect_streams(start).map_err(at(Step::Streams))?;
    for (index, (resource, value)) in kit.limits.iter().enumerate() {
        process::limit(*resource, *value).map_err(at_index(Step::ResourceLimits, index))?;
    }
    drop_privileges().map_err(at(Step::Capabilities))?;
    process::no_new_privs().map_err(at(Step::NoNewPrivs))?;
    process::file_mask(kit.file_mask);
    descriptor::enter_path(&kit.cwd).map_err(at(Step::WorkingDirectory))?;
    if let Some(ruleset) = &kit.ruleset {
        landlock::restrict_self(ruleset.as_fd()).map_err(at(Step::Landlock))?;
    }
    // The dispositions are the supervisor's, which has reset them all.
    process::set_signal_mask(0).map_err(at(Step::Signals))?;
    descriptor::close_at_exec(3).map_err(at(Step::Descriptors))?;
    wait_for_init(kit).map_err(at(Step::InitConfinement))?;
    load_filter(kit)?;
    Err(Failure { step: Step::Exec, index: 0, errno: kit.image.exec() })
}

/// Behind the filter, what a gate has to answer waits until it is there: the program's own exec too.
fn load_filter(kit: &Kit) -> Result<(), Failure> {
    let Some(channel) = &kit.gate else {
        return seccomp::load(&kit.filter).map_err(at(Step::Seccomp));
    };
    // The listener needs a number below the limit on open files, and what the view was made from may
    // have taken them all. This one has done its work.
    let done = kit.confined.0.as_raw_fd();
    descriptor::close_between(done, done).map_err(at(Step::Descriptors))?;
    let listener = seccomp::load_listening(&kit.filter).map_err(at(Step::Seccomp))?;
    pty::send_descriptor(channel.as_fd(), listener.as_fd()).map_err(at(Step::Gate))
}

/// Init confines itself while this process does, and where it fails nothing may run. It cannot end
/// without a word and leave this process waiting, which ends with it.
fn wait_for_init(kit: &Kit) -> Result<(), Errno> {
    let mut confined = [0];
    match descriptor::read(kit.confined.0.as_fd(), &mut confined)? {
        0 => Err(Errno::EOWNERDEAD),
        _ => Ok(()),
    }
}

fn connect_streams(start: &Start<'_>) -> Result<(), Errno> {
    if let (Some(slave), Some(terminal)) = (&start.terminal, &start.kit.terminal) {
        // A group of its own, in the foreground of its terminal; every signal is still blocked,
        // which keeps SIGTTOU away.
        process::new_group()?;
        pty::take_foreground(slave.as_fd())?;
        for number in 0..terminal.streams {
            descriptor::put_at(slave.as_fd(), number)?;
        }
    }
    if start.terminal.is_none() {
        // Out of init's session too: no signal to a group reaches anybody else.
        process::new_session()?;
    }
    for (number, stream) in (0..).zip(&start.kit.streams) {
        if let Some(stream) = stream {
            descriptor::put_at(stream.as_fd(), number)?;
        }
    }
    Ok(())
}

/// No capability in any set, and none to be had again, not even by becoming uid 0. The bounding set
/// has been emptied by init and is inherited.
pub(super) fn drop_privileges() -> Result<(), Errno> {
    /// `NOROOT`, `NO_SETUID_FIXUP`, `NO_CAP_AMBIENT_RAISE`, each with its lock; `KEEP_CAPS` locked off
    /// (linux/securebits.h).
    const BITS: u32 = 0b1110_1111;
    process::clear_ambient()?;
    process::securebits(BITS)?;
    capability::drop_all()
}
