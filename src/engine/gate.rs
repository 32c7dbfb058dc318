//! Judges the programs that a run starts, and keeps the record of them.
//!
//! The run's own command has been decided before the launch, so at the gate it only has to be that
//! command still. Everything it starts is decided by the whole profile of the level, which is read
//! when the first of it comes: many commands start nothing. What cannot be recorded is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::fetched::Memory;
use super::learn::Lessons;
use super::profiles::profile_for;
use super::record::{redact, word};
use super::{EngineError, Surroundings};
use crate::launch::Filling;
use crate::launch::gate::{Became, ExecAnswer};
use crate::ledger::{Answer, Exec, ExecCount, Judged, Ledger, Outcome as Seen, Record, Tally};
use crate::model::{
    Arg, Denial, ExecFact, Image, Layer, Level, Look, ProgramFact, ProgramLocation, Request,
};
use crate::plan::SandboxPlan;
use crate::plan::egress::CredentialPlan;
use crate::policy::shell::{self, Foreseen};
use crate::policy::{self, Dealing, ExecVerdict, Fetched, Lesson, Starter};
use crate::profile::Profile;

/// Programs of one run that get a record each; more are counted.
const STARTED_MAX: usize = 1000;
/// Refusals that do.
const REFUSED_MAX: usize = 200;
/// How many records wait to be written together.
const WAITING_MAX: usize = 32;
/// Different programs that are counted each for itself, and different refusals that are told.
const COUNTED_MAX: usize = 64;
const DENIALS_MAX: usize = 32;
/// Refusals that are about something else than the program, its words and who starts it.
const UNRULED: [&str; 6] = [
    "exec.unrecorded",
    "exec.changed",
    "exec.profile",
    "exec.environment",
    "exec.fetched",
    "shell.divergence",
];
/// Programs above one that its record names.
const CALLERS_MAX: usize = 8;

/// What the gate of a run asks, and tells.
pub(super) struct Keeper<'a> {
    request: &'a Request,
    around: &'a Surroundings,
    own: Own,
    /// Of the profile that the plan was made from.
    digest: crate::model::Digest,
    profile: Option<Profile>,
    started: Instant,
    recorded: (usize, usize),
    waiting: Vec<Record>,
    counts: BTreeMap<(String, Seen), u64>,
    /// Each with what was refused as it really is, and as it is told.
    denials: Vec<(String, Denial)>,
    denials_left_out: u32,
    /// Of a learning run.
    lessons: Option<&'a mut Lessons>,
    /// What came from other machines; absent if it could not be read, and then nothing is started.
    fetched: Option<(Memory, Fetched)>,
    /// Some program may be started that fetches.
    reaches_out: bool,
    /// Why nothing may be started any more.
    broken: Option<String>,
}

