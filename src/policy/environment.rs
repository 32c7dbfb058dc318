//! Which variables an exec of the sandbox may carry.
//!
//! A variable can make an allowed program run other code than its words say: `LD_PRELOAD`,
//! `BASH_ENV`, `GIT_SSH_COMMAND`. Such names are listed here. One of them passes with the value
//! that the plan has given it, and with no other; every name that is not listed passes.

use std::collections::BTreeMap;

use crate::model::Arg;
use crate::policy::callers::Callers;
use crate::profile::Profile;

/// Nothing in a sandbox may carry these, whoever has set them: they are code in every program.
const NEVER: [&str; 2] = ["LD_AUDIT", "LD_PRELOAD"];

/// Names that are code, choose code, or lead to a secret or a server. One that ends in `*` is a
/// prefix. In the order of their bytes.
const GUARDED: [&str; 136] = [
    "ALL_PROXY",
    "AR",
    "AS",
    "AWS_*",
    "AZURE_*",
    "BASHOPTS",
    "BASH_ENV",
    "BASH_FUNC_*",
    "BROWSER",
    "BZIP2",
    "CARGO_ALIAS_*",
    "CARGO_BUILD_*",
    "CARGO_HOME",
    "CARGO_TARGET_*",
    "CC",
    "CDPATH",
    "CGO_*",
    "CLASSPATH",
    "CLOUDSDK_*",
    "COREPACK_*",
    "CPP",
    "CURL_HOME",
    "CXX",
    "DBUS_*",
    "DISPLAY",
    "DOCKER_*",
    "EDITOR",
    "EMACS*",
    "ENV",
    "EXINIT",
    "FPATH",
    "GCONV_PATH",
    "GH_*",
    "GITHUB_TOKEN",
    "GIT_*",
    "GLIBC_TUNABLES",
    "GLOBIGNORE",
    "GNUMAKEFLAGS",
    "GNUPGHOME",
    "GOENV",
    "GOFLAGS",
    "GOOGLE_*",
    "GOPROXY",
    "GOTOOLCHAIN",
    "GRADLE_OPTS",
    "GREP_OPTIONS",
    "GZIP",
    "HELM_*",
    "HISTFILE",
    "HOME",
    "HOSTCC",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "INPUTRC",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "KUBECONFIG",
    "LD",
    "LD_*",
    "LESS*",
    "LOCPATH",
    "LUA_*",
    "MAKEFILES",
    "MAKEFLAGS",
    "MALLOC_*",
    "MANPAGER",
    "MAVEN_OPTS",
    "MYSQL_*",
    "MYVIMRC",
    "NLSPATH",
    "NM",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_*",
    "NO_PROXY",
    "NPM_CONFIG_*",
    "OPENSSL_*",
    "PAGER",
    "PATH",
    "PERL5*",
    "PERLIO_DEBUG",
    "PERLLIB",
    "PG*",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PKG_CONFIG",
    "PKG_CONFIG_PATH",
    "POSIXLY_CORRECT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONBREAKPOINT",
    "PYTHONCASEOK",
    "PYTHONEXECUTABLE",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONPLATLIBDIR",
    "PYTHONPYCACHEPREFIX",
    "PYTHONSAFEPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RANLIB",
    "REDIS*",
    "RSYNC_*",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC*",
    "RUSTUP_*",
    "SHELLOPTS",
    "SSH_*",
    "SSL_*",
    "STRIP",
    "SUDO_*",
    "SYSTEMD_*",
    "TAR_OPTIONS",
    "TERMCAP",
    "TERMINFO*",
    "TF_*",
    "VAULT_*",
    "VIMINIT",
    "VISUAL",
    "WGETRC",
    "XDG_CONFIG_*",
    "XDG_RUNTIME_DIR",
    "XZ_*",
    "YARN_*",
    "ZDOTDIR",
    "ZIPOPT",
    "_JAVA_OPTIONS",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "npm_config_*",
];

/// Exceptions from the prefixes above: plain text for commits and messages.
const HARMLESS: [&str; 3] = ["GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_TERMINAL_PROMPT"];

/// An entry that the program must not get.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadVariable<'a> {
    /// No `=`, or nothing before it, so that two readers may see two things.
    Malformed { entry: &'a Arg },
    /// Code in every program.
    Never { name: String },
    /// Guarded, and neither what the plan has set nor declared by a program above.
    NotGiven { name: String },
}

/// The first entry that must not pass.
pub(super) fn bad_variable<'a>(
    entries: &'a [Arg],
    given: &BTreeMap<String, Arg>,
    callers: &Callers<'_>,
    profile: &Profile,
) -> Option<BadVariable<'a>> {
    entries.iter().find_map(|entry| judge(entry, given, callers, profile))
}

fn judge<'a>(
    entry: &'a Arg,
    given: &BTreeMap<String, Arg>,
    callers: &Callers<'_>,
    profile: &Profile,
) -> Option<BadVariable<'a>> {
    let bytes = entry.as_bytes();
    let Some((name, value)) = bytes
        .iter()
        .position(|it| *it == b'=')
        .filter(|it| *it > 0)
        .and_then(|it| Some((bytes.get(..it)?, bytes.get(it + 1..)?)))
    else {
        return Some(BadVariable::Malformed { entry });
    };
    if !is_guarded(name) {
        return None;
    }
    let shown = || String::from_utf8_lossy(name).into_owned();
    if NEVER.iter().any(|it| it.as_bytes() == name) {
        return Some(BadVariable::Never { name: shown() });
    }
    let name_text = std::str::from_utf8(name).ok();
    let known = name_text.and_then(|it| given.get(it));
    match known {
        Some(expected) if expected.as_bytes() == value => None,
        Some(_) | None if is_set_above(name, callers, profile) => None,
        Some(_) | None => Some(BadVariable::NotGiven { name: shown() }),
    }
}

