//! The decision at every exec: may this task of the sandbox become that program?
//!
//! The same rules as before the run, put to what the kernel has: the object that was loaded, its
//! words and its environment, and who started it. A rule that would ask a person refuses here,
//! because nobody is asked in the middle of a run.
//!
//! It narrows what a run starts; it does not know what an allowed interpreter does. What a
//! program can reach is set by the view, Landlock and the system call filter.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use crate::model::{
    Arg, Denial, ExecFact, Image, Layer, Origin, ProgramFact, ProgramLocation, Request,
};
use crate::policy::callers::{callers, is_trusted, lies_in_program_tree};
use crate::policy::decide::{find, verdict};
use crate::policy::environment::{BadVariable, bad_variable};
use crate::policy::finding::{Asked, Finding};
use crate::policy::{Verdict, refusal};
use crate::profile::{Class, Profile};

/// The answer to one exec.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum ExecVerdict {
    Allow { rule: String, origin: Origin },
    Deny(Denial),
}

/// Decides one exec of a run by the profile of the run's level. `given` is the environment that
/// the plan has set for the run's own command.
pub fn decide_exec(
    fact: &ExecFact,
    request: &Request,
    profile: &Profile,
    given: &BTreeMap<String, Arg>,
) -> ExecVerdict {
    decided(fact, request, profile, By::Now { given })
}

/// Who started a program, as far as rules are about that: what remains of it in a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Starter {
    pub names: Vec<String>,
    /// It is a program's own call of itself.
    pub own_call: bool,
}

impl Starter {
    pub fn of(fact: &ExecFact, profile: &Profile) -> Self {
        let names = callers(&fact.caller, profile).names;
        let names = names.into_iter().map(str::to_owned).collect();
        Self { names, own_call: is_own_call(fact, profile) }
    }
}

/// Decides once more about a program that was started, or refused, by whom the record says. Its
/// variables are not recorded, and nothing is said about them.
pub fn decide_recorded(
    fact: &ExecFact,
    starter: &Starter,
    request: &Request,
    profile: &Profile,
) -> ExecVerdict {
    decided(fact, request, profile, By::Record(starter))
}

fn decided(fact: &ExecFact, request: &Request, profile: &Profile, by: By<'_>) -> ExecVerdict {
    let decided = weigh(fact, request, profile, by, |weighed| {
        verdict(weighed.asked, None, profile, weighed.finding)
    });
    match decided {
        Ok(Verdict::Allow(permit)) => {
            ExecVerdict::Allow { rule: permit.rule, origin: permit.origin }
        }
        Ok(Verdict::Ask(question)) => ExecVerdict::Deny(question.denial),
        Ok(Verdict::Deny(refusal)) => ExecVerdict::Deny(refusal.denial),
        Err(denial) => ExecVerdict::Deny(*denial),
    }
}

/// Where it is known from who starts a program, and with which variables.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    /// The fact itself, and what the plan has set.
    Now {
        given: &'a BTreeMap<String, Arg>,
    },
    Record(&'a Starter),
}

/// One exec, held against the rules.
pub(super) struct Weighed<'a, 'f> {
    pub asked: &'a Asked<'f>,
    /// What the finding is about: the script, where the kernel loads its interpreter for it.
    pub about: Asked<'f>,
    pub finding: Finding<'f>,
}

