//! A program that tries one thing and says by its exit code what became of it.
//!
//! The tests start it outside and inside the sandbox and compare. 0: it worked. 1 to 133: it did
//! not, and the code is the errno. Codes from 200 on are its own: see [`Unclear`]. It depends on
//! nothing that lies in a file, so it says the same wherever it runs.
//!
//! `probe -- do STEP , STEP ...` makes system calls one after the other (see [`steps`]), `probe --
//! as-root do ...` makes them with every capability in namespaces of its own, and the other words
//! are acts that no list of calls can express (see [`acts`], and [`exec`] for starting programs).
#![expect(unsafe_code, reason = "what it tries are system calls, also those that no library makes")]

mod acts;
mod canary;
mod exec;
mod steps;
mod system;
mod talk;

use std::ffi::OsString;
use std::process::ExitCode;

/// Neither "it worked" nor "the kernel refused".
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Unclear {
    /// The test's own mistake: no such act, no such call, a word that means nothing.
    Usage = 200,
    /// The kernel did not refuse, but nothing came of it.
    NoEffect = 201,
    /// It could not be tried: something it needs beforehand failed.
    NotTried = 202,
    /// There is no such host.
    NoName = 203,
}

/// Why something did not work.
#[derive(Debug, Clone, Copy)]
enum Refused {
    By(i32),
    Not(Unclear),
}

type Tried = Result<(), Refused>;

impl From<i32> for Refused {
    fn from(errno: i32) -> Self {
        Self::By(errno)
    }
}

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|it| it == "--") {
        words.remove(0);
    }
    match acts::act(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refused::By(errno)) => ExitCode::from(u8::try_from(errno).unwrap_or(u8::MAX)),
        Err(Refused::Not(unclear)) => ExitCode::from(unclear as u8),
    }
}