/// Whether something above is known to set the variable for what it starts.
fn is_set_above(name: &[u8], callers: &Callers<'_>, profile: &Profile) -> bool {
    let programs = callers.above.iter().filter_map(|it| profile.exec.programs.get(*it));
    let mut declared = programs.flat_map(|it| &it.sets_environment);
    let mut workspace = profile.environment.workspace_sets.iter().map(|it| &it.name);
    declared.any(|it| covers(it, name))
        || (callers.workspace_code && workspace.any(|it| covers(it, name)))
}

fn covers(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// Whether the name is one that can make a program run other code.
fn is_guarded(name: &[u8]) -> bool {
    let from = GUARDED.partition_point(|it| it.as_bytes().first() < name.first());
    let mut near = GUARDED.iter().skip(from).take_while(|it| it.as_bytes().first() == name.first());
    near.any(|it| covers(it, name)) && !HARMLESS.iter().any(|it| covers(it, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{origin, profile, program};
    use crate::profile::{Entry, Style};

    fn judged(entry: &str, given: &[(&str, &str)]) -> Option<String> {
        let word = |it: &str| Arg::try_from(it).unwrap();
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), word(value))).collect();
        let entries = [word("A=b"), word(entry)];
        let found = bad_variable(&entries, &given, &Callers::default(), &profile());
        found.map(|it| match it {
            BadVariable::Malformed { .. } => "malformed".to_owned(),
            BadVariable::Never { name } => format!("never {name}"),
            BadVariable::NotGiven { name } => name,
        })
    }

    #[test]
    fn the_names_are_in_the_order_of_their_bytes_and_none_covers_another() {
        for pair in GUARDED.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
            let covered = pair[0].strip_suffix('*').is_some_and(|it| pair[1].starts_with(it));
            assert!(!covered, "{pair:?}");
        }
    }

    #[test]
    fn a_variable_that_is_code_passes_only_with_the_value_that_the_plan_has_set() {
        let path = [("PATH", "/usr/bin")];
        assert_eq!(judged("PATH=/usr/bin", &path), None);
        assert_eq!(judged("PATH=/ws:/usr/bin", &path).as_deref(), Some("PATH"));
        assert_eq!(judged("PATH=", &path).as_deref(), Some("PATH"));
        assert_eq!(judged("PATH=/usr/bin", &[]).as_deref(), Some("PATH"));
        for name in ["BASH_ENV", "BASH_FUNC_ls%%", "GIT_SSH_COMMAND", "LD_LIBRARY_PATH", "CC"] {
            assert_eq!(judged(&format!("{name}=x"), &path).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_is_preloaded_never_passes_even_where_the_plan_has_set_it() {
        let given = [("LD_PRELOAD", "/x.so")];
        assert_eq!(judged("LD_PRELOAD=/x.so", &given).as_deref(), Some("never LD_PRELOAD"));
        assert_eq!(judged("LD_PRELOAD=", &given).as_deref(), Some("never LD_PRELOAD"));
        assert_eq!(judged("LD_AUDIT=/x.so", &[]).as_deref(), Some("never LD_AUDIT"));
    }

    #[test]
    fn what_sets_a_variable_for_its_children_has_said_so() {
        let mut profile = profile();
        let mut make = program("make", Style::Gnu, &[]);
        make.sets_environment = vec!["MAKEFLAGS".to_owned(), "LD_*".to_owned()];
        profile.exec.programs.insert("make".to_owned(), make);
        let passed = Entry { name: "PYTHON*".to_owned(), origin: origin() };
        profile.environment.workspace_sets = vec![passed];
        let judged = |entry: &str, above: &[&str], workspace_code| {
            let callers = Callers { names: Vec::new(), above: above.to_vec(), workspace_code };
            let entries = [Arg::try_from(entry).unwrap()];
            bad_variable(&entries, &BTreeMap::new(), &callers, &profile).is_none()
        };
        assert!(judged("MAKEFLAGS=-j", &["sh", "make"], false));
        assert!(!judged("MAKEFLAGS=-j", &["sh", "git"], true));
        assert!(judged("PYTHONPATH=x", &["make"], true));
        assert!(!judged("PYTHONPATH=x", &["make"], false));
        assert!(judged("LD_LIBRARY_PATH=x", &["make"], false));
        assert!(!judged("LD_PRELOAD=x", &["make"], true));
    }

    #[test]
    fn other_variables_pass_and_what_is_no_variable_does_not() {
        for entry in ["RUST_LOG=debug", "GIT_AUTHOR_NAME=x", "LDX=1", "ld_preload=x", "P=1", "~=1"]
        {
            assert_eq!(judged(entry, &[]), None, "{entry}");
        }
        for entry in ["", "=x", "LD_PRELOAD", "=LD_PRELOAD=x"] {
            assert_eq!(judged(entry, &[]).as_deref(), Some("malformed"), "{entry}");
        }
    }
}
