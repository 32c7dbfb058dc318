//! What a shell's text comes to: as much as the strictest of its commands.
//!
//! Every command goes through the same rules as a command line of its own, in every directory in
//! which it could start; a redirection is a path that is read or written. What a word becomes only
//! while the shell runs is put to the rules as the worst text it could be. A text that is not
//! understood is never judged in part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::builtin::{self, Builtin};
use super::call::{Call, is_bash};
use super::scan;
use super::{Construct, Fill, Limits, Script, Simple, Step, Target, Undecidable, Word, parse};
use crate::model::{Arg, Level, Origin};
use crate::policy::decide::{NESTING_MAX, WORKSPACE_PROGRAMS, final_name, judge, strictest};
use crate::policy::finding::{
    Allowed, Command, Finding, InText, Nearest, ProgramProblem, precedence,
};
use crate::policy::value::{self, Form, Place};
use crate::profile::{Decision, Power, Profile, ValueType, WorkspaceMode};

/// The rule under which texts run whose commands are all allowed.
pub const TEXT: &str = "shell.text";

/// The rule about texts that are not understood.
pub(in crate::policy) const UNDECIDED: &str = "shell.undecided";

/// In how many directories a command could start, for all that is known.
const DIRECTORIES_MAX: usize = 8;

/// Stands for what the shell fills in: text with characters and a path in it that no type but free
/// text and a path to read lets pass.
const HOLE: &[u8] = b"\x01/../\x01";

/// Judges the text that is handed to the shell of this name.
pub(in crate::policy) fn judge_text<'a>(
    profile: &'a Profile,
    name: &str,
    call: &Call<'_>,
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    if depth > NESTING_MAX {
        return Finding::Uncovered(Nearest::TooDeep);
    }
    // A rule about shells themselves.
    if let Some(rule) = strictest(profile, &[name], &[], place)
        && rule.decision > Decision::Confirm
    {
        return Finding::Caught(rule);
    }
    let text = call.text.as_bytes();
    let unsure = |construct: Construct| Undecidable::new(construct, 0..text.len(), text);
    let script = match &call.problem {
        Some(construct) => Err(unsure(construct.clone())),
        None if !is_bash(name) => Err(unsure(Construct::Dialect { name: name.to_owned() })),
        None => parse(text, &Limits::default()),
    };
    let finding = match script {
        Ok(script) => judge_script(profile, &script, text, place, depth),
        Err(undecidable) => Finding::Undecidable(undecidable),
    };
    if let Finding::Undecidable(undecidable) = finding {
        return match scan::never(profile, text, place) {
            Some(rule) => Finding::Caught(rule),
            None => undecided(profile, undecidable, place),
        };
    }
    if is_step_of_a_text(place) && leaves_it_to_the_gate(profile.level, &finding) {
        let because = "the programs it starts are decided one by one";
        return Finding::Allowed(deferred(profile, because));
    }
    finding
}

/// Whether the run's own command asks at the exec. What a program of the run hands to a shell is that
/// program's own doing, which rules name.
fn is_step_of_a_text(place: &Place<'_>) -> bool {
    place.at_exec && place.callers.is_empty()
}

/// Whether what is started by the text is decided when it is started, and that is enough: at an
/// exec the shell is not what was asked for but what a build or a test is made of.
fn leaves_it_to_the_gate(level: Level, finding: &Finding<'_>) -> bool {
    defers(level) && !matches!(finding, Finding::Allowed(_)) && !is_never(finding)
}

fn is_never(finding: &Finding<'_>) -> bool {
    match finding {
        Finding::Caught(rule) => rule.decision == Decision::Never,
        Finding::Text(text) => is_never(&text.finding),
        Finding::Allowed(_)
        | Finding::BadProgram(_)
        | Finding::Uncovered(_)
        | Finding::Undecidable(_) => false,
    }
}

/// Levels at which every program that a run starts is decided by the gate, and nobody is asked.
fn defers(level: Level) -> bool {
    level > Level::ReadOnlyResearch && !level.needs_grant()
}

/// What becomes of a text that nobody can be certain of.
fn undecided<'a>(profile: &'a Profile, why: Undecidable, place: &Place<'_>) -> Finding<'a> {
    let by_call = matches!(
        why.construct,
        Construct::ShellOption { .. } | Construct::Parameters | Construct::Dialect { .. }
    );
    let may_defer = if place.at_exec { is_step_of_a_text(place) } else { !by_call };
    if defers(profile.level) && may_defer {
        let because =
            format!("{why} is not certain; the programs it starts are decided one by one");
        return Finding::Allowed(deferred(profile, &because));
    }
    Finding::Undecidable(why)
}

