//! A run of rung's own that tries one thing: in a real sandbox of a level, by one rule, and recorded
//! like any other.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::consider::{ask_whom, environment, find_paths, program, state_directories};
use super::quota::Quotas;
use super::{EngineError, Ready, Surroundings, launch, new_run, state};
use crate::host;
use crate::model::{Arg, Ids, Level, Origin, Outcome, Request, Span, Streams, Tree};
use crate::plan::{self, syscalls};
use crate::policy::{self, Verdict};
use crate::profile::{
    Argument, Class, Decision, Ladder, Power, Profile, Program, Rule, Style, ValueType, When,
};
use crate::sys;

/// How long it may take, in milliseconds.
const TRIAL_MS_MAX: u64 = 10_000;

/// Where, as whom, and with which profile but for its rules.
pub(super) struct Trial<'a> {
    pub(super) around: &'a Surroundings,
    pub(super) level: Level,
    pub(super) profile: Profile,
    pub(super) cwd: PathBuf,
    pub(super) workspace: PathBuf,
    /// Whom the gateway asks for names, if not whom the machine asks.
    pub(super) nameserver: Option<SocketAddr>,
    pub(super) rule: OneRule,
}

/// By what it is allowed, and how it is called in the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneRule {
    pub(super) id: &'static str,
    pub(super) because: &'static str,
    /// The option after which there may be any words.
    pub(super) after: &'static str,
}

impl Trial<'_> {
    /// The plan for these words: everything as in the profile, but for the rules, of which there is
    /// only one. Nothing where there is no such program.
    pub(super) fn ready(
        &self,
        argv: &[Arg],
        programs: &[&str],
    ) -> Result<Option<Ready>, EngineError> {
        let mut profile = self.profile.clone();
        profile.exec.programs = programs.iter().map(|it| self.rule.described(it)).collect();
        profile.exec.rules = vec![self.rule.of(programs)];
        profile.limits.wall.max = profile.limits.wall.max.min(Span(TRIAL_MS_MAX));
        let directories = &self.around.directories;
        let mut host = host::facts(&directories.state.join("host"), plan::lasting_paths)?;
        host.state_directories = state_directories(directories)?;
        find_paths(&mut host, &profile, &self.workspace, (None, false), self.around)?;
        ask_whom(&mut host, &profile, &self.around.settings()?, self.around)?;
        if let Some(nameserver) = self.nameserver {
            host.nameservers = vec![nameserver];
        }
        let places: (&Path, &Path) = (&self.cwd, &self.workspace);
        let program = program(argv, &profile, &host, &self.around.home, places)?;
        let request = Request {
            program,
            argv: argv.to_vec(),
            level: self.level,
            cwd: self.cwd.clone(),
            workspace: self.workspace.clone(),
            home: self.around.home.clone(),
            environment: environment(self.around),
            ids: Ids { run: new_run(self.around.now)?, ..Ids::default() },
            streams: Streams::Inherit,
            tree: Tree::Itself,
            repository: None,
            caches: BTreeMap::new(),
        };
        let ladder =
            Ladder { ceiling: self.level, profiles: [(self.level, profile.clone())].into() };
        let Verdict::Allow(permit) = policy::decide(&request, &ladder) else { return Ok(None) };
        let filter = syscalls::compiled(profile.syscalls.table, host.arch, plan::gate(&host));
        let plan = plan::compile(&permit, &request, &profile, &host, filter.digest())?;
        let minds = plan::protects_repositories(&profile);
        let repositories = minds.then_some(host.repositories);
        let caches = Vec::new();
        Ok(Some(Ready { request, permit, profile, plan, filter, repositories, caches }))
    }

    /// Runs the words, with nothing of what they print. Nothing where there is no such program.
    pub(super) fn run(
        &self,
        argv: &[Arg],
        programs: &[&str],
    ) -> Result<Option<Outcome>, EngineError> {
        let Some(ready) = self.ready(argv, programs)? else { return Ok(None) };
        let mut ledger = state::open_ledger(self.around)?;
        let outcome = quietly(|| {
            launch::launch(
                ready,
                (None, None),
                &mut Quotas::default(),
                None,
                &mut ledger,
                self.around,
            )
        })??;
        // Init shared this process's memory and closed it to others, which would keep the next
        // sandbox from getting its user.
        sys::process::dumpable(true).map_err(|errno| EngineError::Read {
            path: PathBuf::from("/proc/self"),
            source: errno.into(),
        })?;
        Ok(Some(outcome))
    }
}

impl OneRule {
    fn described(self, name: &str) -> (String, Program) {
        let program = Program {
            name: name.to_owned(),
            class: Class::Plain,
            style: Style::Gnu,
            global: Vec::new(),
            force_environment: BTreeMap::new(),
            sets_environment: Vec::new(),
            multicall: false,
            starts_itself: false,
            origin: Origin::built_in(self.because),
        };
        (name.to_owned(), program)
    }

    fn of(self, programs: &[&str]) -> Rule {
        Rule {
            id: self.id.to_owned(),
            programs: programs.iter().map(|it| (*it).to_owned()).collect(),
            started_by: Vec::new(),
            decision: Decision::Allow,
            power: Power::Read,
            because: self.because.to_owned(),
            arguments: vec![
                Argument::AfterAny(self.after.to_owned()),
                Argument::Operands { value: ValueType::Text, min: 0, max: 8 },
            ],
            when: When::default(),
            reversible: true,
            touches: Vec::new(),
            instead: None,
            matches: Vec::new(),
            not_matches: Vec::new(),
            origin: Origin::built_in(self.because),
        }
    }
}

/// Keeps what a run prints from standard output and error.
fn quietly<T>(act: impl FnOnce() -> T) -> Result<T, EngineError> {
    let failed = |errno: nix::errno::Errno| EngineError::Read {
        path: PathBuf::from("/dev/null"),
        source: errno.into(),
    };
    let null = OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|source| EngineError::Read { path: PathBuf::from("/dev/null"), source })?;
    let kept = [1, 2].map(|number| (number, sys::descriptor::inherited(number)));
    for (number, _) in &kept {
        sys::descriptor::put_at(null.as_fd(), *number).map_err(failed)?;
    }
    let done = act();
    for (number, old) in kept {
        let old = old.map_err(failed)?;
        sys::descriptor::put_at(old.as_fd(), number).map_err(failed)?;
    }
    Ok(done)
}