/// What the rules say about an exec, for whoever makes something of it; or the refusal that comes
/// before all rules.
pub(super) fn weigh<T>(
    fact: &ExecFact,
    request: &Request,
    profile: &Profile,
    by: By<'_>,
    make: impl FnOnce(Weighed<'_, '_>) -> T,
) -> Result<T, Box<Denial>> {
    let program = match &fact.image {
        Image::File(program @ ProgramFact::Found { .. }) => program,
        Image::File(ProgramFact::Missing { .. }) => {
            return Err(refuse(fact, request, "exec.missing", "there is no such program"));
        }
        Image::Nameless { .. } => {
            let reason = "the program has no file: it was made in memory, or has been removed";
            return Err(refuse(fact, request, "exec.nameless", reason));
        }
        Image::Unreadable { .. } => {
            let reason = "the program may be run and not read, so nobody can see what it is told";
            return Err(refuse(fact, request, "exec.unreadable", reason));
        }
    };
    if !is_own_name(fact, program, request, profile) {
        let reason = "the program's first word is not the name it was started by, and some \
                      programs do what that word says";
        return Err(refuse(fact, request, "exec.first-word", reason));
    }
    let callers = match by {
        By::Now { given } => {
            let callers = callers(&fact.caller, profile);
            if let Some(problem) = bad_variable(&fact.environment, given, &callers, profile) {
                return Err(by_variable(fact, request, &problem));
            }
            callers.names
        }
        By::Record(starter) => starter.names.iter().map(String::as_str).collect(),
    };
    let asked = Asked {
        argv: &fact.argv,
        program,
        level: request.level,
        cwd: &fact.cwd,
        workspace: &request.workspace,
        home: &request.home,
        callers: &callers,
        own_call: match by {
            By::Now { .. } => is_own_call(fact, profile),
            By::Record(starter) => starter.own_call,
        },
        layer: Layer::Exec,
    };
    let (about, finding) = match &fact.script {
        Some(script) => find_script(fact, script, &asked, profile),
        None => (asked, find(&asked, profile)),
    };
    Ok(make(Weighed { asked: &asked, about, finding }))
}

/// Whether a program of the system starts itself, and is known to do so with words of its own.
fn is_own_call(fact: &ExecFact, profile: &Profile) -> bool {
    let (Image::File(ProgramFact::Found { path, location, .. }), None) =
        (&fact.image, &fact.script)
    else {
        return false;
    };
    let Some(caller) = fact.caller.lineage.first() else { return false };
    let name = path.file_name().and_then(|it| it.to_str());
    let known = name.and_then(|it| profile.exec.programs.get(it));
    known.is_some_and(|it| it.starts_itself)
        && is_trusted(*location)
        && is_trusted(caller.location)
        && caller.script.is_none()
        && caller.path.file_name() == path.file_name()
}

/// Whether the first word is the path that was asked for, or its last component. A script's
/// interpreter is named by the kernel; what the workspace's own programs are told is their affair.
fn is_own_name(
    fact: &ExecFact,
    program: &ProgramFact,
    request: &Request,
    profile: &Profile,
) -> bool {
    let ProgramFact::Found { canonical, location, .. } = program else { return false };
    let Some(first) = fact.argv.first().map(Arg::as_bytes) else { return false };
    let foreign = match location {
        ProgramLocation::Workspace | ProgramLocation::Elsewhere => {
            !lies_in_program_tree(canonical, &request.home, profile)
        }
        ProgramLocation::System | ProgramLocation::Toolchain => false,
    };
    // A program that starts itself again (`/proc/self/exe`) goes by the object's name.
    let spelled = match fact.spelled.as_bytes() {
        magic if magic.starts_with(b"/proc/") => canonical.as_os_str().as_bytes(),
        spelled => spelled,
    };
    let last = spelled.rsplit(|it| *it == b'/').next().unwrap_or_default();
    foreign || fact.script.is_some() || first == spelled || first == last
}

/// A script, by the interpreter that the kernel has loaded for it.
///
/// A script of the system is the program of its name. One of the workspace runs under a known
/// interpreter. Anything else is what the interpreter's words say.
fn find_script<'a>(
    fact: &'a ExecFact,
    script: &'a ProgramFact,
    asked: &Asked<'a>,
    profile: &'a Profile,
) -> (Asked<'a>, Finding<'a>) {
    let whole = find(asked, profile);
    let ProgramFact::Found { location, .. } = script else { return (*asked, whole) };
    if !matches!(whole, Finding::Uncovered(_)) || !is_interpreter(asked.program, profile) {
        return (*asked, whole);
    }
    let about = match (location, &profile.exec.workspace_programs) {
        (ProgramLocation::System | ProgramLocation::Toolchain, _) => {
            // The kernel puts the script's path behind the interpreter and its one option.
            let from = fact.argv.iter().position(|it| *it == fact.spelled);
            from.and_then(|it| fact.argv.get(it..)).map(|argv| Asked {
                argv,
                program: script,
                ..*asked
            })
        }
        (ProgramLocation::Workspace, Some(_)) => Some(Asked { program: script, ..*asked }),
        (ProgramLocation::Workspace, None) | (ProgramLocation::Elsewhere, _) => None,
    };
    match about {
        Some(about) => (about, find(&about, profile)),
        None => (*asked, whole),
    }
}

