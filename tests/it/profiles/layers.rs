//! What a lower layer may change, and what it may not.

use rung::model::{Bytes, Level, Span};
use rung::profile::{Decision, Findings, Layer, OnGap, Power, Profile, load};

use super::{BASE, SECOND, TOOLS, errors, layer, lowest, reads, rules};

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
    assert_eq!(&*profile.limits.memory.origin.because, "small machine");
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
        "/etc/rung/level-1.toml:2:14 rule `tool.stop` restricts (level-1.toml:32), and only that file can take it back",
    );
    check(
        "[remove]\nexec.rule = [\"tool.never\"]",
        "/etc/rung/level-1.toml:2:14 rule `tool.never` says never (packs/tools.toml:28), and nothing can take that back",
    );
    check(
        ALLOW_MORE,
        "/etc/rung/level-1.toml:2:1 `more.run` is not in `exec.rule` of the layer above, which ends at level-1.toml:32",
    );
    check(
        CONFIRM_OTHER,
        "/etc/rung/level-1.toml:2:1 `more.ask` is not in `exec.rule` of the layer above, which ends at level-1.toml:32",
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
    assert_eq!(found.problems()[0].help.as_deref(), Some("level-1.toml:42 allows 1 h at most"));
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
