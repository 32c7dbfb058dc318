//! Turns the table into one program for the kernel, in classic BPF.
//!
//! The program first settles what needs no number (another architecture, a number above the
//! ceiling), then finds the call in a binary tree over the numbers. Neighbours with the same rule
//! are one leaf of the tree. A tree, because the kernel runs the program once for every number
//! when it is installed, to learn which calls are always allowed; those it never runs the
//! program for again.
//!
//! The conditions of a case are compiled by `seccompiler`, one rule at a time. What it cannot say
//! (several errors in one filter, a ceiling, a tree) is assembled here, from the last instruction
//! to the first: so the target of a jump always has its place already.

use std::borrow::Cow;

use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::{Action, Case, Condition, Gate, Rule, UNKNOWN, ceiling, class_of};
use crate::model::{Arch, Digest};
use crate::profile::Table;

/// A complete seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    // INVARIANT: valid for the kernel: jumps lead forward and stay inside, the end is a return,
    // fewer than 4096 instructions.
    pub(super) instructions: Cow<'static, [Instruction]>,
    // INVARIANT: of these instructions.
    pub(super) digest: Digest,
}

/// One instruction, laid out as the kernel's `sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Filter {
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Names this filter in a plan: a changed instruction is a changed digest, on every machine.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn digest(instructions: &[Instruction]) -> Digest {
    let mut bytes = Vec::with_capacity(size_of_val(instructions));
    for it in instructions {
        bytes.extend_from_slice(&it.code.to_le_bytes());
        bytes.extend_from_slice(&[it.jt, it.jf]);
        bytes.extend_from_slice(&it.k.to_le_bytes());
    }
    Digest::of("seccomp-filter", &[&bytes])
}

/// Compiles one column of the table.
pub fn compile(table: Table, arch: Arch, gate: Gate) -> Filter {
    let mut assembler = Assembler { gate, reversed: Vec::new() };
    let leaves = leaves(table, arch, &mut assembler);
    let end = ceiling(arch) + 1;
    let tree = tree(&leaves, end, &mut assembler);
    // Here end the numbers of x32 too, whose mark is a bit far above the ceiling.
    let unknown = assembler.answer(UNKNOWN);
    assembler.branch(JUMP_IF_AT_LEAST, end, unknown, tree);
    let number = assembler.load(NUMBER_OFFSET);
    let foreign = assembler.answer(Action::KillProcess);
    assembler.branch(JUMP_IF_EQUAL, audit_arch(arch), number, foreign);
    assembler.load(ARCH_OFFSET);
    assembler.reversed.reverse();
    let digest = digest(&assembler.reversed);
    Filter { instructions: Cow::Owned(assembler.reversed), digest }
}

/// What the kernel calls the architecture (`AUDIT_ARCH_*`).
pub fn audit_arch(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0xc000_003e,
        Arch::Aarch64 => 0xc000_00b7,
    }
}

/// Consecutive numbers with one rule, by the first of them and where the rule is written.
struct Leaf {
    first: u32,
    rule: Label,
}

/// Writes every rule once; the plain answers last and so nearest to the tree, where most jumps
/// lead.
fn leaves(table: Table, arch: Arch, assembler: &mut Assembler) -> Vec<Leaf> {
    let unknown = Rule { cases: &[], otherwise: UNKNOWN };
    let mut stretches: Vec<(u32, Rule)> = Vec::new();
    for number in 0..=ceiling(arch) {
        let rule = class_of(arch, number).map_or(unknown, |class| *class.rule(table));
        if stretches.last().is_none_or(|last| last.1 != rule) {
            stretches.push((number, rule));
        }
    }
    let mut written: Vec<(Rule, Label)> = Vec::new();
    let mut place = |rule: &Rule| {
        if let Some((_, label)) = written.iter().find(|it| it.0 == *rule) {
            return *label;
        }
        let label = assembler.rule(rule);
        written.push((*rule, label));
        label
    };
    for (_, rule) in stretches.iter().filter(|it| !it.1.cases.is_empty()) {
        place(rule);
    }
    stretches.iter().map(|(first, rule)| Leaf { first: *first, rule: place(rule) }).collect()
}