/// Whether the object is known to run scripts, `env` among them.
fn is_interpreter(program: &ProgramFact, profile: &Profile) -> bool {
    let ProgramFact::Found { path, .. } = program else { return false };
    let name = path.file_name().and_then(|it| it.to_str());
    let known = name.and_then(|it| profile.exec.programs.get(it));
    known.is_some_and(|it| matches!(it.class, Class::Interpreter | Class::Shell | Class::Wrapper))
}

fn by_variable(fact: &ExecFact, request: &Request, problem: &BadVariable<'_>) -> Box<Denial> {
    let (reason, next) = match problem {
        BadVariable::Malformed { entry } => (
            format!("`{entry}` in the environment is no `NAME=value`"),
            "start the program with an environment of names and values".to_owned(),
        ),
        BadVariable::Never { name } => (
            format!("`{name}` is code in every program that gets it, so no program gets it"),
            format!("start the program without `{name}`"),
        ),
        BadVariable::NotGiven { name } => (
            format!(
                "`{name}` can make the program run other code, and its value is not what the \
                 profile has set"
            ),
            format!("start the program without `{name}`, or with the value it had"),
        ),
    };
    Box::new(Denial { reason, next, ..denial(fact, request, "exec.environment") })
}

fn refuse(fact: &ExecFact, request: &Request, rule: &str, reason: &str) -> Box<Denial> {
    let next = "start the program from its file, by its name".to_owned();
    Box::new(Denial { reason: reason.to_owned(), next, ..denial(fact, request, rule) })
}

