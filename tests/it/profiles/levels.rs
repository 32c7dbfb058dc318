//! What the six built-in levels say.

use std::collections::BTreeSet;

use rung::model::Level;
use rung::profile::{
    Blast, Decision, OnGap, Power, Profile, WorkspaceMode, blast, built_in, built_in_for,
    built_in_layer, lint, load_all,
};

use super::{level, reads};

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
    assert!(part.exec.rules.len() < whole.exec.rules.len());
    let has = |profile: &Profile, id: &str| profile.exec.rules.iter().any(|it| it.id == id);
    assert!(!has(&part, "never.secret.git"), "a pattern that is about neither");
    let helper = built_in_for(Level::ApprovedIntegration, &["git-credential-store"]).unwrap();
    assert!(has(&helper, "never.secret.git"), "a pattern that is about it");
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

/// The rules that are in force only then have examples too, and nothing forces their programs offline.
#[test]
fn a_listed_destination_opens_what_reads_from_it() {
    let text = "schema = 1\nlevel = 3\n[[network.destination]]\nhost = \"packages.example.org\"\n\
                ports = [443]\nbecause = \"a mirror\"\n";
    let user = super::layer("user", &[("level-3.toml", text)]);
    let all = load_all(&[built_in_layer(), user]).unwrap();
    let (plain, listed) = (level(3), &all[&level(3).level]);
    let failures: Vec<String> =
        rung::policy::check_examples(listed).iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let has = |profile: &Profile, id: &str| profile.exec.rules.iter().any(|it| it.id == id);
    for (opened, closed) in [
        ("git.fetch.listed", "git.fetch"),
        ("git.clone.listed", "git.clone"),
        ("python.pip.listed", "python.fetch.pip"),
        ("node.fetch.listed", "node.fetch.install"),
        ("rust.fetch.listed", "rust.fetch.fetch"),
        ("transfer.get", "transfer.offline"),
    ] {
        assert!(has(listed, opened) && !has(&plain, opened), "{opened}");
        assert!(has(&plain, closed) && !has(listed, closed), "{closed}");
    }
    assert!(!has(&level(4), "git.fetch.listed"), "nobody has it who lists nothing");
    let offline = |profile: &Profile| {
        let toolchains = profile.filesystem.toolchains.iter().flat_map(|it| it.environment.keys());
        let programs = profile.exec.programs.values().flat_map(|it| it.force_environment.keys());
        let names: BTreeSet<&String> = toolchains.chain(programs).collect();
        ["CARGO_NET_OFFLINE", "PIP_NO_INDEX"].map(|name| names.iter().any(|it| *it == name))
    };
    assert_eq!((offline(&plain), offline(listed)), ([true; 2], [false; 2]));
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
