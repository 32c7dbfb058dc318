//! Reading a command line by an allow rule's closed grammar.
//!
//! The idea: a command line fits only if every word of it is accounted for. No abbreviation is
//! completed, no unknown letter of a cluster is skipped, every repetition of an option is checked,
//! and a value in a word of its own may not begin with a dash, so that rung and the program can
//! not disagree about which word is an option. Where a tool is more lenient, rung does not follow.
//!
//! `-` alone is an operand: standard input, which fits a path that is read and nothing else.

use crate::model::Arg;
use crate::policy::value;
use crate::policy::value::{Form, Place};
use crate::profile::{Argument, OptionSpec, Program, Rule, Style, ValueType};

/// The name under which a grammar lists `-5`, `-20` and so on.
const NUMBER_OPTION: &str = "-NUM";

/// A command line that fits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    /// The commands that the words start in turn, for a wrapper.
    pub payloads: Vec<Payload<'a>>,
}

/// A command inside a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    pub words: &'a [Arg],
    /// The program adds paths to it.
    pub open: bool,
}

/// The first word that the grammar does not cover.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// How many words were covered before it: the larger, the nearer the rule.
    pub covered: usize,
    pub problem: Problem,
}

/// What is wrong with that word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    UnknownOption { option: String, abbreviates: Option<String> },
    NoValueTaken { option: String },
    ValueMissing { option: String, wanted: String },
    BadValue { option: String, value: String, wanted: String },
    BadOperand { operand: String, wanted: String },
    TooManyOperands { operand: String },
    TooFewOperands { wanted: String },
    OtherWord { word: String, wanted: String },
}

/// Reads the words after the program's name.
pub(super) fn read<'a>(
    rule: &'a Rule,
    program: Option<&'a Program>,
    words: &'a [Arg],
    place: &Place<'_>,
) -> Result<Reading<'a>, Misfit> {
    if rule.arguments.contains(&Argument::AnyWords) {
        return Ok(Reading { payloads: Vec::new() });
    }
    Reader::new(rule, program, words, place).read()
}

/// Whether every fixed word of the rule is among the words. Where one is missing, the rule does not
/// cover them, and what exactly is wrong need not be found out.
pub(super) fn has_fixed_words(rule: &Rule, words: &[Arg]) -> bool {
    let mut fixed = rule.arguments.iter().filter(|it| match it {
        Argument::Word(_) | Argument::OneOf(_) => true,
        Argument::Options(_)
        | Argument::Operands { .. }
        | Argument::AfterAny(_)
        | Argument::Rest
        | Argument::AnyWords => false,
    });
    fixed.all(|it| words.iter().any(|word| is_fixed_word(it, word)))
}

struct Reader<'a, 'p> {
    style: Style,
    place: &'p Place<'p>,
    words: &'a [Arg],
    index: usize,
    global: &'a [OptionSpec],
    own: Vec<&'a OptionSpec>,
    /// The fixed words still to come, last one first.
    pending: Vec<&'a Argument>,
    has_fixed_words: bool,
    after_any: Vec<&'a str>,
    rest: bool,
    slots: Vec<Slot<'a>>,
    /// For each operand: its index, and whether it came after the end of the options.
    operands: Vec<(usize, Form)>,
    options_ended: bool,
    payloads: Vec<Payload<'a>>,
}

/// Room for operands of one type.
#[derive(Clone, Copy)]
struct Slot<'a> {
    value: &'a ValueType,
    min: usize,
    max: usize,
}

/// What to do after a word.
enum Step {
    Next,
    /// The words that are left need no reading.
    Done,
}