fn denial(fact: &ExecFact, request: &Request, rule: &str) -> Denial {
    Denial {
        layer: Layer::Exec,
        rule: rule.to_owned(),
        level: request.level,
        object: if fact.argv.is_empty() {
            fact.spelled.to_string()
        } else {
            refusal::shown(&fact.argv)
        },
        reason: String::new(),
        origin: None,
        allow_with: None,
        next: String::new(),
        count: 1,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::{Ancestor, Caller};
    use crate::policy::fixture::{
        allow, argv, found, operands, origin, profile, program, request, rule,
    };
    use crate::profile::{Argument, Decision, Grant, Rule, Style, ValueType, When};

    fn system(name: &str) -> ProgramFact {
        found(&format!("/usr/bin/{name}"), ProgramLocation::System)
    }

    /// A program of the system, started by its path.
    fn fact(line: &str) -> ExecFact {
        let argv = argv(line);
        let name = argv[0].as_str().unwrap().to_owned();
        ExecFact {
            spelled: Arg::try_from(format!("/usr/bin/{name}").as_str()).unwrap(),
            argv,
            image: Image::File(system(&name)),
            script: None,
            cwd: PathBuf::from("/ws"),
            environment: Vec::new(),
            caller: Caller::default(),
        }
    }

    /// `argv` as the kernel makes it for a script, here with the interpreter `name`.
    fn script(line: &str, name: &str, script: ProgramFact) -> ExecFact {
        let ProgramFact::Found { path, .. } = &script else { panic!("{script:?}") };
        let spelled = Arg::try_from(path.to_str().unwrap()).unwrap();
        ExecFact { spelled, script: Some(script), image: Image::File(system(name)), ..fact(line) }
    }

    fn rules() -> Profile {
        let mut profile = profile();
        let mut python = program("python3", Style::Posix, &[]);
        python.class = Class::Interpreter;
        profile.exec.programs.insert("python3".to_owned(), python);
        profile.exec.programs.insert("pytest".to_owned(), program("pytest", Style::Gnu, &[]));
        profile.exec.rules = vec![
            allow("ls", "ls", vec![operands(ValueType::PathRead, 0, 9)]),
            allow("pytest", "pytest", vec![operands(ValueType::Name, 0, 1)]),
            allow("log", "git", vec![Argument::Word("log".to_owned())]),
            rule("ask", "touch", Decision::Confirm),
            rule("gone", "mkfs", Decision::Never),
        ];
        profile
    }

    fn with_workspace_programs() -> Profile {
        let mut profile = rules();
        profile.exec.workspace_programs = Some(origin());
        profile
    }

    fn decided(fact: &ExecFact, profile: &Profile) -> Result<String, Box<Denial>> {
        let request = request("sh", system("sh"));
        match decide_exec(fact, &request, profile, &BTreeMap::new()) {
            ExecVerdict::Allow { rule, .. } => Ok(rule),
            ExecVerdict::Deny(denial) => Err(Box::new(denial)),
        }
    }

    #[track_caller]
    fn allowed(fact: &ExecFact, profile: &Profile, rule: &str) {
        assert_eq!(decided(fact, profile).unwrap(), rule);
    }

    #[track_caller]
    fn denied(fact: &ExecFact, profile: &Profile, rule: &str) -> Box<Denial> {
        let denial = decided(fact, profile).unwrap_err();
        assert_eq!((denial.layer, denial.rule.as_str()), (Layer::Exec, rule), "{denial}");
        assert!(!denial.reason.is_empty() && !denial.next.is_empty(), "{denial:?}");
        denial
    }

    #[test]
    fn an_exec_is_decided_by_the_rules_for_command_lines() {
        allowed(&fact("ls src"), &rules(), "ls");
        denied(&fact("ls -l"), &rules(), "default");
        denied(&fact("curl x"), &rules(), "default");
        denied(&fact("mkfs x"), &rules(), "gone");
        let question = denied(&fact("touch x"), &rules(), "ask");
        assert!(question.reason.contains("needs an approval"), "{question}");
    }

    #[test]
    fn what_has_no_file_or_cannot_be_read_is_refused() {
        let nameless = Image::Nameless { shown: "/memfd:x (deleted)".to_owned() };
        denied(&ExecFact { image: nameless, ..fact("ls") }, &rules(), "exec.nameless");
        let unreadable = Image::Unreadable { path: PathBuf::from("/usr/bin/ls") };
        denied(&ExecFact { image: unreadable, ..fact("ls") }, &rules(), "exec.unreadable");
        let missing = Image::File(ProgramFact::Missing { searched: Vec::new() });
        denied(&ExecFact { image: missing, ..fact("ls") }, &rules(), "exec.missing");
    }

    #[test]
    fn the_first_word_is_the_name_the_program_was_started_by() {
        let named = |word: &str| {
            let mut fact = fact("ls src");
            fact.argv[0] = Arg::try_from(word).unwrap();
            fact
        };
        allowed(&named("/usr/bin/ls"), &rules(), "ls");
        for other in ["rm", "-ls", "/ws/ls", "", "./ls"] {
            denied(&named(other), &rules(), "exec.first-word");
        }
        let wordless = ExecFact { argv: Vec::new(), ..fact("ls") };
        denied(&wordless, &rules(), "exec.first-word");

        let itself = Arg::try_from("/proc/self/exe").unwrap();
        allowed(&ExecFact { spelled: itself.clone(), ..fact("ls") }, &rules(), "ls");
        denied(&ExecFact { spelled: itself, ..named("exe") }, &rules(), "exec.first-word");
    }

    #[test]
    fn a_script_of_the_system_is_the_program_of_its_name() {
        let pytest = |line| script(line, "python3", system("pytest"));
        allowed(&pytest("/usr/bin/python3 /usr/bin/pytest a"), &rules(), "pytest");
        denied(&pytest("/usr/bin/python3 /usr/bin/pytest a b"), &rules(), "default");
        denied(&pytest("/usr/bin/python3 -c x"), &rules(), "default");

        // The same script under a program that is no interpreter is whatever that one does.
        let other = script("/usr/bin/curl /usr/bin/pytest", "curl", system("pytest"));
        denied(&other, &rules(), "default");
    }

    #[test]
    fn a_script_of_the_workspace_runs_where_its_programs_run() {
        let own = || found("/ws/run", ProgramLocation::Workspace);
        let run = script("/usr/bin/python3 -u /ws/run x", "python3", own());
        denied(&run, &rules(), "default");
        allowed(&run, &with_workspace_programs(), "exec.workspace-programs");

        let loose = script("/usr/bin/curl /ws/run", "curl", own());
        denied(&loose, &with_workspace_programs(), "default");
        let forbidden = script("/usr/sbin/mkfs /ws/run", "mkfs", own());
        denied(&forbidden, &with_workspace_programs(), "gone");
        let elsewhere = found("/opt/run", ProgramLocation::Elsewhere);
        let elsewhere = script("/usr/bin/python3 /opt/run", "python3", elsewhere);
        denied(&elsewhere, &with_workspace_programs(), "default");
    }

    /// Under a program of the system, or of the workspace.
    fn below(fact: ExecFact, path: &str, location: ProgramLocation) -> ExecFact {
        let path = PathBuf::from(path);
        let canonical = path.clone();
        let ancestor = Ancestor { path, canonical, location, script: None, words: Vec::new() };
        ExecFact { caller: Caller { lineage: vec![ancestor], cut: false }, ..fact }
    }

    #[test]
    fn a_program_starts_itself_as_it_likes_and_never_what_is_never_allowed() {
        let mut profile = rules();
        let git = profile.exec.programs.get_mut("git").unwrap();
        git.starts_itself = true;
        let mut parts = allow("parts", "git", vec![Argument::AnyWords]);
        parts.started_by = vec!["git".to_owned()];
        let only = |word: &str| When { subcommand: vec![word.to_owned()], ..When::default() };
        profile.exec.rules.extend([
            parts,
            Rule { when: only("reset"), ..rule("reset", "git", Decision::Deny) },
            Rule { when: only("push"), ..rule("push", "git", Decision::Never) },
        ]);
        let system = ProgramLocation::System;
        let own = |line| below(fact(line), "/usr/lib/git-core/git", system);
        allowed(&own("git reset --hard"), &profile, "parts");
        denied(&own("git push"), &profile, "push");
        denied(&fact("git reset --hard"), &profile, "reset");
        denied(&below(fact("git reset"), "/usr/bin/ls", system), &profile, "reset");
        let called_so = below(fact("git reset"), "/ws/git", ProgramLocation::Workspace);
        denied(&called_so, &profile, "reset");
    }

    #[test]
    fn a_link_of_the_workspace_is_the_program_that_it_leads_to() {
        let mut profile = with_workspace_programs();
        let grant = |path: &str| Grant { path: path.to_owned(), programs: true, origin: origin() };
        profile.filesystem.read = vec![grant("/usr")];
        let mut many = program("many", Style::Posix, &[]);
        many.multicall = true;
        profile.exec.programs.insert("many".to_owned(), many);
        profile.exec.rules.push(allow("many", "many", vec![operands(ValueType::Text, 0, 9)]));
        let link = |line: &str, name: &str, object: &str| ExecFact {
            spelled: Arg::try_from(format!("/ws/{name}").as_str()).unwrap(),
            image: Image::File(ProgramFact::Found {
                path: PathBuf::from(format!("/ws/{name}")),
                canonical: PathBuf::from("/usr/bin").join(object),
                location: ProgramLocation::Workspace,
                device: 1,
                inode: 1,
                setid: false,
                executable: true,
            }),
            ..fact(line)
        };
        allowed(&link("x src", "x", "ls"), &profile, "ls");
        denied(&link("x -l", "x", "ls"), &profile, "default");
        denied(&link("x x", "x", "curl"), &profile, "default");
        denied(&link("ls x", "ls", "curl"), &profile, "default");
        // Of many programs in one file, the name chooses.
        allowed(&link("many rm x", "many", "many"), &profile, "many");
        allowed(&link("ls rm x", "ls", "many"), &profile, "ls");
        denied(&link("rm ls x", "rm", "many"), &profile, "default");
        denied(&link("rm ls x", "ls", "many"), &profile, "exec.first-word");
        // The workspace's own programs may be called by any word.
        allowed(&link("anything -x", "x", "/ws/y"), &profile, "exec.workspace-programs");
    }

    #[test]
    fn a_variable_that_is_code_refuses_the_program() {
        let with = |entry: &str| ExecFact {
            environment: vec![Arg::try_from(entry).unwrap()],
            ..fact("ls")
        };
        allowed(&with("LANG=C"), &rules(), "ls");
        let denial = denied(&with("BASH_ENV=x"), &rules(), "exec.environment");
        assert!(denial.reason.contains("`BASH_ENV`"), "{denial}");
        denied(&with("LD_PRELOAD=/x.so"), &rules(), "exec.environment");
        denied(&with("nothing"), &rules(), "exec.environment");
    }
}
