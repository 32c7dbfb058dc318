//! Who starts a program: what the images above it come to.
//!
//! Only a program of the system or a toolchain has a name here. The workspace can call its own
//! programs what it likes, so they are one caller without a name, and everything below them is
//! code of the workspace.

use std::path::Path;

use crate::model::{Ancestor, Arg, Caller, ProgramLocation};
use crate::policy::decide::final_name;
use crate::profile::{Class, Profile, WORKSPACE_CODE};

/// The callers of one exec.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Callers<'a> {
    /// Who counts as the one that starts it: the nearest program, and those that it goes through
    /// unchanged to, which are shells with a text and wrappers.
    pub names: Vec<&'a str>,
    /// Every program above that has a name.
    pub above: Vec<&'a str>,
    /// Something above runs code of the workspace.
    pub workspace_code: bool,
}

pub(super) fn callers<'a>(caller: &'a Caller, profile: &Profile) -> Callers<'a> {
    let mut callers = Callers::default();
    let mut nearest = true;
    for ancestor in &caller.lineage {
        let names = names(ancestor);
        let classes: Vec<Class> =
            names.iter().filter_map(|it| Some(profile.exec.programs.get(*it)?.class)).collect();
        callers.workspace_code |= runs_workspace_code(ancestor, &classes);
        if nearest {
            callers.names.extend(&names);
            nearest = is_passage(ancestor, &classes);
        }
        callers.above.extend(names);
    }
    if callers.workspace_code {
        callers.names.push(WORKSPACE_CODE);
    }
    callers
}

/// The names of the image and of the script it runs, as far as they can be trusted.
fn names(ancestor: &Ancestor) -> Vec<&str> {
    let image = (ancestor.path.as_path(), ancestor.location);
    let script = ancestor.script.as_ref().map(|(path, location)| (path.as_path(), *location));
    let named = [Some(image), script].into_iter().flatten().filter(|it| is_trusted(it.1));
    named.filter_map(|(path, _)| final_name(path)).collect()
}

pub(super) fn is_trusted(location: ProgramLocation) -> bool {
    match location {
        ProgramLocation::System | ProgramLocation::Toolchain => true,
        ProgramLocation::Workspace | ProgramLocation::Elsewhere => false,
    }
}

/// A build, an interpreter or a shell with a script does what files of the workspace say.
fn runs_workspace_code(ancestor: &Ancestor, classes: &[Class]) -> bool {
    let foreign = |location| !is_trusted(location);
    foreign(ancestor.location)
        || ancestor.script.as_ref().is_some_and(|it| foreign(it.1))
        || classes.iter().any(|it| match it {
            Class::Build | Class::Interpreter => true,
            Class::Shell => !has_text(ancestor),
            Class::Plain
            | Class::Wrapper
            | Class::Loader
            | Class::Editor
            | Class::Pager
            | Class::Remote => false,
        })
}

/// Whether what it starts is in fact started by whoever has started it.
fn is_passage(ancestor: &Ancestor, classes: &[Class]) -> bool {
    ancestor.script.is_none()
        && is_trusted(ancestor.location)
        && classes.iter().all(|it| match it {
            Class::Wrapper => true,
            Class::Shell => has_text(ancestor),
            Class::Plain
            | Class::Interpreter
            | Class::Loader
            | Class::Build
            | Class::Editor
            | Class::Pager
            | Class::Remote => false,
        })
        && !classes.is_empty()
}

/// Whether a shell runs the text behind `-c`: the option stands before anything that is none.
fn has_text(ancestor: &Ancestor) -> bool {
    let words = ancestor.words.iter().map(Arg::as_bytes);
    let mut options = words.take_while(|it| it.starts_with(b"-") && *it != b"--");
    options.any(|it| !it.starts_with(b"--") && it.contains(&b'c'))
}

