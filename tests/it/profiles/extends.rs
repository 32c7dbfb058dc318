//! What a level takes over from the one it extends.

use rung::model::{Level, Span};
use rung::profile::{Decision, Findings, Profile, load};

use super::{BASE, SECOND, TOOLS, errors, layer, lowest, reads, rules};

fn two_levels(second: &str) -> Result<Profile, Findings> {
    let text = format!("{SECOND}{second}");
    let files = [("level-1.toml", BASE), ("level-2.toml", &text), ("packs/tools.toml", TOOLS)];
    load(Level::LocalWrites, &[layer("built-in", &files)])
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