/// The run's own command, as it was decided.
struct Own {
    program: ProgramFact,
    spelled: Arg,
    argv: Vec<Arg>,
    environment: BTreeMap<String, Arg>,
    rule: String,
    dealing: Dealing,
    /// What its text can become, where it is a shell with one that was decided by its commands.
    foreseen: Option<Foreseen>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        request: &'a Request,
        (plan, profile): (&SandboxPlan, &Profile),
        mut lessons: Option<&'a mut Lessons>,
        around: &'a Surroundings,
    ) -> Result<Self, EngineError> {
        let command = &plan.command;
        let environment = command.environment.iter();
        let own = Own {
            program: request.program.clone(),
            spelled: word(&command.program)?,
            argv: command.argv.clone(),
            environment: environment.map(|(name, it)| (name.clone(), it.value.clone())).collect(),
            rule: plan.rule.clone(),
            dealing: Dealing::of(&request.program, profile),
            foreseen: (plan.rule == shell::TEXT).then(|| Foreseen::of(&command.argv)).flatten(),
        };
        if let Some(lessons) = &mut lessons {
            lessons.begin(request, &own.environment);
        }
        let reaches_out = own.dealing.fetches;
        let (fetched, broken) = match Memory::open(&around.directories.state, request) {
            Ok(fetched) => (Some(fetched), None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self {
            request,
            around,
            own,
            digest: plan.profile_digest,
            profile: None,
            started: Instant::now(),
            recorded: (0, 0),
            waiting: Vec::new(),
            counts: BTreeMap::new(),
            denials: Vec::new(),
            denials_left_out: 0,
            lessons,
            fetched,
            reaches_out,
            broken,
        })
    }

    /// The variables as they really are, now that what stands for credentials is known.
    pub(super) fn fill(&mut self, credentials: &[CredentialPlan], filling: &Filling) {
        for name in credentials.iter().filter_map(|it| it.variable.as_ref()) {
            if let Some(value) = self.own.environment.get_mut(name)
                && let Some(marked) = value.as_str()
                && let Ok(filled) = Arg::try_from(&*filling.filled(marked))
            {
                *value = filled;
            }
        }
    }

    /// Decides about one program.
    pub(super) fn decide(&mut self, fact: &ExecFact, look: &Look<'_>) -> ExecAnswer {
        let answer = self.ruled(fact);
        match answer {
            ExecAnswer::Allow { .. } => self.unfetched(fact, look).map_or(answer, ExecAnswer::Deny),
            ExecAnswer::Deny(_) => answer,
        }
    }

    /// Refuses what came from another machine, whatever the rules say.
    fn unfetched(&mut self, fact: &ExecFact, look: &Look<'_>) -> Option<Denial> {
        let (_, fetched) = self.fetched.as_mut()?;
        if !self.reaches_out && fetched.is_empty() {
            return None;
        }
        let dealing = match (&self.profile, &fact.image) {
            (Some(profile), Image::File(program)) => Dealing::of(program, profile),
            (None, _) => self.own.dealing,
            (Some(_), Image::Nameless { .. } | Image::Unreadable { .. }) => Dealing::default(),
        };
        let what = fetched.weigh(fact, dealing, look)?;
        let why = format!("{what} came from another machine, and what is fetched is not started");
        let next = "read it, and say what it would do; a person who has read it too can start it, \
                    or put a copy of it in its place";
        Some(Denial { next: next.to_owned(), ..self.refusal(fact, "exec.fetched", why) })
    }

    fn ruled(&mut self, fact: &ExecFact) -> ExecAnswer {
        if let Some(why) = &self.broken {
            return ExecAnswer::Deny(self.refusal(fact, "exec.unrecorded", why.clone()));
        }
        if is_own(fact) {
            return match self.own.differs(fact) {
                None => ExecAnswer::Allow { rule: self.own.rule.clone() },
                Some(why) => ExecAnswer::Deny(self.refusal(fact, "exec.changed", why.to_owned())),
            };
        }
        if self.own.made_something_else_of_its_text(fact) {
            let why = "bash made of the text what rung had not read out of it";
            return ExecAnswer::Deny(self.refusal(fact, "shell.divergence", why.to_owned()));
        }
        let known = self.profile.take().map(Ok);
        let profile = match known.unwrap_or_else(|| self.whole_profile()) {
            Ok(profile) => profile,
            Err(why) => return ExecAnswer::Deny(self.refusal(fact, "exec.profile", why)),
        };
        let verdict = policy::decide_exec(fact, self.request, &profile, &self.own.environment);
        self.profile = Some(profile);
        match verdict {
            ExecVerdict::Allow { rule, .. } => ExecAnswer::Allow { rule },
            ExecVerdict::Deny(denial) => {
                if self.lesson(fact).is_some_and(|it| self.admit(it, fact)) {
                    ExecAnswer::Allow { rule: policy::LEARNED.to_owned() }
                } else {
                    ExecAnswer::Deny(denial)
                }
            }
        }
    }

    /// What there is to learn from an exec, in a learning run.
    fn lesson(&self, fact: &ExecFact) -> Option<Lesson> {
        let (Some(_), Some(profile)) = (&self.lessons, &self.profile) else { return None };
        policy::lesson(fact, self.request, profile, &self.own.environment)
    }

    fn admit(&mut self, lesson: Lesson, fact: &ExecFact) -> bool {
        self.lessons.as_mut().is_some_and(|it| it.admit(lesson, fact))
    }

    fn whole_profile(&mut self) -> Result<Profile, String> {
        let layers = self.around.layers().map_err(|error| error.to_string())?;
        let profile =
            profile_for(self.request.level, &layers, None, &self.around.directories.state);
        let mut profile = profile.map_err(|error| error.to_string())?;
        profile.exec.index_rules();
        if profile.digest != self.digest {
            return Err("the profile has changed since the run was decided".to_owned());
        }
        self.reaches_out |= policy::may_fetch(&profile);
        Ok(profile)
    }

    fn refusal(&self, fact: &ExecFact, rule: &str, reason: String) -> Denial {
        Denial {
            layer: Layer::Exec,
            rule: rule.to_owned(),
            level: self.request.level,
            object: object(fact),
            reason,
            origin: None,
            allow_with: None,
            next: "end the run and start it again".to_owned(),
            count: 1,
        }
    }

    /// Notes what became of a program. What is due to be written is in the result.
    pub(super) fn told(
        &mut self,
        fact: &ExecFact,
        answer: &ExecAnswer,
        became: Became,
        ledger: &mut Ledger,
    ) {
        let (seen, rule) = match (answer, became) {
            (ExecAnswer::Allow { rule }, Became::Unverified) => (Seen::Unverified, rule),
            (ExecAnswer::Allow { rule }, _) => (Seen::Started, rule),
            (ExecAnswer::Deny(denial), Became::Killed) => (Seen::Killed, &denial.rule),
            (ExecAnswer::Deny(denial), _) => (Seen::Refused, &denial.rule),
        };
        if rule == policy::LEARNED
            && let Some(lesson) = self.lesson(fact)
            && let Some(lessons) = &mut self.lessons
        {
            lessons.started(&lesson);
        }
        if let ExecAnswer::Deny(denial) = answer {
            self.count_denial(fact, denial);
        } else if is_own(fact) {
            // The run's start has a record of its own.
            return;
        }
        let (room, max) = match answer {
            ExecAnswer::Allow { .. } => (&mut self.recorded.0, STARTED_MAX),
            ExecAnswer::Deny(_) => (&mut self.recorded.1, REFUSED_MAX),
        };
        if *room >= max {
            self.count(shown_program(fact), seen);
            return;
        }
        *room += 1;
        let judged = self.judged(fact, rule);
        match judged.and_then(|it| record(&self.request.ids.run, fact, answer, seen, rule, it)) {
            Ok(record) => self.waiting.push(record),
            Err(error) => self.broken = Some(error.to_string()),
        }
        if self.waiting.len() >= WAITING_MAX {
            self.write(ledger);
        }
    }

    /// What the rules went by, where they were asked.
    fn judged(&self, fact: &ExecFact, rule: &str) -> Result<Option<Judged>, EngineError> {
        let (Some(profile), false) = (&self.profile, UNRULED.contains(&rule)) else {
            return Ok(None);
        };
        let place = |it: &ProgramFact| match it {
            ProgramFact::Found { path, location, .. } => Ok(Some((word(path)?, *location))),
            ProgramFact::Missing { .. } => Ok::<_, EngineError>(None),
        };
        let Image::File(image) = &fact.image else { return Ok(None) };
        let Some((path, location)) = place(image)? else { return Ok(None) };
        let script = fact.script.as_ref().map(place).transpose()?.flatten();
        let Starter { names: started_by, own_call } = Starter::of(fact, profile);
        let spelled = fact.spelled.clone();
        Ok(Some(Judged { spelled, path, location, script, started_by, own_call }))
    }

    fn count(&mut self, program: String, seen: Seen) {
        let known = self.counts.contains_key(&(program.clone(), seen));
        let program =
            if known || self.counts.len() < COUNTED_MAX { program } else { "others".to_owned() };
        *self.counts.entry((program, seen)).or_insert(0) += 1;
    }

    fn count_denial(&mut self, fact: &ExecFact, denial: &Denial) {
        let same = |it: &&mut (String, Denial)| it.1.rule == denial.rule && it.0 == denial.object;
        if let Some((_, known)) = self.denials.iter_mut().find(same) {
            known.count = known.count.saturating_add(1);
        } else if self.denials.len() < DENIALS_MAX {
            let mut told = denial.clone();
            redact(&mut told, &fact.argv);
            self.denials.push((denial.object.clone(), told));
        } else {
            self.denials_left_out = self.denials_left_out.saturating_add(1);
        }
    }

    fn write(&mut self, ledger: &mut Ledger) {
        let elapsed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        let now: Timestamp = self.around.now.checked_add(elapsed).unwrap_or(self.around.now);
        let waiting = std::mem::take(&mut self.waiting);
        if let Err(error) = ledger.append(now, &waiting) {
            self.broken = Some(format!("nothing is started that cannot be recorded: {error}"));
        }
    }

    /// What is left to be recorded, and what was refused.
    pub(super) fn finish(self) -> Result<(Vec<Record>, Vec<Denial>), String> {
        let Self { mut waiting, counts, denials, denials_left_out, broken, .. } = self;
        let Self { request, lessons, fetched, .. } = self;
        let mut denials: Vec<Denial> = denials.into_iter().map(|it| it.1).collect();
        if let Some(lessons) = lessons {
            waiting.extend(lessons.records(&request.ids.run));
        }
        if let Some(why) = broken {
            return Err(why);
        }
        if let Some((memory, fetched)) = fetched {
            memory.keep(&fetched, request)?;
        }
        if !counts.is_empty() {
            let run = request.ids.run.clone();
            let tally = |((program, became), count)| Tally { program, became, count };
            let more = counts.into_iter().map(tally).collect();
            waiting.push(Record::ExecCount(ExecCount { run, more }));
        }
        if denials_left_out > 0 {
            denials.push(left_out(request.level, denials_left_out));
        }
        Ok((waiting, denials))
    }
}

