//! The attempts to get out, one table for each class of attack.

mod files;
mod kernel;
mod processes;
mod programs;
mod race;
mod talking;

use crate::attempt::{Attempt, Verdict, verdict};

/// Every table.
const TABLES: &[&[Attempt]] = &[
    files::ALL,
    programs::ALL,
    #[cfg(target_arch = "x86_64")]
    programs::x86::ALL,
    kernel::ALL,
    processes::ALL,
    talking::ALL,
];

/// Runs them all, each once, and says how many there are and which ones are known to work.
#[test]
fn every_attempt_is_held_or_a_known_residual() {
    let all: Vec<&Attempt> = TABLES.iter().copied().flatten().collect();
    let mut held = 0;
    let mut residuals = Vec::new();
    let mut failed = Vec::new();
    for attempt in &all {
        match verdict(attempt) {
            Verdict::Held => held += 1,
            Verdict::Residual(because) => residuals.push(format!("{} ({because})", attempt.id)),
            Verdict::Failed(failure) => failed.push(format!("{}: {failure}", attempt.id)),
        }
    }
    println!("attempts {}, held {held}, residuals: [{}]", all.len(), residuals.join("; "));
    assert!(failed.is_empty(), "not held:\n{}", failed.join("\n"));
}

/// Two attempts with one number would be judged as one.
#[test]
fn every_attempt_has_a_number_of_its_own() {
    let mut ids: Vec<&str> = TABLES.iter().copied().flatten().map(|it| it.id).collect();
    ids.sort_unstable();
    let twice: Vec<_> = ids.windows(2).filter(|it| it[0] == it[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
