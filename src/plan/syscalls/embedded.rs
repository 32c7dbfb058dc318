//! The filters that rung carries in itself, compiled at build time by the code of this very module.
#![expect(clippy::unreadable_literal, reason = "instructions, written by a program")]

use std::borrow::Cow;

use super::Gate;
use super::filter::{Filter, Instruction};
use crate::model::{Arch, Digest};
use crate::profile::Table;

// `FILTERS`: every column for one architecture, then for the next; first all with a gate, then
// all without.
include!(concat!(env!("OUT_DIR"), "/filters.rs"));

/// The filter of a column.
pub fn compiled(table: Table, arch: Arch, gate: Gate) -> &'static Filter {
    let [with, without] = &FILTERS;
    let [strict_x86, standard_x86, debug_x86, strict_arm, standard_arm, debug_arm] = match gate {
        Gate::With => with,
        Gate::Without => without,
    };
    match (table, arch) {
        (Table::Strict, Arch::X86_64) => strict_x86,
        (Table::Standard, Arch::X86_64) => standard_x86,
        (Table::Debug, Arch::X86_64) => debug_x86,
        (Table::Strict, Arch::Aarch64) => strict_arm,
        (Table::Standard, Arch::Aarch64) => standard_arm,
        (Table::Debug, Arch::Aarch64) => debug_arm,
    }
}

/// One instruction in few letters: there are thousands.
const fn i(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}