impl<'a, 'p> Reader<'a, 'p> {
    fn new(
        rule: &'a Rule,
        program: Option<&'a Program>,
        words: &'a [Arg],
        place: &'p Place<'p>,
    ) -> Self {
        let mut reader = Self {
            style: program.map_or(Style::Gnu, |it| it.style),
            place,
            words,
            index: 0,
            global: program.map_or(&[], |it| &it.global),
            own: Vec::new(),
            pending: Vec::new(),
            has_fixed_words: false,
            after_any: Vec::new(),
            rest: false,
            slots: Vec::new(),
            operands: Vec::new(),
            options_ended: false,
            payloads: Vec::new(),
        };
        for argument in &rule.arguments {
            match argument {
                Argument::Word(_) | Argument::OneOf(_) => reader.pending.push(argument),
                Argument::Options(options) => reader.own.extend(options),
                Argument::Operands { value, min, max } => {
                    let (min, max) = (count(*min), count(*max));
                    reader.slots.push(Slot { value, min, max });
                }
                Argument::AfterAny(word) => reader.after_any.push(word),
                Argument::Rest => reader.rest = true,
                Argument::AnyWords => {} // answered before
            }
        }
        reader.pending.reverse();
        reader.has_fixed_words = !reader.pending.is_empty();
        reader
    }

