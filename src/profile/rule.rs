//! Command rules: which programs may start, with which arguments.
//!
//! An *allow* rule fires only when every word is recognised by the program's closed option
//! grammar; a *confirm*, *deny* or *never* rule fires when any word could mean the forbidden
//! thing. Both halves are data here; `policy` does the matching.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Arg, Origin};

/// What a pack knows about a program: how its command line is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The last component of the path it is started by.
    pub name: String,
    pub class: Class,
    pub style: Style,
    /// Options that may stand before a subcommand (`git --no-pager`).
    pub global: Vec<OptionSpec>,
    /// Variables set whenever this program is started by rung, over anything else.
    pub force_environment: BTreeMap<String, String>,
    /// Guarded variables that it may set for what it starts, at any depth. A name that ends in `*`
    /// is a prefix.
    pub sets_environment: Vec<String>,
    /// One file, many programs: which of them it is, it takes from the name it is called by.
    pub multicall: bool,
    /// It starts itself with words of its own making, which only never rules are about.
    pub starts_itself: bool,
    pub origin: Origin,
}

/// What kind of power starting the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Plain,
    /// Starts its arguments as a program: `env`, `nice`, `xargs`.
    Wrapper,
    Interpreter,
    Shell,
    /// A dynamic loader used as a program.
    Loader,
    Build,
    Editor,
    Pager,
    /// Speaks to another machine: `ssh`, `curl`.
    Remote,
}

/// How a program's options are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Long options, clusters, options after operands.
    Gnu,
    /// Clusters; the first operand ends the options.
    Posix,
    /// As GNU, with a subcommand that ends the global options.
    Git,
    /// Long options and clusters, no abbreviations: `clap`, `cobra`, `argparse`.
    Clap,
    /// Long options with one dash: `find`, `java`, `go`.
    SingleDashLong,
    /// `key=value` words: `dd`.
    Dd,
    /// A first word of letters without a dash: `tar xf`, `ps aux`.
    Bsd,
}

/// One option that a grammar knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionSpec {
    /// All spellings, dashes included: `-n`, `--max-count`.
    pub names: Vec<String>,
    /// Absent: a flag.
    pub value: Option<ValueType>,
    /// The value may be left out, and then only the attached form carries one (`--color=always`).
    pub optional_value: bool,
}

/// What a word must look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueType {
    Uint,
    Int,
    /// Digits with an optional unit: `10`, `5s`, `1.5h`.
    Duration,
    Enum(Vec<String>),
    /// Anything that does not start with a dash.
    Text,
    Glob,
    Regex,
    /// A path that is only read. Below the workspace or a granted tree: the view sees to that.
    PathRead,
    /// A path that is written: below the workspace, without `..`.
    PathWrite,
    Host,
    Url,
    /// `name=value` with a listed name.
    KeyValue(Vec<String>),
    /// A git revision, range or path: no leading dash, no `:/` magic beyond paths.
    Revision,
    /// The words from here on are a command of their own and are decided again. As the value of an
    /// option, it ends at `;` or at `{} +`.
    Argv,
    /// The same, and the program adds words of its own to it: paths, read from somewhere else.
    ArgvOpen,
    /// A file below the workspace that is program text: run, whoever wrote it.
    PathWorkspace,
    /// A plain name: letters, digits and `. _ - / : @ + % ,`, so no assignment and no pattern.
    Name,
    /// A `sed` script of commands that neither run, read nor write anything else.
    SedScript,
    /// An `awk` program that computes and prints, and neither runs, writes nor reads anything else.
    AwkProgram,
}

/// One element of an allow rule's argument grammar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Argument {
    /// This word, at this place: a subcommand.
    Word(String),
    /// One of these words, at this place.
    OneOf(Vec<String>),
    /// Options that may appear anywhere the style allows.
    Options(Vec<OptionSpec>),
    /// Operands of one type. `max` 0 means none.
    Operands { value: ValueType, min: u32, max: u32 },
    /// After this word everything is accepted as it is: it is for the program that is started.
    AfterAny(String),
    /// Once the operands before it are there, every further word is accepted as it is.
    Rest,
    /// The words are the affair of the program that starts this one. Only in rules with
    /// `started_by`.
    AnyWords,
}

/// In `started_by`: whatever runs below a program, a script or a build of the workspace.
pub const WORKSPACE_CODE: &str = "@workspace";

/// One rule about commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in a ladder: `git.push.force`.
    pub id: String,
    /// Names of the programs it is about; for a rule that is not an allow rule, a name may end in
    /// `*`.
    pub programs: Vec<String>,
    /// The rule holds only for what one of these starts, or one of these through shells and
    /// wrappers; [`WORKSPACE_CODE`] stands for anything that runs code of the workspace. Empty:
    /// whoever starts it.
    pub started_by: Vec<String>,
    pub decision: Decision,
    pub power: Power,
    pub because: String,
    /// For an allow rule: the closed grammar of its command line, in order.
    pub arguments: Vec<Argument>,
    /// For the others: what makes the rule fire. An empty condition fires on any use.
    pub when: When,
    pub reversible: bool,
    /// `customer`, `money`, `infrastructure`, `production`, `identity`.
    pub touches: Vec<String>,
    /// What to do instead, quoted in the refusal.
    pub instead: Option<String>,
    pub matches: Vec<Example>,
    pub not_matches: Vec<Example>,
    pub origin: Origin,
}

/// The condition of a confirm, deny or never rule: it fires if any of these could be meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// The words after the global options begin like this.
    pub subcommand: Vec<String>,
    /// Options by full name; abbreviations, clusters and attached values count too.
    pub any_option: Vec<String>,
    /// Words that any argument equals, or begins with if the entry ends in `*`.
    pub any_argument: Vec<String>,
}

/// Precedence: `Never > Deny > Confirm > Allow`; the strictest matching rule wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allow,
    Confirm,
    Deny,
    Never,
}

/// Which power a rule is about. The classes do not imply one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    Read,
    Write,
    Exec,
    Net,
    Pr,
    Merge,
    Migrate,
    Deploy,
    Rollback,
    Secret,
    Admin,
}

/// A command line in a rule's `match` or `not_match`, checked when the profile is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub argv: Vec<Arg>,
    pub line: u32,
}
