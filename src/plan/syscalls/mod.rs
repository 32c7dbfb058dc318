//! The system calls of a run: which ones the kernel answers, and what it says to the others.
//!
//! The table is *total*: every number up to the reviewed ceiling has a [`Class`], and every number
//! beyond it, or with the x32 bit, gets `ENOSYS`. So a call that a newer kernel brings is refused
//! until somebody has looked at it, and a program sees what it would see on an older kernel, for
//! which it has a fallback. `ENOSYS` means "use the older way", `EPERM` "it exists, you may not".
//! Nothing is killed for asking, but for code of another architecture: its numbers mean other
//! calls.
//!
//! `classes` holds the decisions and their reasons, `table_*` the numbers, `filter` turns both
//! into a program for the kernel, and does so at build time for what is `embedded`. What is said here about a call ([`verdict`], [`explain`]) is read
//! from the table and never from that program, so that the one can be tested against the other.
//!
//! This module must not know how a filter is installed.
#![deny(clippy::wildcard_enum_match_arm)]

mod classes;
#[cfg(rung_built)]
mod embedded;
mod filter;
mod table_aarch64;
mod table_x86_64;

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

#[cfg(rung_built)]
pub use embedded::compiled;
pub use filter::{Filter, Instruction, audit_arch, compile};

use crate::model::Arch;
use crate::profile::Table;

/// What the kernel does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Allow,
    /// The exec gate is asked, which answers for the kernel or lets it go on. A run without a gate
    /// allows it.
    Ask,
    /// The call does nothing and fails with this error.
    Errno(Errno),
    /// The process dies of SIGSYS. Only for the numbers of another architecture.
    KillProcess,
}

/// Whether a run has an exec gate, to which some calls are put before the kernel does them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    With,
    Without,
}

/// The errors a refused call may fail with; the values are the same on every architecture here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Errno {
    /// It exists, and this run may not.
    Eperm = 1,
    /// As on a kernel that lacks it.
    Enosys = 38,
    Enoprotoopt = 92,
    Eprotonosupport = 93,
    Eopnotsupp = 95,
    Eafnosupport = 97,
}

/// A kind of system call: why it is treated as it is, and how, in each column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    pub because: &'static str,
    pub strict: Rule,
    pub standard: Rule,
    pub debug: Rule,
}

/// How a call is answered: by the first case that fits its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub cases: &'static [Case],
    pub otherwise: Action,
}

/// An answer for some arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The arguments in the words of the kernel's headers.
    pub what: &'static str,
    /// All of these hold.
    pub when: &'static [Condition],
    pub action: Action,
}

/// A test of one argument's lower 32 bits, which are all that the kernel reads of an `int`.
/// Looking at all 64 would let `request | 1 << 32` pass as a different request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    // INVARIANT: 0 to 5.
    pub argument: u8,
    /// The bits that are looked at.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

/// A number with its name and class.
#[derive(Debug, Clone)]
struct Row {
    number: u32,
    name: &'static str,
    class: &'static Class,
}

/// The calls that are treated alike, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub names: Vec<&'static str>,
    /// `EPERM`, `allowed`, or `TIOCSTI: EPERM; otherwise allowed`.
    pub treatment: String,
    pub because: &'static str,
}

/// The name of a system call, if the kernel has given out its number.
pub fn name_of(arch: Arch, number: u32) -> Option<&'static str> {
    row_of(arch, number).map(|row| row.name)
}

/// The class of a system call, if the kernel has given out its number.
pub fn class_of(arch: Arch, number: u32) -> Option<&'static Class> {
    row_of(arch, number).map(|row| row.class)
}

/// The highest number that has been reviewed. Everything above does not exist for a run.
pub fn ceiling(arch: Arch) -> u32 {
    rows(arch).last().map_or(0, |row| row.number)
}

/// Numbers below the ceiling that no kernel has given out.
pub fn unassigned(arch: Arch) -> &'static [RangeInclusive<u32>] {
    match arch {
        Arch::X86_64 => table_x86_64::UNASSIGNED,
        Arch::Aarch64 => table_aarch64::UNASSIGNED,
    }
}

/// What a native call is answered, read from the table.
pub fn verdict(table: Table, arch: Arch, gate: Gate, number: u32, arguments: &[u64; 6]) -> Action {
    let action = class_of(arch, number).map_or(UNKNOWN, |it| it.rule(table).answer(arguments));
    action.under(gate)
}

