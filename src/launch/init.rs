//! Pid 1 of the sandbox: reaps, passes signals on, and ends everything when it is time.
//!
//! It holds nothing and can do nothing: no capabilities, an empty Landlock domain, a filter of a
//! dozen calls, not dumpable, so the command can neither attach to it nor gain by it. It ends with
//! its supervisor, because the control pipe closes whatever way the supervisor dies; and when it
//! ends, the kernel kills what is left in the namespace.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::child::{at, drop_privileges};
use super::kit::Kit;
use super::limits;
use super::report::{Ended, Failure, Message, Step};
use crate::sys::{descriptor, landlock, process, seccomp};

/// Exit status where init itself could not go on.
const BROKEN: i32 = 125;

/// Marks a signal that is not for the command's group alone.
pub(super) const TO_EVERYBODY: u8 = 0x80;

/// How many signals of the supervisor are taken at a time.
const SIGNALS_MAX: usize = 16;

/// Init's ends of what connects it with the supervisor.
struct Wires<'a> {
    control: BorrowedFd<'a>,
    status: BorrowedFd<'a>,
}

/// The life of init once the command's process exists.
pub(super) fn run(kit: &Kit, payload: i32, terminal: Option<BorrowedFd<'_>>) -> ! {
    let children = match confine(kit) {
        Ok(children) => children,
        Err(failure) => {
            // The command's process dies with this one, the first of its namespace.
            _ = Message::Failed(failure).send(kit.status.as_fd());
            process::exit_now(BROKEN)
        }
    };
    let wires = Wires { control: kit.control.as_fd(), status: kit.status.as_fd() };
    let kept = [&wires.control, &wires.status, &children.as_fd()].map(AsRawFd::as_raw_fd);
    if let Err(errno) = keep_only(kept, terminal) {
        _ = Message::Failed(at(Step::InitConfinement)(errno)).send(wires.status);
        process::exit_now(BROKEN)
    }
    let status = supervise(&wires, payload, children.as_fd());
    finish(&wires, status, full(&kit.places))
}

fn confine(kit: &Kit) -> Result<std::os::fd::OwnedFd, Failure> {
    let fail = at(Step::InitConfinement);
    process::set_name(c"rung-init").map_err(&fail)?;
    let children = process::signal_fd(process::mask_of(libc::SIGCHLD)).map_err(&fail)?;
    drop_privileges().map_err(&fail)?;
    process::no_new_privs().map_err(&fail)?;
    if let Some(ruleset) = &kit.init_ruleset {
        landlock::restrict_self(ruleset.as_fd()).map_err(&fail)?;
    }
    seccomp::load(&kit.init_filter).map_err(&fail)?;
    descriptor::write_all(kit.confined.1.as_fd(), b"c").map_err(&fail)?;
    Ok(children)
}

/// Closes the streams, of which the command has its own copies, and everything that building the
/// view left open. The terminal stays, so that the pair does not hang up before the end.
fn keep_only(kept: [i32; 3], terminal: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let [control, status, children] = kept;
    // Twice the same is one gap of nothing.
    let terminal = terminal.map_or(control, |it| it.as_raw_fd());
    let mut kept = [control, status, children, terminal];
    kept.sort_unstable();
    let mut first = 0;
    for number in kept {
        descriptor::close_between(first, number - 1)?;
        first = number + 1;
    }
    descriptor::close_between(first, i32::MAX)
}

/// Until the command's process has ended, or nobody wants it any more. Returns its status.
fn supervise(wires: &Wires<'_>, payload: i32, children: BorrowedFd<'_>) -> i32 {
    let entry = |number| libc::pollfd { fd: number, events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(children.as_raw_fd()), entry(wires.control.as_raw_fd())];
    loop {
        if let Some(status) = reap(wires, payload) {
            return status;
        }
        match process::poll(&mut entries, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => process::exit_now(BROKEN),
        }
        let [child, control] = &entries;
        if child.revents != 0 {
            let mut info = [0; 128];
            // What it says is found out by waiting; it only has to be taken out of the queue.
            _ = descriptor::read(children, &mut info);
        }
        if control.revents != 0 {
            pass_on(wires, payload);
        }
    }
}

/// Collects every child that has ended. A child that only stopped because it made this process its
/// tracer (`PTRACE_TRACEME`) is sent on its way: it has not ended.
fn reap(wires: &Wires<'_>, payload: i32) -> Option<i32> {
    loop {
        match process::wait_any(false) {
            Ok(Some((pid, status))) if libc::WIFSTOPPED(status) => {
                let traced = process::continue_tracee(pid, libc::WSTOPSIG(status));
                // Not a tracee: job control has stopped it.
                if traced.is_err() && pid == payload && Message::Stopped.send(wires.status).is_err()
                {
                    process::exit_now(BROKEN);
                }
            }
            Ok(Some((pid, status))) if pid == payload => return Some(status),
            Ok(Some(_)) => {}
            Ok(None) => return None,
            // No child at all although the command's was never seen to end.
            Err(_) => {
                _ = Message::Failed(Failure {
                    step: Step::InitConfinement,
                    index: 1,
                    errno: Errno::ECHILD,
                })
                .send(wires.status);
                process::exit_now(BROKEN)
            }
        }
    }
}

/// Gives the supervisor's signals to whom they are for; ends when the supervisor has.
fn pass_on(wires: &Wires<'_>, payload: i32) {
    let mut signals = [0; SIGNALS_MAX];
    match descriptor::read(wires.control, &mut signals) {
        Ok(0) | Err(_) => process::exit_now(BROKEN),
        Ok(count) => {
            for signal in signals.iter().take(count) {
                if signal & TO_EVERYBODY != 0 {
                    // Nobody left is nobody to tell.
                    _ = process::kill(-1, i32::from(signal & !TO_EVERYBODY));
                    continue;
                }
                // The command's process may not have made its group yet, and both may have ended in
                // this moment.
                if process::kill(-payload, i32::from(*signal)) == Err(Errno::ESRCH) {
                    _ = process::kill(payload, i32::from(*signal));
                }
            }
        }
    }
}

/// Which of the run's own file systems are full, before what is in them is gone with its owners.
fn full(places: &[CString]) -> u64 {
    let mut full = 0;
    for (index, place) in places.iter().enumerate() {
        // What cannot be asked is not full: no limit is kept here.
        if let Ok(left) = descriptor::space(place) {
            full |= limits::bits(index, left.blocks == 0, left.files == 0);
        }
    }
    full
}

/// Ends everything that is left, then says so, then goes.
fn finish(wires: &Wires<'_>, status: i32, full: u64) -> ! {
    // Where nobody may be killed there is nothing to wait for: the kernel ends whoever is left when
    // this process does, and the supervisor waits for that.
    if process::kill(-1, libc::SIGKILL).is_ok() {
        while process::wait_any(true).is_ok() {}
    }
    let (user_ms, system_ms, peak_rss_kib) = process::children_usage();
    let ended = Ended { status, user_ms, system_ms, peak_rss_kib, full };
    if Message::Ended(ended).send(wires.status).is_err() {
        process::exit_now(BROKEN)
    }
    process::exit_now(0)
}
