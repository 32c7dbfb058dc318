//! Small profiles for the tests of this module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{
    Arg, Bytes, Count, Digest, Ids, Level, Origin, ProgramFact, ProgramLocation, Request, Span,
    Streams, Tree,
};
use crate::policy::value::Place;
use crate::profile::{
    Argument, Audit, Class, Decision, Durable, Entry, Environment, Example, Exec, Filesystem,
    Limit, Limits, Network, OnGap, OptionSpec, Output, Power, Profile, Program, Rule, Style,
    Syscalls, Table, Tmp, ValueType, When, WhenFull, Workspace, WorkspaceMode,
};

/// Level 1, with a passed variable, git's forced environment, and no rules.
pub(super) fn profile() -> Profile {
    let mut git = program("git", Style::Git, &["--no-pager"]);
    git.force_environment = BTreeMap::from([("GIT_PAGER".to_owned(), "cat".to_owned())]);
    let mut passed: Vec<Entry> = Vec::new();
    for name in ["LANG", "GIT_PAGER"] {
        passed.push(Entry { name: name.to_owned(), origin: origin() });
    }
    Profile {
        name: "fixture".to_owned(),
        level: Level::ReadOnlyResearch,
        summary: String::new(),
        owner: None,
        digest: Digest::ZERO,
        sources: vec!["level-1.toml".to_owned()],
        on_gap: OnGap::Refuse,
        filesystem: Filesystem {
            workspace: Workspace { mode: WorkspaceMode::ReadOnly, origin: origin() },
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            protected: Vec::new(),
            toolchains: Vec::new(),
            caches: Vec::new(),
            tmp: Tmp { size: Bytes(1), files: Count(1), run_programs: false, origin: origin() },
        },
        exec: Exec {
            workspace_programs: None,
            programs: BTreeMap::from([("git".to_owned(), git)]),
            rules: Vec::new(),
            index: None,
        },
        environment: Environment { pass: passed, set: BTreeMap::new(), workspace_sets: Vec::new() },
        network: Network {
            loopback: None,
            destinations: Vec::new(),
            upload_max: None,
            download_max: None,
            connections_max: None,
        },
        credentials: Vec::new(),
        syscalls: Syscalls { table: Table::Strict, origin: origin() },
        limits: Limits {
            wall: limit(Span(1)),
            grace: limit(Span(1)),
            processes: limit(Count(1)),
            open_files: limit(Count(1)),
            memory: limit(Bytes(1)),
            file: limit(Bytes(1)),
            session: limit(Bytes(1)),
            session_files: limit(Count(1)),
        },
        output: Output { max: None, when_full: WhenFull::Stop },
        audit: Audit { durable: Durable::Overlapped, record_output: false },
    }
}

pub(super) fn place(profile: &Profile) -> Place<'_> {
    let workspace = Path::new("/ws");
    Place {
        profile,
        workspace,
        cwd: workspace,
        home: Path::new("/home/user"),
        callers: &[],
        own_call: false,
        at_exec: false,
    }
}

pub(super) fn origin() -> Origin {
    Origin { file: "rules.toml".into(), line: 7, because: "the test says so".into() }
}

fn limit<T>(max: T) -> Limit<T> {
    Limit { max, origin: origin() }
}

pub(super) fn program(name: &str, style: Style, flags: &[&str]) -> Program {
    Program {
        name: name.to_owned(),
        class: Class::Plain,
        style,
        global: flags.iter().map(|it| option(it, None)).collect(),
        force_environment: BTreeMap::new(),
        sets_environment: Vec::new(),
        multicall: false,
        starts_itself: false,
        origin: origin(),
    }
}

/// `-n|--max-count` and its value.
pub(super) fn option(names: &str, value: Option<ValueType>) -> OptionSpec {
    let names = names.split('|').map(str::to_owned).collect();
    OptionSpec { names, value, optional_value: false }
}

pub(super) fn operands(value: ValueType, min: u32, max: u32) -> Argument {
    Argument::Operands { value, min, max }
}

pub(super) fn rule(id: &str, program: &str, decision: Decision) -> Rule {
    Rule {
        id: id.to_owned(),
        programs: vec![program.to_owned()],
        started_by: Vec::new(),
        decision,
        power: Power::Read,
        because: "the test says so".to_owned(),
        arguments: Vec::new(),
        when: When::default(),
        reversible: true,
        touches: Vec::new(),
        instead: None,
        matches: Vec::new(),
        not_matches: Vec::new(),
        origin: origin(),
    }
}

pub(super) fn allow(id: &str, program: &str, arguments: Vec<Argument>) -> Rule {
    Rule { arguments, ..rule(id, program, Decision::Allow) }
}

pub(super) fn argv(text: &str) -> Vec<Arg> {
    text.split_whitespace().map(|it| Arg::try_from(it).unwrap()).collect()
}

pub(super) fn example(text: &str) -> Example {
    Example { argv: argv(text), line: 9 }
}

/// A program at this path, of the usual kind.
pub(super) fn found(path: &str, location: ProgramLocation) -> ProgramFact {
    ProgramFact::Found {
        path: PathBuf::from(path),
        canonical: PathBuf::from(path),
        location,
        device: 1,
        inode: 1,
        setid: false,
        executable: true,
    }
}

/// A command line in the workspace `/ws`, at level 1.
pub(super) fn request(line: &str, program: ProgramFact) -> Request {
    Request {
        argv: argv(line),
        program,
        level: Level::ReadOnlyResearch,
        cwd: PathBuf::from("/ws"),
        workspace: PathBuf::from("/ws"),
        home: PathBuf::from("/home/user"),
        environment: BTreeMap::new(),
        ids: Ids::default(),
        streams: Streams::Inherit,
        tree: Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}