/// Whether nothing of the run stands above it: it is the run's own command.
fn is_own(fact: &ExecFact) -> bool {
    fact.caller.lineage.is_empty() && !fact.caller.cut
}

impl Own {
    /// Whether the run's own shell starts what is none of the commands of its text.
    fn made_something_else_of_its_text(&self, fact: &ExecFact) -> bool {
        let by_own_shell = fact.caller.lineage.len() == 1 && !fact.caller.cut;
        match &self.foreseen {
            Some(foreseen) if by_own_shell && fact.script.is_none() => !foreseen.covers(&fact.argv),
            Some(_) | None => false,
        }
    }

    /// In what way the program at the gate is not the one that was decided about.
    fn differs(&self, fact: &ExecFact) -> Option<&'static str> {
        if fact.spelled != self.spelled {
            return Some("another program was started than the one that was decided about");
        }
        let Image::File(image) = &fact.image else {
            return Some("the program is no file that could have been decided about");
        };
        let program = fact.script.as_ref().unwrap_or(image);
        if !same_object(program, &self.program) {
            return Some("the program's file was exchanged after it was decided about");
        }
        // An interpreter's own words come first, and the name of its script.
        let words = if fact.script.is_some() {
            let rest = self.argv.get(1..).unwrap_or_default();
            fact.argv.ends_with(rest)
        } else {
            fact.argv == self.argv
        };
        if !words {
            return Some("its words are not those that were decided about");
        }
        let given = self.environment.iter().map(|(name, value)| variable(name, value));
        if !given.eq(fact.environment.iter().map(|it| it.as_bytes().to_vec())) {
            return Some("its variables are not those of the plan");
        }
        None
    }
}

