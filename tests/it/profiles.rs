//! Profiles as their authors meet them: what is refused and with which words, what a layer may
//! change, what the six built-in levels say.

use std::collections::BTreeSet;

use rung::model::{Bytes, Count, Level, Span};
use rung::profile::{
    Blast, Change, Decision, Findings, Layer, OnGap, Power, Profile, Severity, Source,
    WorkspaceMode, blast, built_in, built_in_for, built_in_layer, diff, key_paths, lint, load,
    load_all, schema, show, show_authored,
};

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

/// Mistakes in a level file: what is written instead of what, and the message at its place.
const LEVEL_MISTAKES: &[(&str, &str, &str)] = &[
    ("[filesystem]", "[filesytem]", "level-1.toml:6:2 unknown key `filesytem`"),
    ("wall =", "wal =", "level-1.toml:19:1 unknown key `wal` in `limits`"),
    (
        "size = \"1 MiB\"",
        "syze = \"1 MiB\"",
        "level-1.toml:11:9 unknown key `syze` in `filesystem.tmp`",
    ),
    (
        "processes = 100",
        "processes = \"many\"",
        "level-1.toml:21:13 limits.processes: `many` is not a whole number with a unit: write a number such as 1024 or \"200 thousand\"",
    ),
    (
        "processes = 100",
        "processes = -1",
        "level-1.toml:21:13 limits.processes: `-1` is not a whole number",
    ),
    (
        "processes = 100",
        "processes = 1.5",
        "level-1.toml:21:13 `limits.processes` must be a number such as 1024 or \"200 thousand\" or a table with `value`, not a fraction",
    ),
    (
        "\"1 GiB\"\nfile",
        "1024\nfile",
        "level-1.toml:23:10 `limits.memory` must be a size such as \"2 GiB\" or a table with `value`, not a number",
    ),
    (
        "\"1 GiB\"\nfile",
        "\"1024\"\nfile",
        "level-1.toml:23:10 limits.memory: `1024` has no unit: write a size such as \"2 GiB\"",
    ),
    (
        "\"10 min\"",
        "\"10 minutes\"",
        "level-1.toml:19:8 limits.wall: `minutes` is no unit here: use one of `ms`, `s`, `min`, `h`, `days`, `day`",
    ),
    ("\"10 min\"", "{ value = \"10 min\" }", "level-1.toml:19:8 `because` of `wall` is missing"),
    ("\"10 min\"", "{ because = \"x\" }", "level-1.toml:19:8 `value` of `wall` is missing"),
    (
        "\"read-only\"",
        "\"readonly\"",
        "level-1.toml:7:13 filesystem.workspace: `readonly` is not one of `read-only`, `session`, `direct`",
    ),
    (
        "[\"/usr\", \"/opt\"]",
        "\"/usr\"",
        "level-1.toml:8:8 `filesystem.read` must be a list, not a string",
    ),
    (
        "\"/usr\"",
        "true",
        "level-1.toml:8:9 `filesystem.read` must be a string or a table with `path`, not true or false",
    ),
    ("\"/usr\"", "{ path = \"/usr\" }", "level-1.toml:8:9 `because` of `read` is missing"),
    ("\"/usr\"", "\"usr\"", "level-1.toml:8:9 filesystem.read: `usr` is a relative path"),
    (
        "\"/usr\"",
        "\"/usr/../etc\"",
        "level-1.toml:8:9 filesystem.read: `/usr/../etc` climbs with `..`",
    ),
    ("\"/usr\"", "\"/\"", "level-1.toml:8:9 filesystem.read: `/` is the whole file system"),
    ("\"/usr\"", "\"/usr/*\"", "level-1.toml:8:9 filesystem.read: `/usr/*` has a wildcard, `*`"),
    (
        "\"/usr\"",
        "\"/us\\u0000r\"",
        "level-1.toml:8:9 filesystem.read: `/us\\u{0}r` holds a character that cannot be seen: \\u{0}",
    ),
    (
        "\"/usr\"",
        "\"/us\\u001Br\"",
        "level-1.toml:8:9 filesystem.read: `/us\\u{1b}r` holds a character that cannot be seen: \\u{1b}",
    ),
    (
        "hidden =",
        "write = [\"/\"]\nhidden =",
        "level-1.toml:9:10 filesystem.write: `/` is the whole file system",
    ),
    (
        "hidden =",
        "write = [\"/etc/x\"]\nhidden =",
        "level-1.toml:9:10 filesystem.write: `/etc/x` lies in `/etc`, which no profile can make writable",
    ),
    (
        "\".git/hooks\"",
        "\"**/hooks\"",
        "level-1.toml:10:14 filesystem.protected: `**/hooks` has a wildcard, `*`",
    ),
    (
        "\".git/hooks\"",
        "\"/etc\"",
        "level-1.toml:10:14 filesystem.protected: `/etc` is not relative to the workspace",
    ),
    ("packs = [\"tools\"]", "packs = [\"tool\"]", "level-1.toml:13:10 there is no pack `tool`"),
    (
        "packs = [\"tools\"]",
        "packs = [\"tools\", { name = \"x\" }]",
        "level-1.toml:13:19 `because` of `packs` is missing",
    ),
    ("hidden =", "toolchains = [\"rust\"]\nhidden =", "level-1.toml:9:15 there is no pack `rust`"),
    (
        "\"LANG\"",
        "\"LD_PRELOAD\"",
        "level-1.toml:15:9 environment.pass: `LD_PRELOAD` is not for a profile: it decides which code every program runs",
    ),
    (
        "[syscalls]",
        "set = { PATH = \"/x\" }\n[syscalls]",
        "level-1.toml:16:9 environment.set: `PATH` is not for a profile: it decides which code every program runs",
    ),
    (
        "",
        "[[network.destination]]\nhost = \"*\"\nports = [443]\nbecause = \"x\"\n",
        "level-1.toml:39:8 network.destination.host: `*` stands for any host",
    ),
    (
        "",
        "[[network.destination]]\nhost = \"a.example\"\nports = [0]\nbecause = \"x\"\n",
        "level-1.toml:40:10 network.destination.ports: `0` is not a whole number from 1 to 65535",
    ),
    (
        "",
        "[[network.destination]]\nhost = \"a.example\"\nports = [443]\n",
        "level-1.toml:38:1 `because` of `destination` is missing",
    ),
    ("because = \"stops\"\n", "", "level-1.toml:30:1 `because` of `rule` is missing"),
    (
        "because = \"stops\"",
        "because = \" \"",
        "level-1.toml:35:11 exec.rule.because: the sentence is empty",
    ),
    (
        "\"tool.stop\"",
        "\"Tool Stop\"",
        "level-1.toml:31:6 exec.rule.id: `Tool Stop` is no name: use lower-case letters, digits and `-_.`, with no empty part",
    ),
    (
        "\"tool.stop\"",
        "\"tool.run\"",
        "level-1.toml:30:1 rule `tool.run` is already at packs/tools.toml:8",
    ),
    (
        "match = [\"tool --stop\"]\n",
        "",
        "level-1.toml:30:1 rule `tool.stop` has no examples in `match`",
    ),
    (
        "[\"tool --stop\"]",
        "[\"tool | --stop\"]",
        "level-1.toml:37:10 the example has `|`, which a shell would act on: quote it, or write a list of words",
    ),
    (
        "[\"tool --stop\"]",
        "[\"tool '--stop\"]",
        "level-1.toml:37:10 the example has a quote that is not closed",
    ),
    ("[\"tool --stop\"]", "[[]]", "level-1.toml:37:10 the example is empty"),
    (
        "[\"--stop\"]",
        "[\"stop\"]",
        "level-1.toml:36:24 exec.rule.when.any_option: `stop` is no option",
    ),
    (
        "program = \"tool\"",
        "program = []",
        "level-1.toml:30:1 rule `tool.stop` is about no program",
    ),
    (
        "program = \"tool\"",
        "program = \"/bin/tool\"",
        "level-1.toml:32:11 exec.rule.program: `/bin/tool` is a path",
    ),
    (
        "decision = \"deny\"",
        "decision = \"allow\"",
        "level-1.toml:36:8 rule `tool.stop` allows, so it has `arguments`, the whole grammar, and no `when`",
    ),
    (
        "when = {",
        "arguments = []\nwhen = {",
        "level-1.toml:36:13 rule `tool.stop` does not allow, so it has `when` and no `arguments`",
    ),
    ("schema = 1", "schema = 2", "level-1.toml:1:10 schema: `2` is not a whole number from 1 to 1"),
    ("schema = 1\n", "", "level-1.toml:1:1 `schema` is missing"),
    (
        "level = 1",
        "level = 2",
        "level-1.toml:3:9 the file is called `level-1.toml`, so its level is 1",
    ),
    (
        "level = 1",
        "level = 1\nextends = \"nothing\"",
        "level-1.toml:4:11 there is no profile `nothing`",
    ),
    (
        "level = 1",
        "level = 1\nextends = \"base\"",
        "level-1.toml:4:11 level 1 cannot extend level 1: a level adds to a lower one",
    ),
    (
        "wall = \"10 min\"\n",
        "",
        "level-1.toml:2:8 `limits.wall` is not set, here or in a profile this one extends",
    ),
    (
        "wall = \"10 min\"",
        "wall = ",
        "level-1.toml:19:8 this is no TOML: string values must be quoted, expected literal string",
    ),
    (
        "wall = \"10 min\"",
        "wall = \"1 h\"\nwall = \"2 h\"",
        "level-1.toml:20:1 this is no TOML: duplicate key",
    ),
];

