//! `rung session`: an hour of an agent's work, looked at, kept or thrown away.

mod verbs;

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use self::verbs::Accept;
pub(super) use self::verbs::SessionVerb;
use super::pager::answer_paged;
use super::words::{answer, answer_json, complain, say};
use super::{FAILED, USAGE};
use crate::engine::session::{
    self, Applied, Change, Choice, Session, SessionError, Shown, Start, Verdict, line, shown,
};
use crate::engine::{EngineError, Surroundings};
use crate::model::{Bytes, LayerUse, Streams};

/// Both sides have changed something.
const CHANGED: u8 = 1;
/// Something waits for an answer.
const WAITING: u8 = 75;
const REFUSED: u8 = 126;

pub(super) fn session(verb: SessionVerb, around: &Surroundings) -> ExitCode {
    let changes = !matches!(
        verb,
        SessionVerb::Shell { .. }
            | SessionVerb::List { .. }
            | SessionVerb::Show { .. }
            | SessionVerb::Status { .. }
            | SessionVerb::Diff { .. }
            | SessionVerb::Export { .. }
    );
    if changes {
        match session::finish_interrupted(around) {
            Ok(notes) => notes.iter().for_each(|it| say(io::stderr(), &format!("rung: {it}\n"))),
            Err(error) => return complain(&error.to_string(), code_of(&error)),
        }
    }
    let done = match verb {
        SessionVerb::Start { name, level, base, worktree, json } => {
            start(Start { name, level, base, worktree }, json, around)
        }
        SessionVerb::Shell { name } => shell(&name, around),
        SessionVerb::List { json } => list(json, around),
        SessionVerb::Show { name: Some(name), json, .. } => show(&name, json, around),
        SessionVerb::Show { name: None, json, .. } => acts(json, around),
        SessionVerb::Status { name, json } => status(&name, json, around),
        SessionVerb::Diff { name, paths, stat, patch, no_pager, json } => {
            let how = match (stat, patch, json) {
                (true, _, _) => How::Stat,
                (_, true, _) => How::Patch,
                (_, _, true) => How::Json,
                _ => How::Lines,
            };
            diff(&name, &paths, how, !no_pager, around)
        }
        SessionVerb::Apply { name, paths, accept, overwrite, no_input, json } => {
            let choice = Choice {
                paths: match paths.iter().map(|it| relative(it)).collect() {
                    Ok(paths) => paths,
                    Err(problem) => return complain(&problem, USAGE),
                },
                accept: accepted(&accept),
                agreed: BTreeSet::new(),
                overwrite,
            };
            apply(&name, choice, no_input, json, around)
        }
        SessionVerb::Discard { name, paths } if paths.is_empty() => {
            session::discard(&name, around).map(|()| ExitCode::SUCCESS)
        }
        SessionVerb::Discard { name, paths } => discard_paths(&name, &paths, around),
        SessionVerb::Rollback { id, json } => rollback(&id, json, around),
        SessionVerb::Export { name } => diff(&name, &[], How::Patch, false, around),
        SessionVerb::Gc => session::collect(around).map(|it| {
            it.notes.iter().for_each(|note| say(io::stderr(), &format!("rung: {note}\n")));
            let (left, old) = (it.swept, it.forgotten);
            answer(&format!("{left} left behind by killed runs, {old} too old to be rolled back\n"))
        }),
    };
    done.unwrap_or_else(|error| complain(&error.to_string(), code_of(&error)))
}

fn code_of(error: &EngineError) -> u8 {
    match error {
        EngineError::Session(SessionError::Name { .. }) => USAGE,
        EngineError::Session(SessionError::Changed { .. }) => CHANGED,
        _ => FAILED,
    }
}

fn accepted(given: &[Accept]) -> BTreeSet<session::Risk> {
    let mut classes = BTreeSet::new();
    for accept in given {
        match accept {
            Accept::All => classes.extend(session::Risk::ALL),
            Accept::One(risk) => drop(classes.insert(*risk)),
        }
    }
    classes
}

fn discard_paths(
    name: &str,
    paths: &[PathBuf],
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    let paths: Vec<PathBuf> = match paths.iter().map(|it| relative(it)).collect() {
        Ok(paths) => paths,
        Err(problem) => return Ok(complain(&problem, USAGE)),
    };
    let dropped = session::discard_paths(name, &paths, around)?;
    if dropped.is_empty() {
        return Ok(complain("the session has changed nothing there", CHANGED));
    }
    Ok(answer(&in_lines(&dropped.iter().map(|it| shown(it)).collect::<Vec<_>>())))
}

/// A path of the tree, without `.`; one that leaves the tree is none.
fn relative(path: &Path) -> Result<PathBuf, String> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => plain.push(name),
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(format!(
                    "`{}` is not relative to the session's tree; write it as `rung session status` \
                     does",
                    shown(path)
                ));
            }
        }
    }
    Ok(plain)
}

