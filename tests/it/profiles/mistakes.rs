//! What is refused, with which words, at which place.

use rung::model::Level;
use rung::profile::load;

use super::{BASE, SECOND, TOOLS, edited, errors, layer, lowest};

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
        "level-1.toml:41:8 network.destination.host: `*` stands for any host",
    ),
    (
        "",
        "[[network.destination]]\nhost = \"a.example\"\nports = [0]\nbecause = \"x\"\n",
        "level-1.toml:42:10 network.destination.ports: `0` is not a whole number from 1 to 65535",
    ),
    (
        "",
        "[[network.destination]]\nhost = \"a.example\"\nports = [443]\n",
        "level-1.toml:40:1 `because` of `destination` is missing",
    ),
    ("because = \"stops\"\n", "", "level-1.toml:32:1 `because` of `rule` is missing"),
    (
        "because = \"stops\"",
        "because = \" \"",
        "level-1.toml:37:11 exec.rule.because: the sentence is empty",
    ),
    (
        "\"tool.stop\"",
        "\"Tool Stop\"",
        "level-1.toml:33:6 exec.rule.id: `Tool Stop` is no name: use lower-case letters, digits and `-_.`, with no empty part",
    ),
    (
        "\"tool.stop\"",
        "\"tool.run\"",
        "level-1.toml:32:1 rule `tool.run` is already at packs/tools.toml:8",
    ),
    (
        "match = [\"tool --stop\"]\n",
        "",
        "level-1.toml:32:1 rule `tool.stop` has no examples in `match`",
    ),
    (
        "[\"tool --stop\"]",
        "[\"tool | --stop\"]",
        "level-1.toml:39:10 the example has `|`, which a shell would act on: quote it, or write a list of words",
    ),
    (
        "[\"tool --stop\"]",
        "[\"tool '--stop\"]",
        "level-1.toml:39:10 the example has a quote that is not closed",
    ),
    ("[\"tool --stop\"]", "[[]]", "level-1.toml:39:10 the example is empty"),
    (
        "[\"--stop\"]",
        "[\"stop\"]",
        "level-1.toml:38:24 exec.rule.when.any_option: `stop` is no option",
    ),
    (
        "program = \"tool\"",
        "program = []",
        "level-1.toml:32:1 rule `tool.stop` is about no program",
    ),
    (
        "program = \"tool\"",
        "program = \"/bin/tool\"",
        "level-1.toml:34:11 exec.rule.program: `/bin/tool` is a path",
    ),
    (
        "decision = \"deny\"",
        "decision = \"allow\"",
        "level-1.toml:38:8 rule `tool.stop` allows, so it has `arguments`, the whole grammar, and no `when`",
    ),
    (
        "when = {",
        "arguments = []\nwhen = {",
        "level-1.toml:38:13 rule `tool.stop` does not allow, so it has `when` and no `arguments`",
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
        "packs/tools.toml:15:14 `rule.arguments`: a table here has one of the keys `one_of`, `flags`, `option`, `options`, `operands`, `after`, `rest`, `words`",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ option = \"-v\" }",
        "packs/tools.toml:15:14 `value` of `arguments` is missing",
    ),
    (
        "{ flags = [\"-v\"] }",
        "{ operands = \"paths\" }",
        "packs/tools.toml:15:27 rule.arguments.operands: `paths` is not one of `uint`, `int`, `duration`, `text`, `glob`, `regex`, `path-read`, `path-write`, `host`, `url`, `revision`, `path-workspace`, `name`, `sed-script`, `awk-program`, `argv`, `argv-open`",
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
