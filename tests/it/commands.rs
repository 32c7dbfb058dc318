use rung::model::Level;
use rung::policy::check_examples;
use rung::profile::{Profile, built_in};

fn profiles() -> impl Iterator<Item = Profile> {
    Level::ALL.into_iter().map(|level| built_in(level).unwrap())
}

#[test]
fn every_built_in_rule_does_what_its_examples_say() {
    for profile in profiles() {
        let failures: Vec<String> =
            check_examples(&profile).iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "level {}:\n{}", profile.level, failures.join("\n"));
    }
}
