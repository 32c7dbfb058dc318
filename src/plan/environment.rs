//! The command's environment, built from nothing.
//!
//! No variable is inherited. What passes is named by the profile, what is set has a line to show
//! for it, and later sources win: passed, toolchain, profile, rung's own, the program's pack. A
//! variable that makes other programs load or run code never passes, because its value is the
//! caller's and the caller may be the agent.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::egress::{AUTHORITIES, EgressPlan, VARIABLES};
use super::paths::expand;
use super::{PlanError, Variable};
use crate::model::{Arg, HostFacts, Origin, Request};
use crate::policy::Permit;
use crate::profile::Profile;

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Rung gives these a value of its own.
const OWN: [&str; 9] =
    ["HOME", "LOGNAME", "PATH", "PWD", "RUNG_LEVEL", "RUNG_RUN", "SHELL", "TMPDIR", "USER"];

/// Code by way of the environment, or a way to a process outside. A name that ends in `*` is a
/// prefix.
const DANGEROUS: [&str; 38] = [
    "BASHOPTS",
    "BASH_ENV",
    "BASH_FUNC_*",
    "CDPATH",
    "DBUS_*",
    "DISPLAY",
    "DOCKER_HOST",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "GIT_*",
    "GLOBIGNORE",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LD_*",
    "LESSCLOSE",
    "LESSOPEN",
    "MAKEFLAGS",
    "MANPAGER",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PERL5*",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC_*",
    "SHELLOPTS",
    "SSH_*",
    "VISUAL",
    "XDG_RUNTIME_DIR",
    "_JAVA_OPTIONS",
];

/// Exceptions from the prefixes above: plain text for commits and messages.
const HARMLESS: [&str; 3] = ["GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_TERMINAL_PROMPT"];

/// Not even the profile may set these: they would be code in every program of the run.
const NEVER: [&str; 3] = ["LD_AUDIT", "LD_PRELOAD", "BASH_FUNC_*"];

type Variables = BTreeMap<String, Variable>;

pub(super) fn build(
    permit: &Permit,
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
    egress: Option<&EgressPlan>,
) -> Result<Variables, PlanError> {
    let mut variables = passed(request, profile)?;
    for toolchain in &profile.filesystem.toolchains {
        for (name, value) in &toolchain.environment {
            choose(&mut variables, name, value, &toolchain.origin)?;
        }
    }
    for (name, setting) in &profile.environment.set {
        choose(&mut variables, name, &setting.value, &setting.origin)?;
    }
    for (name, value) in own(request, profile, host)? {
        set(&mut variables, name, &value, &Origin::built_in("every run has its own"))?;
    }
    let files = egress.map(EgressPlan::own_files);
    let authorities = files.and_then(|it| it.authorities);
    for (name, because) in VARIABLES.iter().zip(authorities.iter().cycle()) {
        set(&mut variables, name, AUTHORITIES, because)?;
    }
    for credential in egress.iter().flat_map(|it| &it.credentials) {
        if let Some(name) = &credential.variable {
            choose(&mut variables, name, &credential.mark(), &credential.because)?;
        }
    }
    if !variables.contains_key("TERM") {
        set(&mut variables, "TERM", "dumb", &Origin::built_in("the caller's did not pass"))?;
    }
    for (name, value) in permit.force_environment() {
        set(&mut variables, name, value, permit.origin())?;
    }
    Ok(variables)
}

fn passed(request: &Request, profile: &Profile) -> Result<Variables, PlanError> {
    let mut variables = Variables::new();
    for entry in &profile.environment.pass {
        let prefix = entry.name.strip_suffix('*');
        let refuse = |why: &str| PlanError::Entry {
            name: entry.name.clone(),
            because: entry.origin.clone(),
            why: why.to_owned(),
        };
        if !is_name(prefix.unwrap_or(&entry.name)) {
            return Err(refuse("that is no name of an environment variable"));
        }
        if prefix.is_none() && is_dangerous(&entry.name) {
            return Err(refuse("its value would be code, or a way out, and the caller chooses it"));
        }
        if prefix.is_none() && OWN.contains(&entry.name.as_str()) {
            return Err(refuse("rung gives it a value of its own"));
        }
        let Some(prefix) = prefix else {
            if let Some(value) = request.environment.get(&entry.name) {
                variables.insert(entry.name.clone(), variable(value, &entry.origin));
            }
            continue;
        };
        // Names with the prefix stand together.
        let from = request.environment.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (name, value) in from.take_while(|(name, _)| name.starts_with(prefix)) {
            if is_name(name) && !OWN.contains(&name.as_str()) && !is_dangerous(name) {
                variables.insert(name.clone(), variable(value, &entry.origin));
            }
        }
    }
    Ok(variables)
}