#[derive(Serialize)]
struct Started<'a> {
    #[serde(flatten)]
    manifest: &'a session::Manifest,
}

fn start(start: Start, json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let Session { manifest, .. } = session::start(start, around)?;
    if json {
        return Ok(answer_json(&Started { manifest: &manifest }));
    }
    if manifest.backend == session::Backend::Copy {
        say(io::stderr(), &format!("rung: the tree was copied, because {}\n", manifest.reason));
    }
    Ok(answer(&format!("{}\n", manifest.name)))
}

/// One run for each line, until there is none.
fn shell(name: &str, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let opened = session::open(name, around)?;
    let asks = io::stdin().is_terminal();
    let streams =
        if asks && io::stdout().is_terminal() { Streams::Terminal } else { Streams::Inherit };
    let mut last = 0;
    loop {
        if asks {
            say(io::stderr(), &format!("{} (level {})> ", name, opened.manifest.level));
        }
        let mut text = String::new();
        match io::stdin().lock().read_line(&mut text) {
            Ok(0) => return Ok(ExitCode::from(last)),
            Ok(_) => {}
            Err(error) => return Ok(complain(&format!("the input is no text: {error}"), FAILED)),
        }
        match text.trim() {
            "" => {}
            "exit" => return Ok(ExitCode::from(last)),
            text => match session::run_line(name, text, streams, around) {
                Ok(outcome) => {
                    say(io::stderr(), &super::run::words(&outcome));
                    last = outcome.status.exit_code();
                }
                Err(error) => {
                    last = USAGE;
                    say(io::stderr(), &format!("rung: {error}\n"));
                }
            },
        }
    }
}

fn list(json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let all = session::list(around)?;
    if json {
        return Ok(answer_json(&all));
    }
    let lines = all.iter().map(|it| match (&it.manifest, &it.problem) {
        (Some(manifest), _) => format!(
            "{}  level {}  {}  {}  {}\n",
            it.name,
            manifest.level,
            manifest.backend.name(),
            manifest.started,
            shown(&manifest.base)
        ),
        (None, problem) => format!("{}  {}\n", it.name, problem.as_deref().unwrap_or("broken")),
    });
    Ok(answer(&lines.collect::<String>()))
}

#[derive(Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    manifest: &'a session::Manifest,
    in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<LayerUse>,
}

fn show(name: &str, json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let opened = session::open(name, around)?;
    let manifest = &opened.manifest;
    let in_use = session::is_in_use(&opened);
    let layer = session::used(&opened, around)?;
    if json {
        return Ok(answer_json(&Facts { manifest, in_use, layer }));
    }
    Ok(answer(&format!(
        "session  {}\ntree     {}\nlevel    {}\nbackend  {}, because {}\nstarted  {}\nin use   {}\n{}",
        manifest.name,
        shown(&manifest.base),
        manifest.level,
        manifest.backend.name(),
        manifest.reason,
        manifest.started,
        if in_use { "yes" } else { "no" },
        layer.map(|it| format!("holds    {}\n", held(it))).unwrap_or_default(),
    )))
}

/// `12 MiB of 8 GiB, in 340 of 200 thousand files`
fn held(layer: LayerUse) -> String {
    let LayerUse { bytes, bytes_max, files, files_max } = layer;
    let bytes = Bytes(bytes.0.div_ceil(1024) * 1024);
    format!("{bytes} of {bytes_max}, in {files} of {files_max} files")
}

fn acts(json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let all = session::list_acts(around)?;
    if json {
        return Ok(answer_json(&all));
    }
    let lines = all.iter().map(|it| {
        let what = match &it.of {
            Some(of) => format!("rollback of {of}"),
            None => "apply".to_owned(),
        };
        format!("{}  {}  {}  {} paths  {what}\n", it.id, it.at, it.session, it.paths)
    });
    Ok(answer(&lines.collect::<String>()))
}

fn status(name: &str, json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let opened = session::open(name, around)?;
    let changes = session::changes(&opened, around)?;
    if json {
        return Ok(answer_json(&changes));
    }
    let mut lines: Vec<String> = changes.iter().map(line).collect();
    if let Some(layer) = session::used(&opened, around)? {
        say(io::stderr(), &format!("rung: the session holds {}\n", held(layer)));
    }
    if changes.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    if let both @ 1.. = changes.iter().filter(|it| it.both).count() {
        lines.push(format!(
            "{both} changed on both sides since {}: the session keeps its own copy, and apply \
             leaves them alone",
            opened.manifest.started
        ));
    }
    Ok(answer(&in_lines(&lines)))
}

