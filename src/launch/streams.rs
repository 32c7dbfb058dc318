//! What the command gets as its three streams.
//!
//! Files, pipes and sockets are the caller's own affair and are handed on untouched. A terminal is
//! not: who holds it can write to it what it acts on, read what its user types elsewhere, and leave
//! it without echo. Where all of the conversation is a terminal the command has one of its own;
//! where only some of it is, what the command prints passes through rung and what it reads is
//! empty. A directory is refused: it leads past the mounts of the view.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::isatty;

use super::output::{Ends, Relay, is_one_place};
use super::{LaunchError, kit, pipe};
use crate::model::{Bytes, Streams};
use crate::plan::{SandboxPlan, WhenFull};
use crate::sys::descriptor;

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// What takes the place of the caller's streams, and what passes on what the command prints, where
/// that is needed at all.
pub(super) fn of(plan: &SandboxPlan) -> Result<([Option<OwnedFd>; 3], Option<Relay>), LaunchError> {
    let caller = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let caller = [caller.0.as_fd(), caller.1.as_fd(), caller.2.as_fd()];
    for (name, stream) in NAMES.into_iter().zip(caller) {
        refuse_directory(name, stream)?;
    }
    if kit::wants_terminal(plan) {
        return Ok(([None, None, None], None));
    }
    let is_terminal = match plan.streams {
        Streams::RawInherit => [false; 3],
        Streams::Inherit | Streams::Terminal | Streams::RawTerminal => caller.map(may_be_terminal),
    };
    let [input, output, error] = is_terminal;
    let nothing = if input { Some(nothing()?) } else { None };
    let limit = plan.output.max.as_ref().map(|it| it.max);
    let passed = |is_terminal: bool| is_terminal || limit.is_some();
    let max = limit.unwrap_or(Bytes(u64::MAX));
    let when_full = if limit.is_some() { plan.output.when_full } else { WhenFull::Stop };
    let ([output_end, error_end], ends) =
        ends((passed(output), output), (passed(error), error), caller)?;
    let relay = match ends {
        [Some(first), second] => Some(Relay::open(max, when_full, first, second)?),
        [None, Some(only)] => Some(Relay::open(max, when_full, only, None)?),
        [None, None] => None,
    };
    Ok(([nothing, output_end, error_end], relay))
}

/// Whether the command's error stream stays the caller's own where it has a terminal for the rest:
/// somebody has led it elsewhere.
pub(super) fn error_is_elsewhere() -> bool {
    !may_be_terminal(std::io::stderr().as_fd())
}

/// What will not say is taken for one: so does a terminal whose other end has hung up.
fn may_be_terminal(stream: BorrowedFd<'_>) -> bool {
    isatty(stream).unwrap_or(true)
}

type Outputs<T> = [Option<T>; 2];

/// The command's ends of the outputs that are passed on, and rung's. One pipe serves both where
/// they lead to one place, so that their order is true.
fn ends(
    output: (bool, bool),
    error: (bool, bool),
    [_, caller_output, caller_error]: [BorrowedFd<'_>; 3],
) -> Result<(Outputs<OwnedFd>, Outputs<Ends>), LaunchError> {
    let make = |(passed, filtered): (bool, bool), number: i32| {
        if !passed {
            return Ok::<_, LaunchError>((None, None));
        }
        let sink = descriptor::inherited(number)
            .map_err(|errno| LaunchError::Supervise { doing: "taking the output", errno })?;
        let (source, writer) = pipe()?;
        Ok((Some(writer), Some(Ends::new(source, sink, filtered))))
    };
    let (writer, first) = make(output, 1)?;
    let (error_writer, second) = match &writer {
        Some(writer) if error.0 && is_one_place(caller_output, caller_error)? => {
            let copy = writer.try_clone().map_err(|error| LaunchError::Supervise {
                doing: "taking the output",
                errno: Errno::try_from(error).unwrap_or(Errno::EIO),
            })?;
            (Some(copy), None)
        }
        Some(_) | None => make(error, 2)?,
    };
    Ok(([writer, error_writer], [first, second]))
}

/// Where the user's terminal would have been read.
fn nothing() -> Result<OwnedFd, LaunchError> {
    let opened = File::open("/dev/null").map_err(|error| LaunchError::Supervise {
        doing: "opening /dev/null",
        errno: Errno::try_from(error).unwrap_or(Errno::EIO),
    })?;
    Ok(opened.into())
}

/// A directory that the caller has opened leads past the mounts of the view: to names beside it, and
/// under it to what is masked or only readable inside.
fn refuse_directory(name: &'static str, stream: BorrowedFd<'_>) -> Result<(), LaunchError> {
    let facts = descriptor::identity(stream.as_raw_fd(), c"")
        .map_err(|errno| LaunchError::Supervise { doing: "looking at the streams", errno })?;
    if facts.mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(LaunchError::DirectoryStream(name));
    }
    Ok(())
}