fn deferred(profile: &Profile, because: &str) -> Allowed {
    let programs = profile.exec.programs.values();
    Allowed {
        rule: UNDECIDED.to_owned(),
        power: Power::Exec,
        origin: Origin::built_in(because),
        force_environment: programs.flat_map(|it| it.force_environment.clone()).collect(),
        by_shell: true,
    }
}

fn judge_script<'a>(
    profile: &'a Profile,
    script: &Script,
    text: &[u8],
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let mut all = Together::default();
    let mut directories = vec![place.cwd.to_owned()];
    let mut feeding: Vec<Arg> = Vec::new();
    for Step { command, then } in &script.steps {
        let mut entered = Vec::new();
        for cwd in &directories {
            let place = Place { cwd, ..*place };
            let judged = judge_command(profile, command, &feeding, &place, depth);
            match judged {
                Ok(Judged { finding, directory }) => {
                    entered.extend(directory);
                    all.add(finding, command);
                }
                Err((construct, span)) => {
                    all.add(Finding::Undecidable(Undecidable::new(construct, span, text)), command);
                }
            }
        }
        // It may have failed, and the shell may have gone on.
        directories.extend(entered);
        directories.sort();
        directories.dedup();
        if directories.len() > DIRECTORIES_MAX {
            let why = Undecidable::new(Construct::Directory, command.span.clone(), text);
            all.add(Finding::Undecidable(why), command);
            break;
        }
        if then.is_pipe() {
            feeding.extend(scan::as_texts(&command.words));
        } else {
            feeding.clear();
        }
    }
    all.finding(text)
}

/// What the commands of one text come to together.
#[derive(Default)]
struct Together<'a> {
    worst: Option<(Finding<'a>, Vec<Arg>)>,
    rules: BTreeSet<String>,
    power: Option<Power>,
    force_environment: BTreeMap<String, String>,
}

impl<'a> Together<'a> {
    fn add(&mut self, finding: Finding<'a>, command: &Simple) {
        if let Finding::Allowed(allowed) = finding {
            self.rules.insert(allowed.rule);
            self.power = self.power.max(Some(allowed.power));
            self.force_environment.extend(allowed.force_environment);
            return;
        }
        let is_worse = match &self.worst {
            Some((worst, _)) => precedence(worst) < precedence(&finding),
            None => true,
        };
        if is_worse {
            let shown = command.words.iter().map(|it| it.start.clone()).collect();
            self.worst = Some((finding, shown));
        }
    }

    fn finding(self, text: &[u8]) -> Finding<'a> {
        match self.worst {
            Some((undecidable @ Finding::Undecidable(_), _)) => return undecidable,
            Some((finding, command)) => {
                return Finding::Text(Box::new(InText { command, finding }));
            }
            None => {}
        }
        let mut force_environment = self.force_environment;
        if !text.is_ascii() {
            // In a locale of another encoding bash would see other characters.
            force_environment.insert("LC_ALL".to_owned(), "C.UTF-8".to_owned());
        }
        let rules: Vec<String> = self.rules.into_iter().collect();
        let because = format!("every command of the text is allowed: {}", rules.join(", "));
        Finding::Allowed(Allowed {
            rule: TEXT.to_owned(),
            power: self.power.unwrap_or(Power::Read),
            origin: Origin::built_in(&because),
            force_environment,
            by_shell: true,
        })
    }
}

struct Judged<'a> {
    finding: Finding<'a>,
    /// Where the commands behind it start, if it succeeds.
    directory: Option<PathBuf>,
}

type Stop = (Construct, std::ops::Range<usize>);

