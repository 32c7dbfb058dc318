//! Recorded decisions, taken again: what would a changed profile have made of the work that was done?
//!
//! The words, the place and the level come from the ledger; the programs of commands are looked up
//! as they are today. So each decision that comes out differently is also taken under the profile in
//! force, which tells a change of the profile from a change of the machine. What a command started is
//! decided again as its record has it, where the command itself would still run; its variables are
//! not recorded, and nothing is said about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::consider::{environment, find_paths, program};
use super::{EngineError, Surroundings};
use crate::host;
use crate::ledger::{self, Answer, Body, Decision, Entry, Exec, Judged, Record};
use crate::model::{
    Arg, Caller, Digest, ExecFact, HostFacts, Image, Level, ProgramFact, ProgramLocation, Request,
    Streams, Tree,
};
use crate::plan;
use crate::policy::{self, ExecVerdict, Starter, Verdict};
use crate::profile::{Ladder, Profile};

/// The profile that recorded decisions are taken again under.
#[derive(Debug, Clone)]
pub enum Against {
    /// The file of a level, on top of what is in force: only decisions of that level are taken again.
    File(PathBuf),
    /// A level as it is in force: all decisions are taken again, whatever their level was.
    Level(Level),
}

/// What would be different.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Decisions about commands taken again.
    pub decided: usize,
    /// Decisions about what they started.
    pub execs: usize,
    /// Decisions of other levels than the changed one.
    pub other_levels: usize,
    /// Decisions whose words the ledger does not have whole, because they looked like secrets.
    pub redacted: usize,
    /// Programs that were refused for something else than what rules are about, or recorded
    /// by a version that did not say enough.
    pub unruled: usize,
    pub changes: Vec<Changed>,
}

/// One decision that would be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub run: String,
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    pub level: Level,
    pub argv: Vec<Arg>,
    /// Who started it, as rules name them; absent for the command itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_by: Option<Vec<String>>,
    /// How often the same change comes in the run.
    pub count: u64,
    pub was: Answer,
    pub was_rule: String,
    pub is: Answer,
    pub is_rule: String,
    /// Why it would not run; absent where it would.
    pub reason: Option<String>,
    pub cause: Cause,
}

/// What makes the decision another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The profile that is tried out.
    Profile,
    /// Something that has changed since: what is in force now decides differently too.
    Since,
}

/// Takes the recorded decisions again: of one run, or all of them.
pub fn replay(
    against: &Against,
    run: Option<&str>,
    around: &Surroundings,
) -> Result<Replayed, EngineError> {
    let mut again = Again::new(against, around)?;
    let mut replayed = Replayed::default();
    ledger::decided(&around.ledger_directory(), run, &mut |entry| {
        again.entry(&entry, &mut replayed);
        Ok(())
    })?;
    match again.failed {
        None => Ok(replayed),
        Some(error) => Err(error),
    }
}

struct Again<'a> {
    around: &'a Surroundings,
    /// The changed profile, and whether it is about one level only.
    changed: Profile,
    only: Option<Level>,
    in_force: BTreeMap<Level, Profile>,
    host: HostFacts,
    /// Commands that would run under the changed profile, until their run has ended.
    running: BTreeMap<String, Decision>,
    /// Workspaces whose paths have been looked up, and for which profile.
    known: BTreeSet<(PathBuf, Digest)>,
    /// The first problem that is not a decision's own; nothing is decided after it.
    failed: Option<EngineError>,
}

impl<'a> Again<'a> {
    fn new(against: &Against, around: &'a Surroundings) -> Result<Self, EngineError> {
        let (changed, only) = match against {
            Against::Level(level) => (around.profile(*level)?, None),
            Against::File(file) => {
                let profile = around.profile_with(file)?;
                let only = profile.level;
                (profile, Some(only))
            }
        };
        let changed = indexed(changed);
        let host = host::facts(&around.directories.state.join("host"), plan::lasting_paths)?;
        let (in_force, running) = (BTreeMap::new(), BTreeMap::new());
        let known = BTreeSet::new();
        Ok(Self { around, changed, only, in_force, host, running, known, failed: None })
    }