fn variable(name: &str, value: &Arg) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}

/// A program of the workspace may be built anew at any time, so there its name has to do.
fn same_object(found: &ProgramFact, decided: &ProgramFact) -> bool {
    match (found, decided) {
        (
            ProgramFact::Found { canonical, location, device, inode, .. },
            ProgramFact::Found { canonical: canonical_2, device: device_2, inode: inode_2, .. },
        ) => {
            canonical == canonical_2
                && (*location == ProgramLocation::Workspace
                    || (device, inode) == (device_2, inode_2))
        }
        (ProgramFact::Missing { .. } | ProgramFact::Found { .. }, _) => false,
    }
}

fn left_out(level: Level, count: u32) -> Denial {
    Denial {
        layer: Layer::Exec,
        rule: "exec.more".to_owned(),
        level,
        object: "other programs".to_owned(),
        reason: format!("{count} more refusals than are told one by one"),
        origin: None,
        allow_with: None,
        next: "see the first ones".to_owned(),
        count,
    }
}

fn object(fact: &ExecFact) -> String {
    if fact.argv.is_empty() {
        return fact.spelled.to_string();
    }
    let words: Vec<String> = fact.argv.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// The program in one word: where its object lies, or what it claims to be.
fn shown_program(fact: &ExecFact) -> String {
    let place = |it: &ProgramFact| match it {
        ProgramFact::Found { canonical, .. } => canonical.display().to_string(),
        ProgramFact::Missing { .. } => fact.spelled.to_string(),
    };
    match (&fact.script, &fact.image) {
        (Some(script), _) => place(script),
        (None, Image::File(program)) => place(program),
        (None, Image::Nameless { shown }) => shown.clone(),
        (None, Image::Unreadable { path }) => path.display().to_string(),
    }
}

fn record(
    run: &str,
    fact: &ExecFact,
    answer: &ExecAnswer,
    became: Seen,
    rule: &str,
    judged: Option<Judged>,
) -> Result<Record, EngineError> {
    let (image, device, inode) = match &fact.image {
        Image::File(ProgramFact::Found { canonical, device, inode, .. }) => {
            (word(canonical)?, *device, *inode)
        }
        Image::File(ProgramFact::Missing { .. }) => (fact.spelled.clone(), 0, 0),
        Image::Nameless { shown } => (word(Path::new(shown))?, 0, 0),
        Image::Unreadable { path } => (word(path)?, 0, 0),
    };
    let script = match &fact.script {
        Some(ProgramFact::Found { canonical, .. }) => Some(word(canonical)?),
        Some(ProgramFact::Missing { .. }) | None => None,
    };
    let callers = fact.caller.lineage.iter().take(CALLERS_MAX);
    Ok(Record::Exec(Box::new(Exec {
        run: run.to_owned(),
        became,
        decision: match answer {
            ExecAnswer::Allow { .. } => Answer::Allow,
            ExecAnswer::Deny(_) => Answer::Deny,
        },
        rule: rule.to_owned(),
        program: image,
        device,
        inode,
        script,
        argv: fact.argv.clone(),
        cwd: word(&fact.cwd)?,
        caller: callers.map(|it| word(&it.canonical)).collect::<Result<_, _>>()?,
        caller_cut: fact.caller.cut || fact.caller.lineage.len() > CALLERS_MAX,
        judged: judged.map(Box::new),
    })))
}