fn judge_command<'a>(
    profile: &'a Profile,
    command: &Simple,
    feeding: &[Arg],
    place: &Place<'_>,
    depth: usize,
) -> Result<Judged<'a>, Stop> {
    for assignment in &command.assignments {
        if command.words.is_empty() || !place.passes(&assignment.name) {
            let name = assignment.name.clone();
            return Err((Construct::Variable { name }, assignment.span.clone()));
        }
    }
    let written = command.redirects.iter().filter_map(|it| match &it.target {
        Target::Write(path) | Target::ReadWrite(path) => Some(path),
        Target::Read(_) | Target::Descriptor | Target::Text(_) => None,
    });
    let mut writes = false;
    for path in written {
        if !may_write(path, place) {
            let word = path.to_string();
            let finding = Finding::Uncovered(Nearest::Redirect { word });
            return Ok(Judged { finding, directory: None });
        }
        writes |= path.as_bytes() != b"/dev/null";
    }
    let allowed = |rule: &str, power| {
        Finding::Allowed(Allowed {
            rule: rule.to_owned(),
            power,
            origin: Origin::built_in("the shell does it itself, and it changes only the shell"),
            force_environment: BTreeMap::new(),
            by_shell: true,
        })
    };
    let power = if writes { Power::Write } else { Power::Read };
    let Some((program, words)) = command.words.split_first() else {
        return Ok(Judged { finding: allowed("shell.redirect", power), directory: None });
    };
    let spelled = program.start.as_str().unwrap_or_default();
    let builtin = builtin::read(spelled, words, place)
        .map_err(|construct| (construct, command.span.clone()))?;
    let words = match builtin {
        Builtin::No => words.to_vec(),
        Builtin::As(words) => words,
        Builtin::Own => {
            return Ok(Judged { finding: allowed("shell.builtin", power), directory: None });
        }
        Builtin::Directory(directory) => {
            let finding = allowed("shell.builtin", power);
            return Ok(Judged { finding, directory: Some(directory) });
        }
    };
    let name = if spelled == "[" { "test" } else { spelled };
    let mut worst: Option<Finding<'a>> = None;
    let filled = words.iter().find(|it| it.filled.is_some());
    // A pattern becomes one word or several.
    for times in [1, 2] {
        let argv = filled_in(&words, times)?;
        let finding = judge_words(profile, name, &argv, feeding, place, depth);
        // With other words it could be allowed, and only the shell knows them.
        if let (Finding::Uncovered(Nearest::Rule { .. }), Some(word)) = (&finding, filled) {
            return Err((Construct::FilledIn, word.span.clone()));
        }
        let is_worse = worst.as_ref().is_none_or(|it| precedence(it) < precedence(&finding));
        if is_worse {
            worst = Some(finding);
        }
    }
    let mut finding = worst.unwrap_or(Finding::Uncovered(Nearest::TooDeep));
    if let Finding::Allowed(allowed) = &mut finding {
        allowed.power = allowed.power.max(power);
    }
    Ok(Judged { finding, directory: None })
}

/// One command with its words as they could be. Which file a plain name means is found by the
/// shell in the search path that the plan sets, and looked at when it starts.
fn judge_words<'a>(
    profile: &'a Profile,
    spelled: &str,
    words: &[Arg],
    feeding: &[Arg],
    place: &Place<'_>,
    depth: usize,
) -> Finding<'a> {
    let Some(name) = final_name(Path::new(spelled)) else {
        return Finding::BadProgram(ProgramProblem::Nameless);
    };
    // What feeds it could be what it does: a shell that reads a download.
    if let Some(rule) = scan::never_fed(profile, name, words, feeding, place) {
        return Finding::Caught(rule);
    }
    let in_workspace = spelled.contains('/')
        && (!spelled.starts_with('/') || Path::new(spelled).starts_with(place.workspace));
    if in_workspace {
        let caught = strictest(profile, &[name], words, place);
        if let Some(rule) = caught.filter(|it| it.decision > Decision::Confirm) {
            return Finding::Caught(rule);
        }
        return match &profile.exec.workspace_programs {
            Some(origin) if place.resolved(spelled.as_bytes()).is_relative() => {
                Finding::Allowed(Allowed {
                    rule: WORKSPACE_PROGRAMS.to_owned(),
                    power: Power::Exec,
                    origin: origin.clone(),
                    force_environment: BTreeMap::new(),
                    by_shell: true,
                })
            }
            Some(_) | None => Finding::Uncovered(Nearest::Payload { word: spelled.to_owned() }),
        };
    }
    judge(profile, &Command { name, names: vec![name], words }, place, depth + 1)
}

/// The words with the worst that could be filled in, or the word that could be anything.
fn filled_in(words: &[Word], times: usize) -> Result<Vec<Arg>, Stop> {
    let mut argv: Vec<Arg> = Vec::new();
    let mut options_ended = false;
    for word in words {
        let Some(filled) = word.filled else {
            options_ended |= word.start.as_bytes() == b"--";
            argv.push(word.start.clone());
            continue;
        };
        let start = word.start.as_bytes();
        // A file may be called `-x`. The gate looks at the names that a pattern found; what a
        // variable holds is not even a name.
        let is_pattern = filled.by == Fill::Pattern;
        let could_be_option = start.starts_with(b"-") || (start.is_empty() && !is_pattern);
        let splits_anywhere = filled.splits && filled.by != Fill::Pattern;
        let stop = || (Construct::FilledIn, word.span.clone());
        if (splits_anywhere || could_be_option) && !options_ended {
            return Err(stop());
        }
        let hole = Arg::new([start, HOLE].concat()).map_err(|_| stop())?;
        let count = if filled.splits { times } else { 1 };
        argv.extend(std::iter::repeat_n(hole, count));
    }
    Ok(argv)
}

/// Whether the shell may open the file for writing.
fn may_write(path: &Arg, place: &Place<'_>) -> bool {
    let bytes = path.as_bytes();
    let outside = bytes == b"/dev/null" || bytes.starts_with(b"/tmp/");
    let read_only = place.profile.filesystem.workspace.mode == WorkspaceMode::ReadOnly;
    (outside || !read_only) && value::fits(&ValueType::PathWrite, bytes, Form::Attached, place)
}