    fn read(mut self) -> Result<Reading<'a>, Misfit> {
        while let Some(word) = self.words.get(self.index) {
            if let Step::Done = self.step(word)? {
                break;
            }
        }
        self.finish()?;
        Ok(Reading { payloads: self.payloads })
    }

    fn step(&mut self, word: &'a Arg) -> Result<Step, Misfit> {
        if self.pending.last().is_some_and(|it| is_fixed_word(it, word)) {
            self.pending.pop();
            self.index += 1;
            return Ok(Step::Next);
        }
        let bytes = word.as_bytes();
        if !self.options_ended && self.after_any.iter().any(|it| it.as_bytes() == bytes) {
            return Ok(Step::Done);
        }
        if self.options_ended {
            return self.operand(word, Form::Attached);
        }
        if self.style != Style::Dd
            && let Some((name, spec)) = self.option(bytes)
        {
            self.index += 1;
            return self.value_in_next_word(name, spec);
        }
        match self.style {
            Style::Dd => self.key_value(word),
            Style::Bsd if self.index == 0 && !bytes.starts_with(b"-") => self.bare_letters(word),
            Style::Gnu
            | Style::Posix
            | Style::Git
            | Style::Clap
            | Style::SingleDashLong
            | Style::Bsd => match bytes {
                b"-" => self.operand(word, Form::Separate),
                b"--" => self.end_of_options(word),
                [b'-', b'-', ..] => self.long(word),
                [b'-', ..] if self.style == Style::SingleDashLong => self.long(word),
                [b'-', letters @ ..] => self.short(word, letters),
                _ => self.operand(word, Form::Separate),
            },
        }
    }

    /// The options that may stand here: a subcommand separates global options from its own.
    fn options(&self) -> impl Iterator<Item = &'a OptionSpec> {
        let subcommands = matches!(self.style, Style::Git | Style::Clap) && self.has_fixed_words;
        let before = subcommands && !self.pending.is_empty();
        let after = subcommands && self.pending.is_empty();
        let global = if after && self.style == Style::Git { &[][..] } else { self.global };
        let own = if before { &[][..] } else { &self.own };
        global.iter().chain(own.iter().copied())
    }

    fn option(&self, name: &[u8]) -> Option<(&'a str, &'a OptionSpec)> {
        self.options().find_map(|spec| {
            let name = spec.names.iter().find(|it| it.as_bytes() == name)?;
            (name != NUMBER_OPTION).then_some((name.as_str(), spec))
        })
    }

    fn value_in_next_word(&mut self, name: &str, spec: &'a OptionSpec) -> Result<Step, Misfit> {
        let Some(value) = &spec.value else { return Ok(Step::Next) };
        if spec.optional_value {
            return Ok(Step::Next);
        }
        if *value == ValueType::Argv {
            return self.command_in_next_words(name);
        }
        let Some(word) = self.words.get(self.index) else {
            let (option, wanted) = (name.to_owned(), value::describe(value));
            return Err(self.misfit(Problem::ValueMissing { option, wanted }));
        };
        self.check_value(name, value, word.as_bytes(), Form::Separate)?;
        self.index += 1;
        Ok(Step::Next)
    }

    /// The command behind `-exec`, up to `;` or, where the paths are put together, `{} +`.
    fn command_in_next_words(&mut self, name: &str) -> Result<Step, Misfit> {
        let from = self.words.get(self.index..).unwrap_or_default();
        let braces = |at: usize| at.checked_sub(1).and_then(|it| from.get(it));
        let ends = |(at, word): (usize, &Arg)| match word.as_bytes() {
            b";" => true,
            b"+" => braces(at).is_some_and(|it| it.as_bytes() == b"{}"),
            _ => false,
        };
        let end = from.iter().enumerate().position(ends).filter(|it| *it > 0);
        let Some(words) = end.and_then(|it| from.get(..it)) else {
            let wanted = "a command that ends with `;` or `{} +`".to_owned();
            return Err(self.misfit(Problem::ValueMissing { option: name.to_owned(), wanted }));
        };
        self.payloads.push(Payload { words, open: false });
        self.index += words.len() + 1;
        Ok(Step::Next)
    }

    fn attached_value(
        &mut self,
        name: &str,
        spec: &'a OptionSpec,
        bytes: &[u8],
    ) -> Result<Step, Misfit> {
        let Some(value) = &spec.value else {
            return Err(self.misfit(Problem::NoValueTaken { option: name.to_owned() }));
        };
        self.check_value(name, value, bytes, Form::Attached)?;
        self.index += 1;
        Ok(Step::Next)
    }

    fn check_value(
        &self,
        name: &str,
        value: &ValueType,
        bytes: &[u8],
        form: Form,
    ) -> Result<(), Misfit> {
        if value::fits(value, bytes, form, self.place) {
            return Ok(());
        }
        Err(self.misfit(Problem::BadValue {
            option: name.to_owned(),
            value: shown(bytes),
            wanted: value::describe(value),
        }))
    }

    /// `--name=value`; the form without a value was looked up before.
    fn long(&mut self, word: &Arg) -> Result<Step, Misfit> {
        let Some((name, value)) = split_at_equals(word.as_bytes()) else {
            return Err(self.unknown(word));
        };
        let Some((name, spec)) = self.option(name) else {
            return Err(self.unknown(word));
        };
        self.attached_value(name, spec, value)
    }

    /// `-abc`, `-n5` or `-5`.
    fn short(&mut self, word: &'a Arg, letters: &'a [u8]) -> Result<Step, Misfit> {
        if letters.iter().all(u8::is_ascii_digit) {
            let number = |it: &&OptionSpec| it.names.iter().any(|name| name == NUMBER_OPTION);
            let spec = self.options().find(number);
            if let Some(spec) = spec {
                return self.attached_value(NUMBER_OPTION, spec, letters);
            }
        }
        let mut rest = letters;
        while let [letter, after @ ..] = rest {
            let Some((name, spec)) = self.option(&[b'-', *letter]) else {
                return Err(self.unknown(word));
            };
            match (&spec.value, after) {
                (None, _) => rest = after,
                (Some(_), []) => {
                    self.index += 1;
                    return self.value_in_next_word(name, spec);
                }
                // Some programs drop the `=` and some keep it.
                (Some(_), [b'=', ..]) => return Err(self.unknown(word)),
                (Some(_), value) => return self.attached_value(name, spec, value),
            }
        }
        self.index += 1;
        Ok(Step::Next)
    }

    /// `of=path`, listed in the grammar as `-of`.
    fn key_value(&mut self, word: &'a Arg) -> Result<Step, Misfit> {
        match split_at_equals(word.as_bytes()) {
            Some((name, value)) => match self.option(&[b"-", name].concat()) {
                Some((name, spec)) => self.attached_value(name, spec, value),
                None => Err(self.unknown(word)),
            },
            None if word.as_bytes().starts_with(b"-") => Err(self.unknown(word)),
            None => self.operand(word, Form::Separate),
        }
    }

    /// `aux`: flags without a dash, as the first word.
    fn bare_letters(&mut self, word: &Arg) -> Result<Step, Misfit> {
        let is_flag = |letter: &u8| {
            self.option(&[b'-', *letter]).is_some_and(|(_, spec)| spec.value.is_none())
        };
        if !word.as_bytes().iter().all(is_flag) {
            return Err(self.unknown(word));
        }
        self.index += 1;
        Ok(Step::Next)
    }

    fn end_of_options(&mut self, word: &Arg) -> Result<Step, Misfit> {
        match self.style {
            Style::Git | Style::Clap if !self.pending.is_empty() => Err(self.unknown(word)),
            Style::Gnu | Style::Posix | Style::Git | Style::Clap => {
                self.options_ended = true;
                self.index += 1;
                Ok(Step::Next)
            }
            // Expressions and packages follow, and what looks like an option still is one.
            Style::SingleDashLong | Style::Dd | Style::Bsd => Err(self.unknown(word)),
        }
    }

    fn operand(&mut self, word: &'a Arg, form: Form) -> Result<Step, Misfit> {
        if let Some(fixed) = self.pending.last() {
            let (word, wanted) = (word.to_string(), wanted_words(fixed));
            return Err(self.misfit(Problem::OtherWord { word, wanted }));
        }
        let takes_command = self.slots.iter().any(|it| is_command(it.value));
        if self.rest || takes_command {
            return self.operand_in_order(word, form);
        }
        let room: usize = self.slots.iter().map(|it| it.max).fold(0, usize::saturating_add);
        if self.operands.len() >= room {
            let operand = word.to_string();
            return Err(self.misfit(Problem::TooManyOperands { operand }));
        }
        self.operands.push((self.index, form));
        self.index += 1;
        if self.style == Style::Posix {
            self.options_ended = true;
        }
        Ok(Step::Next)
    }

    /// Where a command or free words follow the operands, each operand goes to the first slot
    /// that takes it, and the first one that is left over begins what follows.
    fn operand_in_order(&mut self, word: &'a Arg, form: Form) -> Result<Step, Misfit> {
        while let Some(slot) = self.slots.first_mut() {
            if is_command(slot.value) {
                let open = *slot.value == ValueType::ArgvOpen;
                self.slots.clear();
                let words = self.words.get(self.index..).unwrap_or_default();
                self.payloads.push(Payload { words, open });
                return Ok(Step::Done);
            }
            if slot.max > 0 && value::fits(slot.value, word.as_bytes(), form, self.place) {
                slot.min = slot.min.saturating_sub(1);
                slot.max -= 1;
                self.index += 1;
                if self.style == Style::Posix {
                    self.options_ended = true;
                }
                let full = self.rest && self.slots.iter().all(|it| it.max == 0);
                return Ok(if full { Step::Done } else { Step::Next });
            }
            if slot.min > 0 {
                let wanted = value::describe(slot.value);
                let operand = word.to_string();
                return Err(self.misfit(Problem::BadOperand { operand, wanted }));
            }
            self.slots.remove(0);
        }
        if self.rest {
            return Ok(Step::Done);
        }
        Err(self.misfit(Problem::TooManyOperands { operand: word.to_string() }))
    }

    /// Nothing required is missing, and every operand fits its slot: each slot gets its minimum,
    /// and what is left goes to the slots in order (`cp A B DIR`).
    fn finish(&mut self) -> Result<(), Misfit> {
        if let Some(fixed) = self.pending.last() {
            return Err(self.misfit(Problem::TooFewOperands { wanted: wanted_words(fixed) }));
        }
        let required: usize = self.slots.iter().map(|it| it.min).sum();
        let mut spare = self.operands.len().saturating_sub(required);
        let mut operands = self.operands.iter();
        for slot in &self.slots {
            let extra = spare.min(slot.max.saturating_sub(slot.min));
            spare -= extra;
            for _ in 0..slot.min + extra {
                let Some((index, form)) = operands.next() else {
                    let wanted = value::describe(slot.value);
                    return Err(self.misfit(Problem::TooFewOperands { wanted }));
                };
                let Some(word) = self.words.get(*index) else { continue };
                if !value::fits(slot.value, word.as_bytes(), *form, self.place) {
                    let (operand, wanted) = (word.to_string(), value::describe(slot.value));
                    let problem = Problem::BadOperand { operand, wanted };
                    return Err(Misfit { covered: *index, problem });
                }
            }
        }
        Ok(())
    }

    fn misfit(&self, problem: Problem) -> Misfit {
        Misfit { covered: self.index, problem }
    }

    fn unknown(&self, word: &Arg) -> Misfit {
        let bytes = word.as_bytes();
        let name = split_at_equals(bytes).map_or(bytes, |(name, _)| name);
        let mut longer = self
            .options()
            .flat_map(|it| &it.names)
            .filter(|it| name.len() > 2 && it.as_bytes().starts_with(name));
        let abbreviates = match (longer.next(), longer.next()) {
            (Some(only), None) => Some(only.clone()),
            (_, _) => None,
        };
        self.misfit(Problem::UnknownOption { option: shown(name), abbreviates })
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn is_command(value: &ValueType) -> bool {
    matches!(value, ValueType::Argv | ValueType::ArgvOpen)
}

fn is_fixed_word(argument: &Argument, word: &Arg) -> bool {
    let equals = |it: &String| it.as_bytes() == word.as_bytes();
    match argument {
        Argument::Word(fixed) => equals(fixed),
        Argument::OneOf(choices) => choices.iter().any(equals),
        Argument::Options(_)
        | Argument::Operands { .. }
        | Argument::AfterAny(_)
        | Argument::Rest
        | Argument::AnyWords => false,
    }
}

fn wanted_words(argument: &Argument) -> String {
    match argument {
        Argument::Word(fixed) => format!("`{fixed}`"),
        Argument::OneOf(choices) => value::describe(&ValueType::Enum(choices.clone())),
        Argument::Options(_)
        | Argument::Operands { .. }
        | Argument::AfterAny(_)
        | Argument::Rest
        | Argument::AnyWords => String::new(),
    }
}

fn split_at_equals(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|it| *it == b'=')?;
    let (name, rest) = bytes.split_at_checked(position)?;
    Some((name, rest.get(1..)?))
}