#[test]
fn every_mistake_is_named_at_its_place() {
    let mut missed = Vec::new();
    for (from, to, expected) in LEVEL_MISTAKES {
        let text = edited(BASE, from, to);
        let files = [("level-1.toml", text.as_str()), ("packs/tools.toml", TOOLS)];
        let found = load(lowest(), &[layer("built-in", &files)]).unwrap_err();
        if !errors(&found).contains(&(*expected).to_owned()) {
            missed.push(format!("{to}: {:#?}\nnot: {expected}", errors(&found)));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

const PACK_MISTAKES: &[(&str, &str, &str)] = &[
    (
        "pack = \"tools\"",
        "pack = \"other\"",
        "packs/tools.toml:2:8 the file is called `tools.toml`, so the pack is `tools`",
    ),
    (
        "from_level = 1\n",
        "",
        "packs/tools.toml:8:1 rule `tool.run` does not say from which level it holds",
    ),
    (
        "not_match = [\"tool -x\"]\n",
        "",
        "packs/tools.toml:8:1 rule `tool.run` has no examples in `not_match`",
    ),
    (
        "program = \"tool\"",
        "program = \"tol\"",
        "packs/tools.toml:8:1 rule `tool.run` allows `tol`, which no pack in force describes",
    ),
    (
        "program = \"tool\"",
        "program = \"tool*\"",
        "packs/tools.toml:8:1 rule `tool.run` allows, so it names its programs: `tool*` stands for many",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ flag = [\"-v\"] }",
        "packs/tools.toml:15:14 `rule.arguments`: a table here has one of the keys `one_of`, `flags`, `option`, `options`, `operands`, `after`, `rest`",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ option = \"-v\" }",
        "packs/tools.toml:15:14 `value` of `arguments` is missing",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ operands = \"paths\" }",
        "packs/tools.toml:15:27 rule.arguments.operands: `paths` is not one of `uint`, `int`, `duration`, `text`, `glob`, `regex`, `path-read`, `path-write`, `host`, `url`, `revision`, `path-workspace`, `name`, `sed-script`, `argv`",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ flags = [] }",
        "packs/tools.toml:15:14 rule `tool.run`: `flags` lists nothing, so nothing can match",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ after = \"--\", any = false }",
        "packs/tools.toml:15:14 rule `tool.run`: `any` after a word is always true",
    ),
    (
        "id = \"tool.later\"",
        "id = \"tool.run\"",
        "packs/tools.toml:19:6 rule `tool.run` is already at packs/tools.toml:9",
    ),
    (
        "style = \"gnu\"",
        "style = \"gnu\"\n[[program]]\nname = \"tool\"\nclass = \"plain\"\nstyle = \"dd\"",
        "packs/tools.toml:8:1 program `tool` is already described at packs/tools.toml:4",
    ),
    (
        "\"~/.tools/bin\"",
        "\"~/.other/bin\"",
        "packs/tools.toml:38:16 `~/.other/bin` lies in none of the toolchain's `directories`",
    ),
    (
        "\"~/.tools\"",
        "\"~\"",
        "packs/tools.toml:37:16 toolchain.directories: `~` as a whole holds what no command may see",
    ),
];

#[test]
fn a_pack_is_read_as_strictly_as_a_level() {
    let mut missed = Vec::new();
    for (from, to, expected) in PACK_MISTAKES {
        let text = edited(TOOLS, from, to);
        let files = [("level-1.toml", BASE), ("packs/tools.toml", text.as_str())];
        let found = load(lowest(), &[layer("built-in", &files)]).unwrap_err();
        if !errors(&found).contains(&(*expected).to_owned()) {
            missed.push(format!("{to}: {:#?}\nnot: {expected}", errors(&found)));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// All mistakes as their author sees them, with the line and a caret.
#[test]
fn mistakes_are_shown_with_their_line_and_a_caret() {
    let mut shown = Vec::new();
    let cases = LEVEL_MISTAKES.iter().map(|it| ("level-1.toml", BASE, it));
    for (file, base, (from, to, _)) in
        cases.chain(PACK_MISTAKES.iter().map(|it| ("packs/tools.toml", TOOLS, it)))
    {
        let text = edited(base, from, to);
        let other = if base == BASE { ("packs/tools.toml", TOOLS) } else { ("level-1.toml", BASE) };
        let found = load(lowest(), &[layer("built-in", &[other, (file, &text)])]).unwrap_err();
        shown.push(found.render(false));
    }
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn all_mistakes_of_all_files_come_at_once() {
    let broken = BASE.replace("wall =", "wal =").replace("\"/usr\"", "\"usr\"");
    let pack = TOOLS.replace("class = \"plain\"", "class = \"plane\"");
    let second = SECOND.replace("extends", "extend");
    let files =
        [("level-1.toml", broken.as_str()), ("level-2.toml", &second), ("packs/tools.toml", &pack)];
    let found = load(lowest(), &[layer("built-in", &files)]).unwrap_err();
    let found: Vec<String> =
        found.problems().iter().map(|it| format!("{}:{}", it.file, it.line)).collect();
    assert_eq!(
        found,
        ["level-1.toml:8", "level-1.toml:19", "level-2.toml:4", "packs/tools.toml:6"]
    );
}

/// A file that is cut off or has something odd in it is refused with words, whatever it is.
#[test]
fn no_text_whatever_is_more_than_an_error() {
    let mut texts: Vec<String> = Vec::new();
    let odd = ["\u{e9}", "\0", "\r", "[", "\"", "'", "\u{feff}", "\u{202e}", "=", "\\"];
    for (at, _) in BASE.char_indices() {
        let (before, after) = BASE.split_at(at);
        texts.push(before.to_owned());
        texts.push(format!("{before}{}{after}", odd[at % odd.len()]));
    }
    texts.extend(["\u{feff}", "\u{e9}", "", "\0", "a = [[[[[["].map(str::to_owned));
    texts.push(format!("a = {}", "[".repeat(100_000)));
    texts.push("# \n".repeat(500_000));
    for text in &texts {
        let files = [("level-1.toml", text.as_str()), ("packs/tools.toml", TOOLS)];
        if let Err(found) = load(lowest(), &[layer("built-in", &files)]) {
            assert!(found.has_errors() && !found.render(true).is_empty(), "{text}");
        }
    }
}

#[test]
fn findings_are_json_too() {
    let text = BASE.replace("wall =", "wal =");
    let files = [("level-1.toml", text.as_str()), ("packs/tools.toml", TOOLS)];
    let found = load(lowest(), &[layer("built-in", &files)]).unwrap_err();
    let first = serde_json::json!({
        "severity": "error", "file": "level-1.toml", "line": 19, "column": 1,
        "message": "unknown key `wal` in `limits`", "help": "did you mean `wall`?",
    });
    assert_eq!(found.json().get(0), Some(&first));
}

#[test]
fn a_file_that_is_neither_a_level_nor_a_pack_is_an_error() {
    let files = [("level-1.toml", BASE), ("packs/tools.toml", TOOLS), ("level-7.toml", "")];
    let found = load(lowest(), &[layer("built-in", &files)]).unwrap_err();
    assert_eq!(errors(&found), ["level-7.toml:1:1 `level-7.toml` is neither a level nor a pack"]);
    let found = load(Level::LocalWrites, &[layer("built-in", &files[..2])]).unwrap_err();
    assert_eq!(errors(&found), ["level-1.toml:1:1 there is no profile for level 2"]);
    assert!(load(lowest(), &[]).is_err());
}

// ---- extends

fn two_levels(second: &str) -> Result<Profile, Findings> {
    let text = format!("{SECOND}{second}");
    let files = [("level-1.toml", BASE), ("level-2.toml", &text), ("packs/tools.toml", TOOLS)];
    load(Level::LocalWrites, &[layer("built-in", &files)])
}

fn reads(profile: &Profile) -> Vec<&str> {
    profile.filesystem.read.iter().map(|it| it.path.as_str()).collect()
}

fn rules(profile: &Profile) -> Vec<&str> {
    profile.exec.rules.iter().map(|it| it.id.as_str()).collect()
}

#[test]
fn a_level_adds_to_the_one_it_extends_and_keeps_both_origins() {
    let profile =
        two_levels("[filesystem]\nread = [\"/srv\"]\n[limits]\nwall = \"1 h\"\n").unwrap();
    assert_eq!(reads(&profile), ["/usr", "/opt", "/srv"]);
    assert_eq!(profile.limits.wall.max, Span(3_600_000));
    assert_eq!(profile.limits.wall.origin.to_string(), "level-2.toml:9");
    assert_eq!(profile.limits.memory.origin.to_string(), "level-1.toml:23");
    assert_eq!(rules(&profile), ["tool.run", "tool.later", "tool.never", "tool.stop"]);
    assert_eq!(profile.sources, ["level-1.toml", "level-2.toml", "packs/tools.toml"]);
}

#[test]
fn a_level_may_leave_out_what_it_inherits() {
    let profile = two_levels(
        "[remove]\nfilesystem.read = [\"/opt\"]\nexec.rule = [\"tool.stop\"]\nenvironment.pass = [\"TZ\"]\n",
    )
    .unwrap();
    assert_eq!(reads(&profile), ["/usr"]);
    assert_eq!(rules(&profile), ["tool.run", "tool.later", "tool.never"]);
    assert_eq!(profile.environment.pass.len(), 1);
}

#[test]
fn a_power_is_inherited_only_until_a_level_takes_it_away() {
    let third = "schema = 1\nname = \"third\"\nlevel = 3\nextends = \"second\"\nsummary = \"x\"\n[remove]\nexec.power = [\"pr\", \"write\"]\n";
    let files = [
        ("level-1.toml", BASE),
        ("level-2.toml", SECOND),
        ("level-3.toml", third),
        ("packs/tools.toml", TOOLS),
    ];
    let profile = load(Level::TestExecution, &[layer("built-in", &files)]).unwrap();
    // `tool.stop` has the power too, but it denies.
    assert_eq!(rules(&profile), ["tool.run", "tool.never", "tool.stop"]);
}

#[test]
fn what_is_removed_must_have_been_there() {
    for (remove, expected) in [
        (
            "filesystem.read = [\"/otp\"]",
            "level-2.toml:7:20 `filesystem.read` has no `/otp` to remove",
        ),
        ("exec.rule = [\"tool.stp\"]", "level-2.toml:7:14 there is no rule `tool.stp` to remove"),
        (
            "exec.rule = [\"tool.never\"]",
            "level-2.toml:7:14 rule `tool.never` says never (packs/tools.toml:28), and nothing can take that back",
        ),
    ] {
        let found = two_levels(&format!("[remove]\n{remove}\n")).unwrap_err();
        assert_eq!(errors(&found), [expected]);
    }
}

#[test]
fn an_absent_list_allows_nothing() {
    let bare = BASE
        .replace("read = [\"/usr\", \"/opt\"]\n", "")
        .replace("hidden = [\"/opt/secret\"]\n", "")
        .replace("packs = [\"tools\"]\n", "")
        .replace("pass = [\"LANG\", \"TZ\"]\n", "pass = []\n");
    let profile = load(lowest(), &[layer("built-in", &[("level-1.toml", &bare)])]).unwrap();
    assert!(profile.filesystem.read.is_empty() && profile.filesystem.write.is_empty());
    assert!(profile.filesystem.toolchains.is_empty() && profile.environment.pass.is_empty());
    assert!(profile.network.destinations.is_empty() && profile.network.loopback.is_none());
    assert!(profile.exec.workspace_programs.is_none() && !profile.filesystem.tmp.run_programs);
    assert!(profile.exec.rules.iter().all(|it| it.decision != Decision::Allow));
}

#[test]
fn a_toolchain_comes_from_its_pack() {
    let profile = two_levels("[filesystem]\ntoolchains = [\"tools\"]\n").unwrap();
    let [toolchain] = profile.filesystem.toolchains.as_slice() else { panic!("not one toolchain") };
    assert_eq!(toolchain.directories, ["~/.tools"]);
    assert_eq!(toolchain.credentials, ["~/.tools/token"]);
}

#[test]
fn a_changed_comment_is_a_new_profile() {
    let digest = |text: &str| {
        load(lowest(), &[layer("built-in", &[("level-1.toml", text), ("packs/tools.toml", TOOLS)])])
            .unwrap()
            .digest
    };
    assert_eq!(digest(BASE), digest(BASE));
    assert_ne!(digest(BASE), digest(&format!("{BASE}# a word\n")));
}

#[test]
fn from_level_4_somebody_answers_for_the_profile() {
    let text = BASE.replace("level = 1", "level = 4");
    let files = [("level-4.toml", text.as_str()), ("packs/tools.toml", TOOLS)];
    let found = load(Level::ApprovedIntegration, &[layer("built-in", &files)]).unwrap_err();
    assert_eq!(errors(&found), ["level-4.toml:2:8 level 4 needs an `owner`"]);
}

// ---- layers

/// Loads [`BASE`] with `tunable` lines, and on top of it what `/etc/rung` and the user say.
fn layered(tunable: &str, system: &str, user: &str) -> Result<Profile, Findings> {
    let base = format!("{BASE}[tunable]\n{tunable}\n");
    let mut layers =
        vec![layer("built-in", &[("level-1.toml", &base), ("packs/tools.toml", TOOLS)])];
    for (name, file, text) in
        [("/etc/rung", "/etc/rung/level-1.toml", system), ("user", "~/rung/level-1.toml", user)]
    {
        if !text.is_empty() {
            layers.push(layer(name, &[(file, text)]));
        }
    }
    load(lowest(), &layers)
}

#[test]
fn a_lower_layer_may_tighten_anything() {
    let system = r#"
on_gap = "refuse"
filesystem = { hidden = ["/opt/more"], protected = ["infra/**"], tmp.size = "1 KiB" }
syscalls.table = "strict"
limits = { wall = "1 min", memory = { value = "1 MiB", because = "small machine" } }
output.max = "1 MiB"
audit = { durable = "before-exec", record_output = true }
[remove]
filesystem.read = ["/opt"]
exec.rule = ["tool.run"]
[[exec.rule]]
id = "company.no-verbose"
program = "tool"
decision = "deny"
power = "read"
because = "noise"
when = { any_option = ["-v"] }
match = ["tool -v"]
"#;
    let profile = layered("", system, "limits.wall = \"30 s\"").unwrap();
    assert_eq!(profile.limits.wall.max, Span(30_000));
    assert_eq!(profile.limits.memory.max, Bytes(1 << 20));
    assert_eq!(profile.limits.memory.origin.to_string(), "/etc/rung/level-1.toml:5");
    assert_eq!(profile.limits.memory.origin.because, "small machine");
    assert_eq!(reads(&profile), ["/usr"]);
    assert_eq!(profile.filesystem.protected.len(), 2);
    assert_eq!(profile.output.max.as_ref().unwrap().max, Bytes(1 << 20));
    assert_eq!(rules(&profile), ["tool.never", "tool.stop", "company.no-verbose"]);
}

const ALLOW_MORE: &str = r#"
[[exec.rule]]
id = "more.run"
program = "tool"
decision = "allow"
power = "read"
because = "more"
arguments = ["more"]
match = ["tool more"]
not_match = ["tool less"]
"#;

const CONFIRM_OTHER: &str = r#"
[[exec.rule]]
id = "more.ask"
program = "other"
decision = "confirm"
power = "read"
because = "more"
match = ["other"]
"#;

#[test]
fn a_lower_layer_may_not_widen() {
    let check = |system: &str, expected: &str| {
        let found = layered("", system, "").map(|_| ()).expect_err(system);
        assert_eq!(errors(&found), [expected], "{system}");
    };
    check(
        "limits.wall = \"11 min\"",
        "/etc/rung/level-1.toml:1:15 `limits.wall` = 11 min is wider than the layer above: level-1.toml:19 says 10 min",
    );
    check(
        "on_gap = \"allow\"",
        "/etc/rung/level-1.toml:1:10 `on_gap` = `allow` is wider than the layer above: level-1.toml:5 says `refuse`",
    );
    check(
        "filesystem.workspace = \"direct\"",
        "/etc/rung/level-1.toml:1:24 `filesystem.workspace` = `direct` is wider than the layer above: level-1.toml:7 says `read-only`",
    );
    check(
        "syscalls.table = \"debug\"",
        "/etc/rung/level-1.toml:1:18 `syscalls.table` = `debug` is wider than the layer above: level-1.toml:17 says `standard`",
    );
    check(
        "network.loopback = true",
        "/etc/rung/level-1.toml:1:20 `network.loopback` = true is wider than the layer above: `built-in` does not set it",
    );
    check(
        "exec.workspace_programs = true",
        "/etc/rung/level-1.toml:1:27 `exec.workspace_programs` = true is wider than the layer above: `built-in` does not set it",
    );
    check(
        "filesystem.read = [\"/srv\"]",
        "/etc/rung/level-1.toml:1:20 `/srv` is not in `filesystem.read` of the layer above, which ends at level-1.toml:8",
    );
    check(
        "filesystem.read = [{ path = \"/opt\", programs = true, because = \"x\" }]",
        "/etc/rung/level-1.toml:1:20 `/opt` in `filesystem.read` opens more than level-1.toml:8",
    );
    check(
        "filesystem.write = [\"/srv\"]",
        "/etc/rung/level-1.toml:1:21 `/srv` is not in `filesystem.write` of the layer above, which is empty",
    );
    check(
        "environment.set = { A = \"b\" }",
        "/etc/rung/level-1.toml:1:25 `A` is not in `environment.set` of the layer above, which is empty",
    );
    check(
        "[remove]\nfilesystem.hidden = [\"/opt/secret\"]",
        "/etc/rung/level-1.toml:2:22 `/opt/secret` is in `filesystem.hidden` by level-1.toml:9, and only that file can take it back",
    );
    check(
        "[remove]\nexec.rule = [\"tool.stop\"]",
        "/etc/rung/level-1.toml:2:14 rule `tool.stop` restricts (level-1.toml:30), and only that file can take it back",
    );
    check(
        "[remove]\nexec.rule = [\"tool.never\"]",
        "/etc/rung/level-1.toml:2:14 rule `tool.never` says never (packs/tools.toml:28), and nothing can take that back",
    );
    check(
        ALLOW_MORE,
        "/etc/rung/level-1.toml:2:1 `more.run` is not in `exec.rule` of the layer above, which ends at level-1.toml:30",
    );
    check(
        CONFIRM_OTHER,
        "/etc/rung/level-1.toml:2:1 `more.ask` is not in `exec.rule` of the layer above, which ends at level-1.toml:30",
    );
    check(
        "name = \"other\"",
        "/etc/rung/level-1.toml:1:8 `name` is decided by level-1.toml:2 and stays as it is",
    );
    check(
        "[tunable]\nfilesystem.read = true",
        "/etc/rung/level-1.toml:2:19 `filesystem.read` cannot be made more tunable than the layer above leaves it",
    );
}

#[test]
fn a_tunable_key_may_be_widened_up_to_its_bound() {
    let tunable = "filesystem.read = true\nlimits.wall = \"1 h\"\nexec.rule = true\nsyscalls.table = \"debug\"\non_gap = true";
    let profile = layered(
        tunable,
        &format!(
            "on_gap = \"allow\"\nfilesystem.read = [\"/srv\"]\nlimits.wall = \"1 h\"\n{ALLOW_MORE}"
        ),
        "syscalls.table = \"debug\"",
    )
    .unwrap();
    assert_eq!(profile.on_gap, OnGap::Allow);
    assert_eq!(reads(&profile), ["/usr", "/opt", "/srv"]);
    assert!(rules(&profile).contains(&"more.run"));
    let found = layered(tunable, "limits.wall = \"2 h\"", "").unwrap_err();
    assert_eq!(found.problems()[0].help.as_deref(), Some("level-1.toml:40 allows 1 h at most"));
}

#[test]
fn an_administrator_can_lock_what_users_could_tune() {
    let tunable = "filesystem.read = true\nlimits.wall = \"1 h\"";
    let lock = "[tunable]\nfilesystem.read = false\nlimits.wall = \"20 min\"";
    layered(tunable, "", "filesystem.read = [\"/srv\"]").unwrap();
    let found = layered(tunable, lock, "filesystem.read = [\"/srv\"]").unwrap_err();
    assert_eq!(
        found.problems()[0].help.as_deref(),
        Some("/etc/rung/level-1.toml:2 locks `filesystem.read`")
    );
    layered(tunable, lock, "limits.wall = \"20 min\"").unwrap();
    layered(tunable, lock, "limits.wall = \"21 min\"").unwrap_err();
    layered(tunable, lock, "[tunable]\nlimits.wall = \"1 h\"").unwrap_err();
}

#[test]
fn a_lock_at_one_level_holds_at_the_levels_above() {
    let base = format!("{BASE}[tunable]\nfilesystem.read = true\n");
    let second = format!("{SECOND}[tunable]\nfilesystem.read = true\n");
    let files =
        [("level-1.toml", base.as_str()), ("level-2.toml", &second), ("packs/tools.toml", TOOLS)];
    let built_in = layer("built-in", &files);
    let system = layer("/etc/rung", &[("level-1.toml", "[tunable]\nfilesystem.read = false\n")]);
    let user = layer("user", &[("level-2.toml", "filesystem.read = [\"/srv\"]\n")]);
    let level = Level::LocalWrites;
    load(level, &[built_in.clone(), user.clone()]).unwrap();
    load(level, &[built_in, system, user]).unwrap_err();
}

#[test]
fn what_a_lower_layer_takes_from_one_level_the_levels_above_do_not_get_either() {
    let files = [("level-1.toml", BASE), ("level-2.toml", SECOND), ("packs/tools.toml", TOOLS)];
    let system =
        layer("/etc/rung", &[("level-1.toml", "[remove]\nfilesystem.read = [\"/opt\"]\n")]);
    let profile = load(Level::LocalWrites, &[layer("built-in", &files), system]).unwrap();
    assert_eq!(reads(&profile), ["/usr"]);
}

/// A rule that asks, written in a pack (with its first level) or in a level file.
fn asks(table: &str, id: &str) -> String {
    format!(
        "[[{table}]]\nid = \"{id}\"\nprogram = \"tool\"\ndecision = \"confirm\"\npower = \"pr\"\nbecause = \"x\"\nmatch = [\"tool\"]\n"
    )
}

#[test]
fn a_power_taken_by_a_lower_layer_is_refused_and_not_merely_unasked() {
    let pack = format!("{TOOLS}{}from_level = 1\n", asks("rule", "pack.ask"));
    let base = format!("{BASE}{}", asks("exec.rule", "level.ask"));
    let built_in = layer("built-in", &[("level-1.toml", &base), ("packs/tools.toml", &pack)]);
    let user = layer("user", &[("level-1.toml", "[remove]\nexec.power = [\"pr\"]\n")]);
    let decisions = |layers: &[Layer]| -> Vec<Decision> {
        let rules = load(lowest(), layers).unwrap().exec.rules;
        rules.into_iter().filter(|it| it.power == Power::Pr).map(|it| it.decision).collect()
    };
    assert_eq!(decisions(std::slice::from_ref(&built_in)), [Decision::Confirm, Decision::Confirm]);
    assert_eq!(decisions(&[built_in, user]), [Decision::Deny, Decision::Deny]);
}

// ---- the six levels

fn level(number: u8) -> Profile {
    built_in(Level::try_from(number).unwrap()).unwrap()
}

#[test]
fn the_embedded_levels_are_the_ones_in_the_files() {
    let from_text = load_all(&[built_in_layer()]).unwrap();
    for level in Level::ALL {
        assert_eq!(Some(&built_in(level).unwrap()), from_text.get(&level), "level {level}");
    }
}

#[test]
fn a_profile_for_one_program_says_all_about_it_and_only_drops_others() {
    let whole = built_in(Level::ApprovedIntegration).unwrap();
    let part = built_in_for(Level::ApprovedIntegration, &["git", "psql"]).unwrap();
    let about = |profile: &Profile, name: &str| -> Vec<String> {
        let rules = profile.exec.rules.iter().filter(|it| it.programs.iter().any(|it| it == name));
        rules.map(|it| it.id.clone()).collect()
    };
    for name in ["git", "psql"] {
        assert!(!about(&whole, name).is_empty());
        assert_eq!(about(&part, name), about(&whole, name));
        assert_eq!(part.exec.programs.get(name), whole.exec.programs.get(name));
    }
    assert!(part.exec.rules.iter().any(|it| it.id == "never.secret.git"), "a pattern is left out");
    assert!(part.exec.rules.len() < whole.exec.rules.len());
    assert_eq!((part.digest, &part.filesystem), (whole.digest, &whole.filesystem));
}

#[test]
fn the_built_in_files_have_no_oddities() {
    assert_eq!(lint(&[built_in_layer()]).render(false), "");
}

#[test]
fn each_level_opens_what_the_table_of_levels_says() {
    for (number, workspace, programs, loopback) in [
        (1, WorkspaceMode::ReadOnly, false, false),
        (2, WorkspaceMode::Direct, false, false),
        (3, WorkspaceMode::Direct, true, true),
        (4, WorkspaceMode::Direct, true, true),
    ] {
        let profile = level(number);
        assert_eq!(profile.filesystem.workspace.mode, workspace, "level {number}");
        assert_eq!(profile.exec.workspace_programs.is_some(), programs, "level {number}");
        assert_eq!(profile.filesystem.tmp.run_programs, programs, "level {number}");
        assert_eq!(profile.network.loopback.is_some(), loopback, "level {number}");
    }
    for number in 1..=6 {
        let profile = level(number);
        assert_eq!(profile.on_gap, OnGap::Refuse, "level {number}");
        assert_eq!(profile.network.destinations, [], "no host is listed by default");
        assert_eq!(profile.owner.is_some(), number >= 4, "level {number}");
    }
}

#[test]
fn below_level_4_nothing_reaches_beyond_the_machine() {
    for number in 1..=3 {
        let reached: Vec<Power> = blast(&level(number)).powers;
        let local = [Power::Read, Power::Write, Power::Exec];
        assert!(reached.iter().all(|it| local.contains(it)), "level {number}: {reached:?}");
    }
}

#[test]
fn each_level_allows_what_the_one_below_allows() {
    for number in 1..=3 {
        let (lower, upper) = (level(number), level(number + 1));
        let allowed = |profile: &Profile| -> BTreeSet<String> {
            let rules = profile.exec.rules.iter().filter(|it| it.decision == Decision::Allow);
            rules.map(|it| it.id.clone()).collect()
        };
        assert!(allowed(&lower).is_subset(&allowed(&upper)), "level {number}");
        assert!(reads(&lower).iter().all(|it| reads(&upper).contains(it)), "level {number}");
        assert!(lower.limits.wall.max <= upper.limits.wall.max, "level {number}");
        assert!(lower.limits.processes.max <= upper.limits.processes.max, "level {number}");
    }
}

#[test]
fn never_rules_hold_at_every_level() {
    let never = |profile: &Profile| -> BTreeSet<String> {
        let rules = profile.exec.rules.iter().filter(|it| it.decision == Decision::Never);
        rules.map(|it| it.id.clone()).collect()
    };
    let first = never(&level(1));
    for id in ["never.database.drop", "never.secret.environment", "never.internet.shell"] {
        assert!(first.contains(id), "{id}");
    }
    for number in 2..=6 {
        assert!(first.is_subset(&never(&level(number))), "level {number}");
    }
}

#[test]
fn what_is_protected_or_hidden_stays_so_further_up() {
    for number in 2..=5 {
        let (lower, upper) = (level(number), level(number + 1));
        for (a, b) in [
            (&lower.filesystem.protected, &upper.filesystem.protected),
            (&lower.filesystem.hidden, &upper.filesystem.hidden),
        ] {
            assert!(a.iter().all(|it| b.contains(it)), "level {number}");
        }
    }
    let protected: Vec<String> =
        level(2).filesystem.protected.into_iter().map(|it| it.name).collect();
    for name in [
        ".git/hooks",
        ".git/config",
        ".github/workflows",
        ".vscode",
        ".claude",
        "AGENTS.md",
        ".envrc",
        ".npmrc",
    ] {
        assert!(protected.iter().any(|it| it == name), "{name}");
    }
}

/// The zone of level 5 is another one than that of level 4.
#[test]
fn level_5_has_no_power_over_the_forge() {
    let Blast { powers, powers_by_approval, .. } = blast(&level(4));
    assert!(powers_by_approval.contains(&Power::Pr) && powers_by_approval.contains(&Power::Merge));
    assert!(!powers.contains(&Power::Pr));
    for number in 5..=6 {
        let Blast { powers, powers_by_approval, .. } = blast(&level(number));
        for power in [Power::Pr, Power::Merge] {
            assert!(
                !powers.contains(&power) && !powers_by_approval.contains(&power),
                "level {number}"
            );
        }
    }
}

#[test]
fn production_is_only_ever_changed_after_an_approval() {
    for number in 1..=6 {
        let profile = level(number);
        let allowed = profile.exec.rules.iter().filter(|it| it.decision == Decision::Allow);
        for rule in allowed {
            let changing = matches!(
                rule.power,
                Power::Migrate
                    | Power::Deploy
                    | Power::Rollback
                    | Power::Merge
                    | Power::Admin
                    | Power::Secret
            );
            assert!(!changing && rule.touches.is_empty(), "level {number}: {}", rule.id);
        }
    }
}

// ---- what the command line shows

#[test]
fn a_profile_shows_each_thing_with_its_line_and_reason() {
    let text = show(&level(3));
    for part in [
        "limits.wall = 30 min  # level-3.toml:",
        ": a full test run of a large project\n",
        "filesystem.read  /usr: with programs  # level-1.toml:",
        "filesystem.protected  .git/hooks  # level-2.toml:",
        "exec.rule  never.database.drop: never dropdb dropuser (admin, without a way back)  # packs/never.toml:",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        show_authored(Level::TestExecution, &[built_in_layer()])
            .contains("name    = \"test-execution\"")
    );
}

#[test]
fn a_difference_names_what_is_added_removed_and_changed() {
    let changes: Vec<String> = diff(&level(2), &level(3)).iter().map(Change::to_string).collect();
    let starts = |start: &str| changes.iter().any(|it| it.starts_with(start));
    assert!(starts("+ filesystem.toolchains  rust: ~/.cargo"), "{changes:#?}");
    assert!(starts("~ limits.wall = 30 min (was 10 min)  # level-3.toml:"), "{changes:#?}");
    assert!(starts("~ syscalls.table = standard (was strict)"), "{changes:#?}");
    assert!(
        diff(&level(3), &level(2))
            .iter()
            .any(|it| it.to_string().starts_with("- filesystem.toolchains"))
    );
    assert_eq!(diff(&level(1), &level(1)), []);
}

#[test]
fn the_worst_case_is_said_in_plain_words() {
    let worst = blast(&level(2));
    assert_eq!(worst.hosts, [""; 0]);
    assert!(worst.writes.contains(&"the workspace".to_owned()));
    let text = worst.to_string();
    for part in [
        "at worst, level 2 (local-writes) can",
        "  connect to  nothing\n",
        "  write       the workspace\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(blast(&level(6)).irreversible.contains(&"production.data".to_owned()));
}

#[test]
fn entries_without_effect_are_warned_about() {
    let text = BASE
        .replace("\"/opt/secret\"", "\"/srv/secret\"")
        .replace("\"/opt\"]", "\"/opt\", \"/usr/share\"]");
    let files = [("level-1.toml", text.as_str()), ("packs/tools.toml", TOOLS)];
    let found = lint(&[layer("built-in", &files)]);
    let found: Vec<&str> = found.problems().iter().map(|it| it.message.as_str()).collect();
    assert_eq!(
        found,
        [
            "`/usr/share` is in the view already, by `/usr`",
            "`/srv/secret` is hidden, but no entry of `filesystem.read` contains it",
        ]
    );
}

// ---- generated files

/// `RUNG_BLESS=1` writes the file anew.
#[test]
fn the_schema_for_editors_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/profile.schema.json");
    if std::env::var_os("RUNG_BLESS").is_some() {
        std::fs::write(file, schema()).unwrap();
    }
    let said = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        said == schema(),
        "run this test with RUNG_BLESS=1 to write profiles/profile.schema.json"
    );
}

#[test]
fn the_reference_loads_and_mentions_every_key() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/reference.toml"))
            .unwrap();
    let mut layer = built_in_layer();
    for source in layer.sources.iter_mut().filter(|it| it.name == "level-3.toml") {
        source.text.clone_from(&text);
    }
    let profile = load(Level::TestExecution, &[layer]).unwrap();
    assert_eq!(profile.network.connections_max.map(|it| it.max), Some(Count(2000)));
    let words: BTreeSet<&str> =
        text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).collect();
    for path in key_paths() {
        let key = path.rsplit('.').next().unwrap();
        assert!(words.contains(key), "`{path}` is not in the reference");
    }
}