/// The whole table in words: refused calls first, then those whose arguments are looked at or that
/// the gate is asked about.
pub fn explain(table: Table, arch: Arch) -> Vec<Line> {
    let mut classes: Vec<(&Class, Vec<&'static str>)> = Vec::new();
    for row in rows(arch) {
        match classes.iter_mut().find(|(class, _)| *class == row.class) {
            Some((_, names)) => names.push(row.name),
            None => classes.push((row.class, vec![row.name])),
        }
    }
    classes.sort_by_key(|(class, _)| {
        let rule = class.rule(table);
        match rule.otherwise {
            Action::Errno(_) | Action::KillProcess if rule.cases.is_empty() => 0,
            Action::Allow if rule.cases.is_empty() => 2,
            Action::Errno(_) | Action::KillProcess | Action::Allow | Action::Ask => 1,
        }
    });
    let mut lines: Vec<Line> = classes
        .into_iter()
        .map(|(class, names)| Line {
            names,
            treatment: class.rule(table).to_string(),
            because: class.because,
        })
        .collect();
    lines.push(Line {
        names: vec!["every other number"],
        treatment: UNKNOWN.to_string(),
        because: "nobody has reviewed it yet; programs fall back as on an older kernel",
    });
    lines
}

/// The answer to a number without a class.
const UNKNOWN: Action = Action::Errno(Errno::Enosys);

fn rows(arch: Arch) -> &'static [Row] {
    match arch {
        Arch::X86_64 => table_x86_64::ROWS,
        Arch::Aarch64 => table_aarch64::ROWS,
    }
}

fn row_of(arch: Arch, number: u32) -> Option<&'static Row> {
    let rows = rows(arch);
    rows.binary_search_by_key(&number, |row| row.number).ok().and_then(|index| rows.get(index))
}

const fn row(number: u32, name: &'static str, class: &'static Class) -> Row {
    Row { number, name, class }
}

impl Class {
    pub fn rule(&self, table: Table) -> &Rule {
        match table {
            Table::Strict => &self.strict,
            Table::Standard => &self.standard,
            Table::Debug => &self.debug,
        }
    }
}

impl Action {
    /// What is left of it where there may be nobody to ask.
    #[must_use]
    pub fn under(self, gate: Gate) -> Self {
        match (self, gate) {
            (Self::Ask, Gate::Without) => Self::Allow,
            (action, Gate::With | Gate::Without) => action,
        }
    }
}

impl Rule {
    pub fn answer(&self, arguments: &[u64; 6]) -> Action {
        let fits = |case: &&Case| case.when.iter().all(|it| it.holds(arguments));
        self.cases.iter().find(fits).map_or(self.otherwise, |case| case.action)
    }
}

impl Condition {
    pub fn holds(self, arguments: &[u64; 6]) -> bool {
        let argument = arguments.get(usize::from(self.argument)).copied().unwrap_or(0);
        argument & u64::from(self.mask) == u64::from(self.value)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eperm => "EPERM",
            Self::Enosys => "ENOSYS",
            Self::Enoprotoopt => "ENOPROTOOPT",
            Self::Eprotonosupport => "EPROTONOSUPPORT",
            Self::Eopnotsupp => "EOPNOTSUPP",
            Self::Eafnosupport => "EAFNOSUPPORT",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allowed"),
            Self::Ask => f.write_str("put to the exec gate"),
            Self::Errno(errno) => write!(f, "{errno}"),
            Self::KillProcess => f.write_str("killed"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in self.cases {
            write!(f, "{}: {}; ", case.what, case.action)?;
        }
        let otherwise = if self.cases.is_empty() { "" } else { "otherwise " };
        write!(f, "{otherwise}{}", self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    #[test]
    fn every_number_up_to_the_ceiling_is_in_the_table_or_unassigned_and_never_both() {
        for arch in ARCHES {
            assert_eq!(ceiling(arch), 469, "{arch:?}");
            for number in 0..=ceiling(arch) {
                let listed = rows(arch).iter().filter(|row| row.number == number).count();
                let gaps = unassigned(arch).iter().filter(|it| it.contains(&number)).count();
                assert_eq!(listed + gaps, 1, "{arch:?} {number}");
            }
        }
    }

    #[test]
    fn rows_are_in_the_order_of_their_numbers() {
        for arch in ARCHES {
            assert!(rows(arch).is_sorted_by(|a, b| a.number < b.number), "{arch:?}");
        }
    }

    #[test]
    fn a_call_has_the_same_class_on_every_architecture() {
        for row in rows(Arch::Aarch64) {
            if let Some(other) = rows(Arch::X86_64).iter().find(|it| it.name == row.name) {
                assert_eq!(row.class, other.class, "{}", row.name);
            }
        }
    }

    #[test]
    fn an_explanation_names_every_call_once_and_puts_refusals_first() {
        for arch in ARCHES {
            let lines = explain(Table::Standard, arch);
            let names: usize = lines.iter().map(|line| line.names.len()).sum();
            assert_eq!(names, rows(arch).len() + 1, "{arch:?}");
            assert!(lines[0].treatment.starts_with('E'));
            assert!(lines.iter().all(|line| !line.because.is_empty()));
        }
    }

    #[test]
    fn a_rule_says_its_cases_and_then_the_rest() {
        let class = class_of(Arch::X86_64, 16).unwrap();
        assert!(class.standard.to_string().starts_with("TIOCSTI: EPERM; "), "{}", class.standard);
        assert!(class.standard.to_string().ends_with("; otherwise allowed"), "{}", class.standard);
    }
}