/// Part of a word, as the word itself is shown.
fn shown(bytes: &[u8]) -> String {
    Arg::new(bytes).map_or_else(|_| String::new(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{allow, argv, operands, option, place, profile, program};

    struct Tool {
        program: Program,
        rule: Rule,
    }

    fn tool(style: Style, arguments: Vec<Argument>) -> Tool {
        Tool { program: program("x", style, &["--global"]), rule: allow("x", "x", arguments) }
    }

    #[track_caller]
    fn check(tool: &Tool, fitting: &[&str], misfits: &[&str]) {
        let profile = profile();
        let place = place(&profile);
        let fits =
            |line: &&str| read(&tool.rule, Some(&tool.program), &argv(line), &place).map(|_| ());
        for line in fitting {
            assert_eq!(fits(line), Ok(()), "{line}");
        }
        for line in misfits {
            assert!(fits(line).is_err(), "{line} fits");
        }
    }

    fn options() -> Argument {
        Argument::Options(vec![
            option("-a|--all", None),
            option("-b", None),
            option("-n|--number", Some(ValueType::Uint)),
            option("-m", Some(ValueType::Text)),
            OptionSpec {
                optional_value: true,
                ..option("--color", Some(ValueType::Enum(vec!["never".to_owned()])))
            },
            option("-NUM", Some(ValueType::Uint)),
        ])
    }

    #[test]
    fn every_word_of_a_gnu_command_line_is_accounted_for() {
        let cat = tool(Style::Gnu, vec![options(), operands(ValueType::PathRead, 0, 3)]);
        let fitting = [
            "",
            "-a",
            "--all",
            "-ab",
            "-ban5",
            "-n 5",
            "-n5",
            "--number 5",
            "--number=5",
            "f -a g",
            "--color",
            "--color=never",
            "-mtext",
            "-m-x",
            "-5",
            "-a -20 f",
            "-",
            "-- -a --all",
            "--global",
            "f f f",
            "-n 5 -n 6",
        ];
        let misfits = [
            "--al",
            "--numb 5",
            "-c",
            "-ac",
            "-a=1",
            "--all=1",
            "-n",
            "-n x",
            "-n -5",
            "-nx",
            "-n=5",
            "--number=",
            "--color=always",
            "--colo",
            "-m -x",
            "-m",
            "f f f f",
            "-5x",
            "-a5",
            "-- f f f f",
            "--=x",
            "-n 5 -n x",
            "---",
            "-\u{e9}",
        ];
        check(&cat, &fitting, &misfits);
    }

    #[test]
    fn the_first_operand_ends_the_options_where_the_program_says_so() {
        let echo = tool(Style::Posix, vec![options(), operands(ValueType::Text, 0, 9)]);
        check(&echo, &["-a x", "x -z", "x --all", "-- -z"], &["-z x", "-a -z"]);
    }

    #[test]
    fn global_options_stand_before_the_subcommand() {
        let words = || vec![Argument::Word("log".to_owned()), options()];
        let fitting = ["log", "--global log", "log -a"];
        let misfits = ["", "--global", "-a log", "lo", "-- log", "log log", "--global --global"];
        check(&tool(Style::Git, words()), &fitting, &misfits);
        check(&tool(Style::Git, words()), &[], &["log --global"]);
        check(&tool(Style::Clap, words()), &fitting, &misfits);
        check(&tool(Style::Clap, words()), &["log --global"], &[]);
    }

    #[test]
    fn a_fixed_word_may_look_like_an_option() {
        let module = vec![
            Argument::Word("-m".to_owned()),
            Argument::OneOf(vec!["pytest".to_owned(), "unittest".to_owned()]),
            Argument::Options(vec![option("-q", None)]),
        ];
        let fitting = ["-m pytest", "-m unittest -q"];
        check(&tool(Style::Clap, module), &fitting, &["-mpytest", "-m", "-m x", "-q -m pytest"]);
    }

    #[test]
    fn long_options_with_one_dash_have_no_clusters_and_no_end() {
        let find = tool(
            Style::SingleDashLong,
            vec![
                Argument::Options(vec![
                    option("-name", Some(ValueType::Glob)),
                    option("-print", None),
                    option("!", None),
                    option("-run", Some(ValueType::Regex)),
                ]),
                operands(ValueType::PathRead, 0, 9),
            ],
        );
        let fitting = ["", ". -name x -print", ". ! -name x", "-run=x .", ". -"];
        let misfits = [
            ". -delete",
            ". -exec rm",
            ". -prin",
            ". -name -delete",
            ". -- -delete",
            ". -p",
            ". --print",
            ". -name",
            "-print=x",
        ];
        check(&find, &fitting, &misfits);
    }

    #[test]
    fn operands_go_to_their_slots_with_the_last_ones_kept() {
        let copy = tool(
            Style::Gnu,
            vec![operands(ValueType::PathRead, 1, 9), operands(ValueType::PathWrite, 1, 1)],
        );
        check(&copy, &["/etc/a b", "/etc/a /etc/b c", "-- -a -b"], &["a", "", "a /etc/b", "a .."]);
        let none = tool(Style::Gnu, vec![operands(ValueType::Text, 0, 0)]);
        check(&none, &[""], &["a", "-"]);
    }

    #[test]
    fn what_is_for_the_started_program_is_accepted_as_it_is() {
        let test = tool(
            Style::Clap,
            vec![
                Argument::Word("test".to_owned()),
                operands(ValueType::Text, 0, 1),
                Argument::AfterAny("--".to_owned()),
            ],
        );
        check(
            &test,
            &["test", "test a", "test -- --x -y", "test a -- a b"],
            &["-- test", "test -x --"],
        );
        let script = tool(
            Style::Clap,
            vec![
                Argument::Options(vec![option("-u", None)]),
                operands(ValueType::PathWorkspace, 1, 1),
                Argument::Rest,
            ],
        );
        let misfits = ["", "-c x", "-u", "-", "-x a.py", "/usr/x.py", "../a.py", "- a.py", "-uc x"];
        check(&script, &["a.py", "-u a.py -c x", "a.py -- -x", "-- a.py -x"], &misfits);
    }

    #[test]
    fn the_command_of_a_wrapper_begins_at_its_first_own_operand() {
        let profile = profile();
        let place = place(&profile);
        let nice = tool(
            Style::Posix,
            vec![
                Argument::Options(vec![option("-n", Some(ValueType::Int))]),
                operands(ValueType::Duration, 1, 1),
                operands(ValueType::Argv, 1, 1),
            ],
        );
        let line = argv("-n 5 10s ls -l --z");
        let reading = read(&nice.rule, Some(&nice.program), &line, &place).unwrap();
        assert_eq!(reading.payloads, [Payload { words: &line[3..], open: false }]);
        check(&nice, &[], &["-n 5", "10s", "-x 10s ls", "x ls"]);
    }

    #[test]
    fn key_value_words_and_bare_letters_are_closed_too() {
        let dd = tool(
            Style::Dd,
            vec![Argument::Options(vec![option("-if", Some(ValueType::PathRead))])],
        );
        check(
            &dd,
            &["if=a", "if=-a"],
            &["of=a", "if", "if a", "-if a", "-if=a", "-x", "x", "--", "="],
        );
        let ps = tool(Style::Bsd, vec![options(), operands(ValueType::Text, 0, 1)]);
        check(&ps, &["ab", "ab x", "-a"], &["az", "abn", "x", "--", "ab x y"]);
    }

    #[test]
    fn a_word_that_is_not_text_fits_no_text() {
        let profile = profile();
        let place = place(&profile);
        let words = [Arg::new(*b"\xff").unwrap()];
        let reads = tool(Style::Gnu, vec![operands(ValueType::PathRead, 1, 1)]);
        assert!(read(&reads.rule, None, &words, &place).is_ok());
        let echoes = tool(Style::Gnu, vec![operands(ValueType::Text, 1, 1)]);
        assert!(read(&echoes.rule, None, &words, &place).is_err());
    }

    #[test]
    fn a_command_behind_an_option_ends_where_the_program_says() {
        let exec = option("-exec", Some(ValueType::Argv));
        let arguments = vec![Argument::Options(vec![exec]), operands(ValueType::PathRead, 0, 9)];
        let rule = allow("find", "find", arguments);
        let find = program("find", Style::SingleDashLong, &[]);
        let profile = profile();
        let payloads = |line: &str| {
            let words = argv(line);
            let reading = read(&rule, Some(&find), &words, &place(&profile)).ok()?;
            let text = |it: &Payload<'_>| {
                assert!(!it.open);
                it.words.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            Some(reading.payloads.iter().map(text).collect::<Vec<_>>().join(", "))
        };
        let check = |line: &str, found: Option<&str>| {
            assert_eq!(payloads(line).as_deref(), found, "{line}");
        };
        check(". -exec ls {} ;", Some("ls {}"));
        check(". -exec ls {} +", Some("ls {}"));
        check(". -exec ls {} ; -exec cat + ; x", Some("ls {}, cat +"));
        check(". -exec ls + {} ;", Some("ls + {}"));
        for open in [
            ". -exec",
            ". -exec ls",
            ". -exec ;",
            ". -exec +",
            ". -exec ls +",
            ". -exec {} ; ;x -y",
        ] {
            check(open, None);
        }
    }
}