    fn entry(&mut self, entry: &Entry, replayed: &mut Replayed) {
        if self.failed.is_some() {
            return;
        }
        let Body::Record(record) = &entry.body else { return };
        let done = match record {
            Record::Decision(recorded) => self.command(recorded, entry.time, replayed),
            Record::Exec(recorded) => self.started(recorded, entry.time, replayed),
            Record::ExecEnd(end) => {
                self.running.remove(&end.run);
                Ok(())
            }
            _ => Ok(()),
        };
        self.failed = done.err();
    }

    fn command(
        &mut self,
        recorded: &Decision,
        time: Timestamp,
        replayed: &mut Replayed,
    ) -> Result<(), EngineError> {
        if self.only.is_some_and(|it| it != recorded.level) {
            replayed.other_levels += 1;
            return Ok(());
        }
        if recorded.argv.iter().any(|it| ledger::is_redacted(it.as_bytes())) {
            replayed.redacted += 1;
            return Ok(());
        }
        replayed.decided += 1;
        let changed = self.changed.clone();
        let (is, is_rule, reason) = said(self.verdict(recorded, changed)?);
        let run = &recorded.ids.run;
        if is == Answer::Allow {
            self.running.insert(run.clone(), recorded.clone());
        }
        if is == recorded.decision {
            return Ok(());
        }
        let in_force = self.in_force(recorded.level)?;
        let (now, _, _) = said(self.verdict(recorded, in_force)?);
        replayed.changes.push(Changed {
            run: run.clone(),
            time,
            level: recorded.level,
            argv: recorded.argv.clone(),
            started_by: None,
            count: 1,
            was: recorded.decision,
            was_rule: recorded.rule.clone(),
            cause: if now == recorded.decision { Cause::Profile } else { Cause::Since },
            is,
            is_rule,
            reason,
        });
        Ok(())
    }

    fn in_force(&mut self, level: Level) -> Result<Profile, EngineError> {
        if let Some(known) = self.in_force.get(&level) {
            return Ok(known.clone());
        }
        let profile = indexed(self.around.profile(level)?);
        self.in_force.insert(level, profile.clone());
        Ok(profile)
    }

    /// One program that a command started, or wanted to.
    fn started(
        &mut self,
        recorded: &Exec,
        time: Timestamp,
        replayed: &mut Replayed,
    ) -> Result<(), EngineError> {
        let Some(command) = self.running.get(&recorded.run) else { return Ok(()) };
        let Some(judged) = &recorded.judged else {
            replayed.unruled += 1;
            return Ok(());
        };
        if recorded.argv.iter().any(|it| ledger::is_redacted(it.as_bytes())) {
            replayed.redacted += 1;
            return Ok(());
        }
        replayed.execs += 1;
        let level = command.level;
        let fact = fact(recorded, judged);
        let starter = Starter { names: judged.started_by.clone(), own_call: judged.own_call };
        let mut request = self.request(command, ProgramFact::Missing { searched: Vec::new() });
        request.level = self.changed.level;
        let verdict = policy::decide_recorded(&fact, &starter, &request, &self.changed);
        let (is, is_rule, reason) = said_of_exec(verdict);
        if is == recorded.decision {
            return Ok(());
        }
        let same = |it: &&mut Changed| {
            let known = (&it.run, &it.argv, it.started_by.as_ref(), &it.is_rule);
            known == (&recorded.run, &recorded.argv, Some(&judged.started_by), &is_rule)
        };
        if let Some(known) = replayed.changes.iter_mut().rev().find(same) {
            known.count += 1;
            return Ok(());
        }
        request.level = level;
        let in_force = self.in_force(level)?;
        let now = policy::decide_recorded(&fact, &starter, &request, &in_force);
        let (now, _, _) = said_of_exec(now);
        replayed.changes.push(Changed {
            run: recorded.run.clone(),
            time,
            level,
            argv: recorded.argv.clone(),
            started_by: Some(judged.started_by.clone()),
            count: 1,
            was: recorded.decision,
            was_rule: recorded.rule.clone(),
            cause: if now == recorded.decision { Cause::Profile } else { Cause::Since },
            is,
            is_rule,
            reason,
        });
        Ok(())
    }

