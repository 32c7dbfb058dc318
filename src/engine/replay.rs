//! Recorded decisions, taken again: what would a changed profile have made of the work that was done?
//!
//! The words, the place and the level come from the ledger; the programs are looked up as they are
//! today. So each decision that comes out differently is also taken under the profile in force,
//! which tells a change of the profile from a change of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::consider::{environment, find_paths, program};
use super::{EngineError, Surroundings};
use crate::host;
use crate::ledger::{self, Answer, Body, Decision, Entry, Record};
use crate::model::{Arg, Digest, HostFacts, Level, Request, Streams, Tree};
use crate::plan;
use crate::policy::{self, Verdict};
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
    /// Decisions taken again.
    pub decided: usize,
    /// Decisions of other levels than the changed one.
    pub other_levels: usize,
    /// Decisions whose words the ledger does not have whole, because they looked like secrets.
    pub redacted: usize,
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
    ledger::decisions(&around.ledger_directory(), run, &mut |entry| {
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
        let host = host::facts(&around.directories.state.join("host"), plan::lasting_paths)?;
        let in_force = BTreeMap::new();
        Ok(Self { around, changed, only, in_force, host, known: BTreeSet::new(), failed: None })
    }

    fn entry(&mut self, entry: &Entry, replayed: &mut Replayed) {
        let Body::Record(Record::Decision(recorded)) = &entry.body else { return };
        if self.failed.is_some() {
            return;
        }
        if self.only.is_some_and(|it| it != recorded.level) {
            replayed.other_levels += 1;
        } else if recorded.argv.iter().any(|it| ledger::is_redacted(it.as_bytes())) {
            replayed.redacted += 1;
        } else {
            match self.decision(recorded, entry.time) {
                Ok(changed) => {
                    replayed.decided += 1;
                    replayed.changes.extend(changed);
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    fn decision(
        &mut self,
        recorded: &Decision,
        time: Timestamp,
    ) -> Result<Option<Changed>, EngineError> {
        let changed = self.changed.clone();
        let verdict = self.verdict(recorded, changed)?;
        let (is, is_rule, reason) = said(verdict);
        if is == recorded.decision {
            return Ok(None);
        }
        let level = recorded.level;
        let in_force = match self.in_force.get(&level) {
            Some(known) => known.clone(),
            None => self.around.profile(level)?,
        };
        self.in_force.insert(level, in_force.clone());
        let (now, _, _) = said(self.verdict(recorded, in_force)?);
        Ok(Some(Changed {
            run: recorded.ids.run.clone(),
            time,
            level,
            argv: recorded.argv.clone(),
            was: recorded.decision,
            was_rule: recorded.rule.clone(),
            cause: if now == recorded.decision { Cause::Profile } else { Cause::Since },
            is,
            is_rule,
            reason,
        }))
    }

    fn verdict(&mut self, recorded: &Decision, profile: Profile) -> Result<Verdict, EngineError> {
        let path = |word: &Arg| PathBuf::from(word.as_os_str());
        let (cwd, workspace) = (path(&recorded.cwd), path(&recorded.workspace));
        if self.known.insert((workspace.clone(), profile.digest)) {
            find_paths(&mut self.host, &profile, &workspace, None, self.around)?;
        }
        let home: &Path = &self.around.home;
        let program = program(&recorded.argv, &profile, &self.host, home, (&cwd, &workspace))?;
        let level = profile.level;
        let request = Request {
            program,
            argv: recorded.argv.clone(),
            level,
            cwd,
            workspace,
            home: self.around.home.clone(),
            environment: environment(self.around),
            ids: recorded.ids.clone(),
            streams: Streams::Inherit,
            tree: Tree::Itself,
        };
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
