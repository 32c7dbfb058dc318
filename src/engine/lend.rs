//! Fetches the secrets of a run's credentials, and makes what stands for them inside.
//!
//! Here, outside of every sandbox, and nowhere else: what is fetched goes to the gateway and is then
//! wiped out in this process. A secret that cannot be had is a run that does not start.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{EngineError, Surroundings};
use crate::egress::Lent;
use crate::host;
use crate::plan::egress::{CredentialPlan, Source};
use crate::plan::expand;
use crate::sys::keyring;

const SECRET_BYTES_MAX: usize = 8 << 10;
/// A shorter one would be found in every answer.
const SECRET_BYTES_MIN: usize = 8;
/// For a command that prints one.
const COMMAND: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// The secrets of all credentials, in the plan's order.
pub(super) fn lend(
    plans: &[CredentialPlan],
    around: &Surroundings,
) -> Result<Vec<Lent>, EngineError> {
    plans.iter().map(|it| one(it, around)).collect()
}

/// What the run has in the place of each.
pub(super) fn placeholders(plans: &[CredentialPlan], lent: &[Lent]) -> BTreeMap<String, String> {
    let pairs = plans.iter().zip(lent);
    pairs.map(|(plan, lent)| (plan.mark(), lent.placeholder.clone())).collect()
}

fn one(plan: &CredentialPlan, around: &Surroundings) -> Result<Lent, EngineError> {
    let failed = |why: String| EngineError::Credential { name: plan.name.clone(), why };
    let random: [u8; 16] = host::random()?;
    let number = u128::from_ne_bytes(random);
    let fetched = match &plan.source {
        Source::File(path) => from_file(path, around),
        Source::Variable(name) => from_variable(name, around),
        Source::Command(words) => from_command(words),
        Source::Key(description) => from_key(description),
    };
    let mut secret = fetched.map_err(failed)?;
    while secret.last().is_some_and(u8::is_ascii_whitespace) {
        secret.pop();
    }
    let lent = Lent { placeholder: format!("rung-credential-{number:032x}"), secret };
    let length = lent.secret.len();
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&length) {
        return Err(failed(format!(
            "it has {length} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are expected"
        )));
    }
    if !lent.secret.iter().all(|it| (b' '..=b'~').contains(it)) {
        return Err(failed("it has bytes that no header can carry".to_owned()));
    }
    Ok(lent)
}

fn from_file(spelled: &str, around: &Surroundings) -> Result<Vec<u8>, String> {
    let path =
        expand(spelled, &around.home).ok_or_else(|| format!("`{spelled}` is no absolute path"))?;
    let said = |error: std::io::Error| format!("`{}`: {error}", path.display());
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(said)?;
    let found = file.metadata().map_err(said)?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_file() || !own || found.mode() & 0o077 != 0 {
        return Err(format!(
            "`{}` must be a file of yours that nobody else may read: `chmod 600`",
            path.display()
        ));
    }
    bounded(file).map_err(said)
}

fn from_variable(name: &str, around: &Surroundings) -> Result<Vec<u8>, String> {
    let value = around.environment.get(std::ffi::OsStr::new(name));
    value.map(|it| it.as_bytes().to_vec()).ok_or_else(|| format!("there is no variable `{name}`"))
}

fn from_key(description: &str) -> Result<Vec<u8>, String> {
    let name =
        CString::new(description).map_err(|_| "its description has a NUL byte".to_owned())?;
    let mut bytes = vec![0; SECRET_BYTES_MAX + 1];
    let length = keyring::user_key(&name, &mut bytes).map_err(|errno| {
        format!(
            "the key `{description}` of your keyring cannot be read: {}; \
             `keyctl padd user {description} @u` adds it",
            errno.desc()
        )
    })?;
    bytes.truncate(length);
    Ok(bytes)
}

fn bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SECRET_BYTES_MAX + 2);
    let most = u64::try_from(SECRET_BYTES_MAX + 1).unwrap_or(u64::MAX);
    from.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a program of the host prints, which is ended when it takes too long.
fn from_command(words: &[String]) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = words else { return Err("its command is empty".to_owned()) };
    let said = |error: std::io::Error| format!("`{program}`: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(said)?;
    let printed = printed(&mut child, Instant::now() + COMMAND);
    if printed.is_err() {
        // Fails only when it has ended already.
        drop(child.kill());
    }
    let status = child.wait().map_err(said)?;
    let printed = printed.map_err(|why| format!("`{program}` {why}"))?;
    if status.success() { Ok(printed) } else { Err(format!("`{program}` failed: {status}")) }
}

fn printed(child: &mut Child, until: Instant) -> Result<Vec<u8>, String> {
    let late = || format!("took longer than {} s", COMMAND.as_secs());
    let Some(mut output) = child.stdout.take() else { return Err("has no output".to_owned()) };
    let mut bytes = Vec::with_capacity(SECRET_BYTES_MAX + 2);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).map_err(|_| late())?;
        let mut one = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut one, wait).map_err(|errno| errno.to_string())? == 0 {
            return Err(late());
        }
        let mut part = [0; 1024];
        let read = output.read(&mut part).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(part.get(..read).unwrap_or_default());
        part.fill(0);
        if read == 0 {
            break;
        }
        if bytes.len() > SECRET_BYTES_MAX {
            return Err(format!("prints more than {SECRET_BYTES_MAX} bytes"));
        }
    }
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > until {
            return Err(late());
        }
        std::thread::sleep(LOOK);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
        from_command(&words).map(|it| String::from_utf8(it).unwrap())
    }

    #[test]
    fn a_command_gives_what_it_prints() {
        assert_eq!(command(&["printf", "token"]).unwrap(), "token");
        assert!(command(&["false"]).unwrap_err().contains("failed"));
        assert!(command(&["no-such-program"]).is_err());
        assert!(command(&["yes"]).unwrap_err().contains("more than 8192 bytes"));
    }
}