/// Writes the tree that leads from a number below `end` to its leaf. It is split so that both
/// halves hold about as many numbers.
fn tree(leaves: &[Leaf], end: u32, assembler: &mut Assembler) -> Label {
    let (first, rest) = match leaves {
        [] => return assembler.answer(UNKNOWN),
        [only] => return only.rule,
        [first, rest @ ..] => (first.first, rest),
    };
    let middle = first.midpoint(end);
    let low = 1 + rest.partition_point(|leaf| leaf.first <= middle).min(rest.len() - 1);
    let Some((low, high @ [pivot, ..])) = leaves.split_at_checked(low) else {
        return assembler.answer(UNKNOWN);
    };
    let at_least = tree(high, end, assembler);
    let below = tree(low, pivot.first, assembler);
    assembler.branch(JUMP_IF_AT_LEAST, pivot.first, at_least, below)
}

// Operation codes of linux/bpf_common.h, put together.
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

// Places in `seccomp_data` (linux/seccomp.h).
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_USER_NOTIF: u32 = 0x7fc0_0000;
const RETURN_ALLOW: u32 = 0x7fff_0000;

/// How far a conditional jump may lead.
const BRANCH_MAX: usize = 255;

/// A program that grows from its end to its beginning.
struct Assembler {
    gate: Gate,
    reversed: Vec<Instruction>,
}

/// An instruction, by its distance from the end of the program.
#[derive(Clone, Copy)]
struct Label(usize);

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// How many instructions one written now would skip to get there.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0
    }

    fn answer(&mut self, action: Action) -> Label {
        let value = match action.under(self.gate) {
            Action::Allow => RETURN_ALLOW,
            Action::Ask => RETURN_USER_NOTIF,
            Action::Errno(errno) => RETURN_ERRNO | errno as u32,
            Action::KillProcess => RETURN_KILL_PROCESS,
        };
        self.push(RETURN, 0, 0, value)
    }

    /// Loads a word and goes on with what was written last.
    fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD_WORD, 0, 0, offset)
    }

    fn branch(&mut self, test: u16, value: u32, then: Label, otherwise: Label) -> Label {
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        // `near` keeps both within 255.
        let reach = |target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX);
        let (then, otherwise) = (reach(then), reach(otherwise));
        self.push(test, then, otherwise, value)
    }

    /// The target, or a jump to it, within the reach of a branch even if one more instruction is
    /// written between.
    fn near(&mut self, target: Label) -> Label {
        let distance = self.distance(target);
        if distance < BRANCH_MAX {
            return target;
        }
        self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    /// The cases in their order, then the rest.
    fn rule(&mut self, rule: &Rule) -> Label {
        let mut start = self.answer(rule.otherwise);
        for case in rule.cases.iter().rev() {
            start = self.case(case);
        }
        start
    }

    /// Answers the case if it fits, or goes on with what was written last.
    fn case(&mut self, case: &Case) -> Label {
        let answer = self.answer(case.action);
        let Some(conditions) = conditions(case.when) else {
            return self.answer(UNKNOWN);
        };
        conditions.iter().rev().fold(answer, |_, it| self.push(it.code, it.jt, it.jf, it.k))
    }
}

/// Instructions that fall through when all conditions hold, and skip one instruction when not.
/// None for conditions that no filter can express, which the tests rule out.
fn conditions(when: &[Condition]) -> Option<BpfProgram> {
    let compiled = |it: &Condition| {
        let operator = match it.mask {
            u32::MAX => SeccompCmpOp::Eq,
            mask => SeccompCmpOp::MaskedEq(u64::from(mask)),
        };
        let value = u64::from(it.value);
        SeccompCondition::new(it.argument, SeccompCmpArgLen::Dword, operator, value).ok()
    };
    let rule = SeccompRule::new(when.iter().map(compiled).collect::<Option<_>>()?).ok()?;
    let mut program = BpfProgram::from(rule);
    // It begins with two jumps that only seccompiler's own chain of rules needs: over the second
    // one, and to the next rule.
    if let [first, second, ..] = program.as_slice()
        && (first.code, first.k) == (JUMP, 1)
        && second.code == JUMP
    {
        program.drain(..2);
    }
    Some(program)
}
