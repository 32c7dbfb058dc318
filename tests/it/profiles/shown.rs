//! What people read: profiles, differences, the worst case, the schema and the reference.

use std::collections::BTreeSet;

use rung::model::{Count, Level};
use rung::profile::{
    Change, blast, built_in_layer, diff, key_paths, lint, load, schema, show, show_authored,
};

use super::{BASE, TOOLS, layer, level};

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