fn variable(value: &Arg, because: &Origin) -> Variable {
    Variable { value: value.clone(), because: because.clone() }
}

/// What rung sets in every run.
fn own(
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
) -> Result<Vec<(&'static str, String)>, PlanError> {
    let text = |path: &PathBuf| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(PlanError::NotText { path: path.clone() }),
    };
    let user = match request.environment.get("USER").and_then(Arg::as_str) {
        Some(name) if !host.is_root() && !name.is_empty() => name.to_owned(),
        Some(_) | None if host.is_root() => "nobody".to_owned(),
        Some(_) | None => "user".to_owned(),
    };
    Ok(vec![
        ("HOME", text(&request.home)?),
        ("LOGNAME", user.clone()),
        ("PATH", joined(&search_path(&request.home, profile, host)?)),
        ("PWD", text(&request.cwd)?),
        ("RUNG_LEVEL", request.level.to_string()),
        ("RUNG_RUN", request.ids.run.clone()),
        ("SHELL", "/bin/sh".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("USER", user),
    ])
}

/// Where the command's programs are looked for: the toolchains' directories that exist, in the
/// profile's order, then the system's.
pub fn search_path(
    home: &Path,
    profile: &Profile,
    host: &HostFacts,
) -> Result<Vec<PathBuf>, PlanError> {
    let mut directories = Vec::new();
    for toolchain in &profile.filesystem.toolchains {
        for spelled in &toolchain.search_path {
            let refuse = |why: &str| PlanError::Entry {
                name: spelled.clone(),
                because: toolchain.origin.clone(),
                why: why.to_owned(),
            };
            let path = expand(spelled, home).ok_or_else(|| {
                refuse("write an absolute path, or one that begins with `~/`, without `..`")
            })?;
            if host.path(&path).is_none() {
                continue;
            }
            if path.to_str().is_none_or(|text| text.contains(':')) {
                return Err(refuse(
                    "a search path holds neither colons nor bytes that are no text",
                ));
            }
            directories.push(path);
        }
    }
    directories.extend(SEARCH_PATH.split(':').map(PathBuf::from));
    Ok(directories)
}

fn joined(directories: &[PathBuf]) -> String {
    let texts: Vec<_> = directories.iter().filter_map(|it| it.to_str()).collect();
    texts.join(":")
}

/// Sets what a profile or a pack asks for, which is never one of rung's own.
fn choose(
    variables: &mut Variables,
    name: &str,
    value: &str,
    because: &Origin,
) -> Result<(), PlanError> {
    if OWN.contains(&name) {
        let why = "rung gives it a value of its own".to_owned();
        return Err(PlanError::Entry { name: name.to_owned(), because: because.clone(), why });
    }
    set(variables, name, value, because)
}

fn set(
    variables: &mut Variables,
    name: &str,
    value: &str,
    because: &Origin,
) -> Result<(), PlanError> {
    let refuse = |why: &str| PlanError::Entry {
        name: name.to_owned(),
        because: because.clone(),
        why: why.to_owned(),
    };
    if !is_name(name) {
        return Err(refuse("that is no name of an environment variable"));
    }
    if is_listed(&NEVER, name) {
        return Err(refuse("it would put code into every program of the run"));
    }
    let value = Arg::try_from(value).map_err(|error| refuse(&error.to_string()))?;
    variables.insert(name.to_owned(), Variable { value, because: because.clone() });
    Ok(())
}

fn is_name(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|it| it.is_ascii_alphabetic() || it == b'_')
        && letters.all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

fn is_dangerous(name: &str) -> bool {
    is_listed(&DANGEROUS, name) && !is_listed(&HARMLESS, name)
}

fn is_listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|it| match it.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *it == name,
    })
}