/// Whether the object lies in a tree that the profile grants with programs, or in a toolchain.
pub(super) fn lies_in_program_tree(path: &Path, home: &Path, profile: &Profile) -> bool {
    let granted = profile.filesystem.read.iter().filter(|it| it.programs).map(|it| &it.path);
    let toolchains = profile.filesystem.toolchains.iter().flat_map(|it| &it.directories);
    granted.chain(toolchains).any(|tree| match tree.strip_prefix("~/") {
        Some(rest) => path.starts_with(home.join(rest)),
        None => path.starts_with(tree),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::policy::fixture::{argv, profile, program};
    use crate::profile::Style;

    fn known() -> Profile {
        let mut profile = profile();
        for (name, class) in [
            ("sh", Class::Shell),
            ("env", Class::Wrapper),
            ("make", Class::Build),
            ("npm", Class::Build),
            ("python3", Class::Interpreter),
            ("ls", Class::Plain),
        ] {
            let mut program = program(name, Style::Gnu, &[]);
            program.class = class;
            profile.exec.programs.insert(name.to_owned(), program);
        }
        profile
    }

    fn ancestor(line: &str) -> Ancestor {
        let words = argv(line);
        let path = PathBuf::from("/usr/bin").join(words[0].as_str().unwrap());
        Ancestor {
            canonical: path.clone(),
            path,
            location: ProgramLocation::System,
            script: None,
            words: words[1..].to_vec(),
        }
    }

    #[track_caller]
    fn check(lineage: Vec<Ancestor>, names: &str, above: &str) {
        let caller = Caller { lineage, cut: false };
        let profile = known();
        let found = callers(&caller, &profile);
        assert_eq!(
            (found.names.join(" ").as_str(), found.above.join(" ").as_str()),
            (names, above)
        );
    }

    #[test]
    fn the_nearest_program_counts_and_what_shells_and_wrappers_pass_on() {
        check(Vec::new(), "", "");
        check(vec![ancestor("git"), ancestor("ls")], "git", "git ls");
        let text = || ancestor("sh -e -c x");
        check(vec![text(), ancestor("git"), ancestor("ls")], "sh git", "sh git ls");
        check(vec![ancestor("env A=b git"), text(), ancestor("git")], "env sh git", "env sh git");
        // A program that nobody has described passes nothing on.
        check(vec![ancestor("other"), ancestor("git")], "other", "other git");
    }

    #[test]
    fn below_a_build_an_interpreter_or_a_script_is_code_of_the_workspace() {
        check(vec![ancestor("make all")], "make @workspace", "make");
        check(vec![ancestor("sh -c x"), ancestor("make")], "sh make @workspace", "sh make");
        check(vec![ancestor("git"), ancestor("make")], "git @workspace", "git make");
        check(vec![ancestor("python3 a.py")], "python3 @workspace", "python3");
        check(vec![ancestor("sh a.sh"), ancestor("git")], "sh @workspace", "sh git");
        check(vec![ancestor("sh -- -c")], "sh @workspace", "sh");
        check(vec![ancestor("sh --rcfile -x")], "sh @workspace", "sh");
        // The text that rung's own shell runs is the asker's, not the workspace's.
        check(vec![ancestor("sh -c x")], "sh", "sh");
        check(vec![ancestor("sh -ec x")], "sh", "sh");
    }

    #[test]
    fn a_program_of_the_workspace_has_no_name() {
        let own = Ancestor {
            path: PathBuf::from("/ws/make"),
            location: ProgramLocation::Workspace,
            ..ancestor("make")
        };
        check(vec![own.clone()], "@workspace", "");
        check(vec![own, ancestor("git")], "@workspace", "git");

        let script = |path: &str, location| Ancestor {
            script: Some((PathBuf::from(path), location)),
            ..ancestor("env")
        };
        let run = script("/ws/npm", ProgramLocation::Workspace);
        check(vec![run, ancestor("git")], "env @workspace", "env git");
        let npm = script("/usr/bin/npm", ProgramLocation::System);
        check(vec![npm, ancestor("git")], "env npm @workspace", "env npm git");
    }
}