    fn verdict(&mut self, recorded: &Decision, profile: Profile) -> Result<Verdict, EngineError> {
        let (cwd, workspace) = (path(&recorded.cwd), path(&recorded.workspace));
        if self.known.insert((workspace.clone(), profile.digest)) {
            find_paths(&mut self.host, &profile, &workspace, (None, false), self.around)?;
        }
        let home: &Path = &self.around.home;
        let program = program(&recorded.argv, &profile, &self.host, home, (&cwd, &workspace))?;
        let level = profile.level;
        let request = Request { level, ..self.request(recorded, program) };
        // The ceiling is whoever starts rung's to say, not the profile's.
        let ladder =
            Ladder { ceiling: Level::ProductionWrites, profiles: [(level, profile)].into() };
        Ok(match policy::decide(&request, &ladder) {
            Verdict::Allow(permit) if level.needs_grant() => {
                Verdict::Deny(policy::without_grant(&request, &permit))
            }
            verdict => verdict,
        })
    }

    fn request(&self, recorded: &Decision, program: ProgramFact) -> Request {
        Request {
            program,
            argv: recorded.argv.clone(),
            level: recorded.level,
            cwd: path(&recorded.cwd),
            workspace: path(&recorded.workspace),
            home: self.around.home.clone(),
            environment: environment(self.around),
            ids: recorded.ids.clone(),
            streams: Streams::Inherit,
            tree: Tree::Itself,
            repository: None,
            caches: BTreeMap::new(),
        }
    }
}

/// Thousands of decisions are taken under it.
fn indexed(mut profile: Profile) -> Profile {
    profile.exec.index_rules();
    profile
}

fn path(word: &Arg) -> PathBuf {
    PathBuf::from(word.as_os_str())
}

/// The exec as its record has it. Whoever started it is beside the record.
fn fact(recorded: &Exec, judged: &Judged) -> ExecFact {
    let found = |at: &Arg, object: &Arg, location: ProgramLocation| ProgramFact::Found {
        path: path(at),
        canonical: path(object),
        location,
        device: recorded.device,
        inode: recorded.inode,
        // It would have been refused for that, whatever the rules.
        setid: recorded.rule == "exec.set-id",
        executable: true,
    };
    let script = judged
        .script
        .as_ref()
        .map(|(at, location)| found(at, recorded.script.as_ref().unwrap_or(at), *location));
    ExecFact {
        spelled: judged.spelled.clone(),
        argv: recorded.argv.clone(),
        image: Image::File(found(&judged.path, &recorded.program, judged.location)),
        script,
        cwd: path(&recorded.cwd),
        environment: Vec::new(),
        caller: Caller::default(),
    }
}

fn as_text<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

fn said(verdict: Verdict) -> (Answer, String, Option<String>) {
    match verdict {
        Verdict::Allow(permit) => (Answer::Allow, permit.rule().to_owned(), None),
        Verdict::Ask(question) => (Answer::Ask, question.rule, Some(question.denial.reason)),
        Verdict::Deny(refusal) => (Answer::Deny, refusal.denial.rule, Some(refusal.denial.reason)),
    }
}

fn said_of_exec(verdict: ExecVerdict) -> (Answer, String, Option<String>) {
    match verdict {
        ExecVerdict::Allow { rule, .. } => (Answer::Allow, rule, None),
        ExecVerdict::Deny(denial) => (Answer::Deny, denial.rule, Some(denial.reason)),
    }
}
