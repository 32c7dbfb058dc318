//! A long answer, one screen after the other.
//!
//! Only where somebody reads along on a terminal, and only by the `less` of the system: no variable
//! and no setting names another, because an agent may have written it. It gets an environment of its
//! own, in which it starts nothing, writes nothing and reads no settings.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::words::answer;
use crate::engine::Surroundings;

const PAGERS: [&str; 2] = ["/usr/bin/less", "/bin/less"];
/// What it may have of the caller's, to know its terminal.
const PASSED: [&str; 5] = ["TERM", "LANG", "LC_ALL", "LC_CTYPE", "COLORTERM"];

/// Prints; page by page if `paged` and if there is somebody to turn them.
pub(super) fn answer_paged(text: &str, paged: bool, around: &Surroundings) -> ExitCode {
    if paged && io::stdout().is_terminal() && io::stdin().is_terminal() {
        let found = PAGERS.iter().find(|it| Path::new(it).exists());
        if let Some(pager) = found
            && page(pager, text, around).is_ok()
        {
            return ExitCode::SUCCESS;
        }
    }
    answer(text)
}

fn page(pager: &str, text: &str, around: &Surroundings) -> io::Result<()> {
    let mut command = Command::new(pager);
    // Quit if it fits, show colours, leave the screen as it is.
    command.arg("-FRX").env_clear().env("LESSSECURE", "1").env("LESSNOCONFIG", "1");
    command.env("LESSHISTFILE", "-").env("PATH", "/usr/bin:/bin").stdin(Stdio::piped());
    for name in PASSED {
        if let Some(value) = around.environment.get(std::ffi::OsStr::new(name)) {
            command.env(name, value);
        }
    }
    let mut started = command.spawn()?;
    if let Some(mut input) = started.stdin.take() {
        match input.write_all(text.as_bytes()) {
            // Its reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    started.wait().map(drop)
}
