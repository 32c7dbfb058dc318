//! The plan of each level on each kind of machine, as golden files that people read.
//!
//! A changed file is a changed promise: the commit that changes it says which line and why.

use rung::model::{HostFacts, Level};
use rung::plan::{PlanError, PromiseState, explain, promises};

use crate::hosts;

fn check(name: &str, host: &HostFacts, level: Level) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let text = match hosts::plan(&hosts::request(level), &hosts::profile(level), host) {
        Ok(plan) => explain(&plan),
        Err(error) => format!("No plan: {error}\n"),
    };
    settings.bind(|| insta::assert_snapshot!(format!("level-{level}-{name}"), text));
}

#[test]
fn every_level_has_its_plan_on_a_machine_with_everything() {
    for level in Level::ALL {
        check("full", &hosts::full(), level);
    }
}

#[test]
fn no_level_has_a_plan_without_user_namespaces() {
    for level in Level::ALL {
        check("no-userns", &hosts::no_userns(), level);
    }
}

#[test]
fn an_old_kernel_is_enough_to_read() {
    for level in Level::ALL {
        check("old-kernel", &hosts::old_kernel(), level);
    }
}

/// What `rung doctor` promises comes from the same facts as the plan, and must agree with it.
#[test]
fn nothing_is_missing_exactly_where_there_is_a_plan() {
    for host in [hosts::full(), hosts::no_userns(), hosts::old_kernel()] {
        for level in Level::ALL {
            let profile = hosts::profile(level);
            let promises = promises(&profile, &host);
            let missing = promises.iter().any(|it| it.state == PromiseState::Missing);
            let degraded = promises.iter().filter(|it| it.state == PromiseState::Degraded).count();
            match hosts::plan(&hosts::request(level), &profile, &host) {
                Ok(plan) => assert_eq!((missing, degraded), (false, plan.gaps.len()), "{level}"),
                Err(PlanError::Gaps { .. }) => assert!(missing, "{level} on {}", host.kernel),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
