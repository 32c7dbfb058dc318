//! Profiles as their authors meet them: what is refused and with which words, what a layer may
//! change, what the six built-in levels say.

mod extends;
mod layers;
mod levels;
mod mistakes;
mod shown;

use rung::model::Level;
use rung::profile::{Findings, Layer, Profile, Severity, Source, built_in};

/// A whole level 1, as small as one can be.
const BASE: &str = r#"schema = 1
name = "base"
level = 1
summary = "for tests"
on_gap = "refuse"
[filesystem]
workspace = "read-only"
read = ["/usr", "/opt"]
hidden = ["/opt/secret"]
protected = [".git/hooks"]
tmp = { size = "1 MiB", files = 10 }
[exec]
packs = ["tools"]
[environment]
pass = ["LANG", "TZ"]
[syscalls]
table = "standard"
[limits]
wall = "10 min"
grace = "5 s"
processes = 100
open_files = 100
memory = "1 GiB"
file = "1 GiB"
session = "1 GiB"
session_files = 1000
[output]
max = "unlimited"
when_full = "stop"
[audit]
durable = "overlapped"
[[exec.rule]]
id = "tool.stop"
program = "tool"
decision = "deny"
power = "write"
because = "stops"
when = { any_option = ["--stop"] }
match = ["tool --stop"]
"#;

const TOOLS: &str = r#"schema = 1
pack = "tools"
summary = "tools for tests"
[[program]]
name = "tool"
class = "plain"
style = "gnu"
[[rule]]
id = "tool.run"
from_level = 1
program = "tool"
decision = "allow"
power = "read"
because = "runs"
arguments = [{ flags = ["-v"] }]
match = ["tool -v"]
not_match = ["tool -x"]
[[rule]]
id = "tool.later"
from_level = 2
program = "tool"
decision = "allow"
power = "pr"
because = "hands over"
arguments = ["send"]
match = ["tool send"]
not_match = ["tool send x"]
[[rule]]
id = "tool.never"
program = "tool"
decision = "never"
power = "admin"
because = "destroys"
when = { any_option = ["--destroy"] }
match = ["tool --destroy"]
[toolchain]
directories = ["~/.tools"]
search_path = ["~/.tools/bin"]
credentials = ["~/.tools/token"]
"#;

/// A level 2 on top of [`BASE`].
const SECOND: &str = r#"schema = 1
name = "second"
level = 2
extends = "base"
summary = "for tests"
"#;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn layer(name: &str, files: &[(&str, &str)]) -> Layer {
    let sources = files.iter().map(|(name, text)| source(name, text)).collect();
    Layer { name: name.to_owned(), sources }
}

fn lowest() -> Level {
    Level::ReadOnlyResearch
}

/// [`BASE`] with one piece of text put in the place of another.
#[track_caller]
fn edited(base: &str, from: &str, to: &str) -> String {
    assert!(from.is_empty() || base.contains(from), "`{from}` is not in the text");
    if from.is_empty() { format!("{base}{to}") } else { base.replacen(from, to, 1) }
}

fn errors(findings: &Findings) -> Vec<String> {
    let problems = findings.problems().iter().filter(|it| it.severity == Severity::Error);
    problems.map(|it| format!("{}:{}:{} {}", it.file, it.line, it.column, it.message)).collect()
}

fn reads(profile: &Profile) -> Vec<&str> {
    profile.filesystem.read.iter().map(|it| it.path.as_str()).collect()
}

fn rules(profile: &Profile) -> Vec<&str> {
    profile.exec.rules.iter().map(|it| it.id.as_str()).collect()
}

fn level(number: u8) -> Profile {
    built_in(Level::try_from(number).unwrap()).unwrap()
}
