//! `rung doctor`: each promise of each level on this host, with the cause and the way out.

use std::collections::BTreeSet;
use std::process::ExitCode;

use super::FAILED;
use super::words::{answer_json, complain, say};
use crate::engine::Surroundings;
use crate::engine::inspect::{self, Diagnosis, LevelHere, PromiseHere, PromiseState};
use crate::model::{Cause, Probe};

/// Something is missing at a level that rung is for.
const NOT_WELL: u8 = 1;

pub(super) fn doctor(json: bool, around: &Surroundings) -> ExitCode {
    let found = match inspect::diagnose(around) {
        Ok(found) => found,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    if json {
        answer_json(&found);
    } else {
        let program = std::env::current_exe().ok();
        let program =
            program.map_or_else(|| "/usr/bin/rung".to_owned(), |it| it.display().to_string());
        say(std::io::stdout(), &words(&found, &program));
    }
    ExitCode::from(if found.is_well() { 0 } else { NOT_WELL })
}

fn words(found: &Diagnosis, program: &str) -> String {
    let landlock = match found.landlock_abi {
        0 => "no Landlock".to_owned(),
        abi => format!("Landlock ABI {abi}"),
    };
    let root = if found.uid == 0 { " (root: commands run as nobody)" } else { "" };
    let mut lines = vec![
        format!("Linux {} on {}, {landlock}, user {}{root}", found.kernel, found.arch, found.uid),
        format!("ceiling level {}, default level {}", found.ceiling, found.default_level),
        String::new(),
        "What a sandbox is built from, each tried just now".to_owned(),
    ];
    lines.extend(found.mechanisms.iter().map(|it| {
        let said = match &it.probe {
            Probe::Works => "works".to_owned(),
            Probe::Fails { detail, .. } => format!("fails: {detail}"),
        };
        format!("  {:<30}{said}", it.mechanism.name())
    }));
    let mut told = BTreeSet::new();
    for alike in found.levels.chunk_by(|a, b| a.promises == b.promises) {
        lines.extend([String::new(), heading(alike)]);
        let promises = alike.first().map_or(&[] as &[PromiseHere], |it| &it.promises);
        lines.extend(promises.iter().flat_map(|it| promise_words(it, &mut told)));
    }
    if !found.way_out.is_empty() {
        lines.extend([
            String::new(),
            "The way out of a run, by a connection made just now".to_owned(),
        ]);
        lines.extend(found.way_out.iter().flat_map(|it| promise_words(it, &mut told)));
    }
    if found.fails_by(Cause::AppArmor) {
        lines.push(apparmor(program));
    }
    let verdict = if found.is_well() {
        "Levels 1 to 3 can be used here."
    } else {
        "Something is missing at levels 1 to 3; the lines with `mend` say what to do."
    };
    lines.extend([String::new(), verdict.to_owned()]);
    lines.join("\n") + "\n"
}

/// `Levels 2 to 6`
fn heading(alike: &[LevelHere]) -> String {
    match alike {
        [] => String::new(),
        [only] => format!("Level {} ({})", only.level, only.title),
        [first, .., last] => format!("Levels {} to {}", first.level, last.level),
    }
}

/// A promise; why it is not kept only the first time that this is the reason.
fn promise_words<'a>(promise: &'a PromiseHere, told: &mut BTreeSet<&'a str>) -> Vec<String> {
    let state = match promise.state {
        PromiseState::Kept => "kept",
        PromiseState::Degraded => "degraded",
        PromiseState::Missing => "missing",
    };
    let mut lines = vec![format!("  {state:<10}{}", promise.promise)];
    match (&promise.cause, &promise.fix) {
        (Some(cause), Some(fix)) if told.insert(cause) => {
            lines.push(format!("            because {}", cause.replace('\n', "\n            ")));
            lines.push(format!("            mend    {fix}"));
        }
        (Some(cause), None) => lines.push(format!("            because {cause}")),
        (_, _) => {}
    }
    lines
}

/// The profile that Ubuntu 23.10 and newer want before a program may use its user namespaces.
fn apparmor(program: &str) -> String {
    format!(
        "
Put this into /etc/apparmor.d/rung, then `sudo apparmor_parser -r /etc/apparmor.d/rung`:

  abi <abi/4.0>,
  include <tunables/global>
  profile rung {program} flags=(unconfined) {{
    userns,
  }}

Or, for every program: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::inspect::Tried;
    use crate::model::{Level, Mechanism};

    fn diagnosis(cause: Cause, state: PromiseState) -> Diagnosis {
        let promise = PromiseHere {
            promise: "the command is isolated".to_owned(),
            state,
            cause: Some("it is refused".to_owned()),
            fix: Some("allow it".to_owned()),
        };
        let level = |level: Level| LevelHere {
            level,
            title: level.title(),
            promises: vec![promise.clone()],
        };
        let probe = Probe::Fails { cause, detail: "mounting a tmpfs: EACCES".to_owned() };
        Diagnosis {
            kernel: "6.8.0".to_owned(),
            arch: "x86_64".to_owned(),
            uid: 1000,
            landlock_abi: 4,
            ceiling: Level::TestExecution,
            default_level: Level::LocalWrites,
            mechanisms: vec![Tried { mechanism: Mechanism::Mount, probe }],
            levels: vec![level(Level::ReadOnlyResearch), level(Level::LocalWrites)],
            way_out: vec![promise],
            way_out_is_needed: false,
        }
    }

    #[test]
    fn a_cause_and_its_way_out_are_told_once() {
        let found = diagnosis(Cause::OuterFilter, PromiseState::Missing);
        let text = words(&found, "/usr/bin/rung");
        assert_eq!(text.matches("because it is refused\n").count(), 1, "{text}");
        assert_eq!(text.matches("mend    allow it\n").count(), 1, "{text}");
        assert!(text.contains("Levels 1 to 2\n  missing   the command is isolated\n"), "{text}");
        assert!(!text.contains("apparmor"), "{text}");
    }

    #[test]
    fn the_apparmor_profile_names_this_very_program() {
        let text = words(&diagnosis(Cause::AppArmor, PromiseState::Missing), "/opt/rung");
        assert!(
            text.contains("profile rung /opt/rung flags=(unconfined) {\n    userns,"),
            "{text}"
        );
    }

    #[test]
    fn a_host_is_well_if_nothing_is_missing() {
        assert!(diagnosis(Cause::Yama, PromiseState::Degraded).is_well());
        assert!(!diagnosis(Cause::Yama, PromiseState::Missing).is_well());
        let mut found = diagnosis(Cause::Yama, PromiseState::Degraded);
        found.way_out.iter_mut().for_each(|it| it.state = PromiseState::Missing);
        assert!(found.is_well(), "no level has a use for it");
        found.way_out_is_needed = true;
        assert!(!found.is_well());
    }
}