fn in_lines(lines: &[String]) -> String {
    lines.iter().map(|it| it.clone() + "\n").collect()
}

#[derive(Clone, Copy)]
enum How {
    Lines,
    Stat,
    Patch,
    Json,
}

fn diff(
    name: &str,
    paths: &[PathBuf],
    how: How,
    paged: bool,
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    let paths: Vec<PathBuf> = match paths.iter().map(|it| relative(it)).collect() {
        Ok(paths) => paths,
        Err(problem) => return Ok(complain(&problem, USAGE)),
    };
    let opened = session::open(name, around)?;
    let changes = session::select(session::changes(&opened, around)?, &paths);
    let how = match how {
        How::Json => return Ok(answer_json(&changes)),
        How::Stat => {
            return Ok(answer_paged(&session::stat(&opened, &changes)?, paged, around));
        }
        How::Patch => Shown::Patch,
        How::Lines => Shown::People { colour: io::stdout().is_terminal() },
    };
    let patch = session::diff(&opened, &changes, how)?;
    for left_out in &patch.left_out {
        say(io::stderr(), &format!("rung: not in the patch: {left_out}\n"));
    }
    // A patch is as the files are, and nothing in it is escaped.
    let paged = paged && how != Shown::Patch;
    Ok(answer_paged(&patch.text, paged, around))
}

fn apply(
    name: &str,
    mut choice: Choice,
    no_input: bool,
    json: bool,
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    if !no_input && !json && io::stdin().is_terminal() && io::stderr().is_terminal() {
        let opened = session::open(name, around)?;
        let all = session::changes(&opened, around)?;
        for change in session::sort(all, &choice).waiting {
            if agrees(&opened, &change)? {
                choice.agreed.insert(change.path);
            }
        }
    }
    let applied = session::apply(name, &choice, around)?;
    let code = code_after(&applied);
    if json {
        let written = answer_json(&applied);
        return Ok(if written == ExitCode::SUCCESS { ExitCode::from(code) } else { written });
    }
    let sorted = &applied.sorted;
    for (changes, why) in [
        (&sorted.refused, "refused"),
        (&sorted.conflicts, "changed on both sides, left alone"),
        (&sorted.waiting, "waits for an answer"),
    ] {
        for change in changes {
            say(io::stderr(), &format!("rung: {why}: {}\n", line(change)));
        }
    }
    if !sorted.waiting.is_empty() {
        let classes: BTreeSet<&str> = sorted
            .waiting
            .iter()
            .flat_map(|it| &it.risks)
            .filter(|it| it.verdict() == Verdict::Confirm)
            .map(|it| it.name())
            .collect();
        let classes: Vec<&str> = classes.into_iter().collect();
        // What waits for something else alone has no class of its own.
        if !classes.is_empty() {
            let how = format!("rung: to apply them as well: --accept {}\n", classes.join(","));
            say(io::stderr(), &how);
        }
    }
    let mut lines: Vec<String> = sorted.apply.iter().map(line).collect();
    lines.extend(
        applied.id.iter().map(|id| format!("applied; `rung session rollback {id}` takes it back")),
    );
    lines.extend(applied.repository.iter().map(|id| {
        format!("applied to the repository; `rung session rollback {id}` takes that back")
    }));
    if sorted.apply.is_empty() {
        lines.push("nothing was applied".to_owned());
    }
    answer(&in_lines(&lines));
    Ok(ExitCode::from(code))
}

fn code_after(applied: &Applied) -> u8 {
    let sorted = &applied.sorted;
    if !sorted.refused.is_empty() {
        REFUSED
    } else if !sorted.conflicts.is_empty() {
        CHANGED
    } else if !sorted.waiting.is_empty() {
        WAITING
    } else {
        0
    }
}

/// Shows one change and asks about it.
fn agrees(opened: &Session, change: &Change) -> Result<bool, EngineError> {
    let how = Shown::People { colour: true };
    let patch = session::diff(opened, std::slice::from_ref(change), how)?;
    say(io::stderr(), &format!("{}apply this? [y/N] ", patch.text));
    let mut text = String::new();
    let read = io::stdin().lock().read_line(&mut text);
    Ok(read.is_ok() && matches!(text.trim(), "y" | "Y" | "yes"))
}

fn rollback(id: &str, json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let act = session::rollback(id, around)?;
    if json {
        let listed = session::ActListed {
            id: act.id,
            session: act.session,
            at: act.at,
            of: act.of,
            paths: act.steps.len(),
        };
        return Ok(answer_json(&listed));
    }
    let mut lines: Vec<String> = act.steps.iter().map(|it| shown(it.path())).collect();
    lines.push(format!("rolled back; `rung session rollback {}` takes that back", act.id));
    Ok(answer(&in_lines(&lines)))
}
