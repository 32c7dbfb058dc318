//! The one description of every key: the reader, the schema and the layering rules follow it.
//!
//! A key says what its value must look like, whether a file must have it, and in which direction
//! it is stricter. Whoever adds a key adds it here; nothing else decides what a profile may say.

use std::sync::LazyLock;

use super::credential::Decoy;

/// Room for any number of operands that a kernel passes on.
const OPERANDS_MAX: u64 = 0xffff_ffff;

/// One key of a table.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// One sentence for editors and for the reference.
    pub(super) doc: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) merge: Merge,
}

/// What a value must look like.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Text(Text),
    Bool,
    /// A whole number within bounds, both included.
    Whole(u64, u64),
    /// One of these words; where it matters, the strictest first.
    Choice(&'static [&'static str]),
    Size,
    Count,
    Time,
    List(Box<Self>),
    Table(Vec<Key>),
    /// Names of the author's own choosing.
    Map(Text, Box<Self>),
    /// Told apart by the value's type, tables by their first key.
    Either(Vec<Self>),
}

/// What a string must look like; `text` checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// For people: one line.
    Sentence,
    /// Of a profile, a pack, a toolchain.
    Name,
    RuleId,
    ReadPath,
    WritePath,
    HiddenPath,
    /// Relative to the workspace.
    WorkspacePath,
    Host,
    /// An address or a range of them.
    Range,
    /// A range of ports.
    Ports,
    /// An address, with or without a port.
    Resolver,
    Variable,
    VariableValue,
    /// The last component of a program's path.
    Program,
    /// The same, and it may end in `*`.
    ProgramPattern,
    /// A program, or `@workspace`.
    Caller,
    /// The name of a variable that may choose code, and it may end in `*`.
    GuardedVariable,
    /// With its dashes.
    OptionName,
    Word,
    Method,
    /// Of a request, or `/*` at its end.
    UrlPath,
    /// A whole command line.
    Example,
}

/// How values of one key from several files become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// About the file itself; never merged.
    File,
    /// A table of keys that are merged one by one.
    Section,
    /// The later value counts.
    Value(Stricter),
    /// Entries are collected; a `[remove]` takes them away.
    List(Adding),
}

/// Which of two values of a key is the stricter one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stricter {
    /// The smaller number.
    Smaller,
    /// The word that stands first in the choice.
    Earlier,
    False,
    True,
    /// Neither: a lower layer may say what it likes.
    Neither,
}

/// What one more entry in a list does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adding {
    /// Opens something: a lower layer needs leave.
    Widens,
    /// Closes something: always welcome, and a lower layer may not take it back.
    Tightens,
    /// Depends on the entry: rules.
    Depends,
}

/// Every key of `level-N.toml`.
pub(super) static LEVEL: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut keys = header();
    keys.extend(sections());
    keys.push(file("remove", "Entries taken away from what this file inherits.", remove()));
    keys.push(file("tunable", "Keys that lower layers may widen, and how far.", tunable()));
    keys
});

/// Every key of `packs/NAME.toml`.
pub(super) static PACK: LazyLock<Vec<Key>> = LazyLock::new(|| {
    vec![
        required("schema", "Version of this format: 1.", Shape::Whole(1, 1)),
        required("pack", "Name of the pack: the file's name.", Shape::Text(Text::Name)),
        required("summary", "What the pack is about.", Shape::Text(Text::Sentence)),
        file("program", "What is known of a program.", list(Shape::Table(program()))),
        file("toolchain", "Where a toolchain lies.", Shape::Table(toolchain())),
        file("rule", "A rule about commands.", list(Shape::Table(rule(true)))),
    ]
});

fn key(name: &'static str, doc: &'static str, shape: Shape, merge: Merge) -> Key {
    Key { name, doc, shape, required: false, merge }
}

fn file(name: &'static str, doc: &'static str, shape: Shape) -> Key {
    key(name, doc, shape, Merge::File)
}

fn required(name: &'static str, doc: &'static str, shape: Shape) -> Key {
    Key { required: true, ..file(name, doc, shape) }
}

/// A value that may be written as a table with its reason.
fn value(name: &'static str, doc: &'static str, shape: Shape, stricter: Stricter) -> Key {
    let reasoned = Shape::Table(vec![
        required("value", "The value.", shape.clone()),
        required("because", "The reason for this value.", Shape::Text(Text::Sentence)),
    ]);
    key(name, doc, Shape::Either(vec![shape, reasoned]), Merge::Value(stricter))
}

fn section(name: &'static str, doc: &'static str, mut keys: Vec<Key>) -> Key {
    keys.push(because("The reason of the entries here that give none of their own."));
    key(name, doc, Shape::Table(keys), Merge::Section)
}

fn because(doc: &'static str) -> Key {
    file("because", doc, Shape::Text(Text::Sentence))
}

fn list(of: Shape) -> Shape {
    Shape::List(Box::new(of))
}

/// A list whose entries are a string, or a table with the string as `field` and a reason.
fn entries(
    name: &'static str,
    doc: &'static str,
    field: &'static str,
    text: Text,
    adding: Adding,
) -> Key {
    let table = vec![
        required(field, "What is listed.", Shape::Text(text)),
        required("because", "The reason for this entry.", Shape::Text(Text::Sentence)),
    ];
    let entry = Shape::Either(vec![Shape::Text(text), Shape::Table(table)]);
    key(name, doc, list(entry), Merge::List(adding))
}

/// As [`entries`], for paths which may hold programs.
fn grants(name: &'static str, doc: &'static str, text: Text) -> Key {
    let table = vec![
        required("path", "The file or directory.", Shape::Text(text)),
        file("programs", "Programs below it may be started.", Shape::Bool),
        required("because", "The reason for this entry.", Shape::Text(Text::Sentence)),
    ];
    let entry = Shape::Either(vec![Shape::Text(text), Shape::Table(table)]);
    key(name, doc, list(entry), Merge::List(Adding::Widens))
}

fn header() -> Vec<Key> {
    vec![
        required("schema", "Version of this format: 1.", Shape::Whole(1, 1)),
        required("name", "What the profile is called.", Shape::Text(Text::Name)),
        required("level", "The level of the ladder, 1 to 6.", Shape::Whole(1, 6)),
        file("extends", "The profile of a lower level it adds to.", Shape::Text(Text::Name)),
        Key {
            required: true,
            ..key(
                "summary",
                "One sentence: what an agent may do here.",
                Shape::Text(Text::Sentence),
                Merge::Value(Stricter::Neither),
            )
        },
        key(
            "owner",
            "Who answers for this profile; required from level 4.",
            Shape::Text(Text::Sentence),
            Merge::Value(Stricter::Neither),
        ),
        value(
            "on_gap",
            "What to do when this host cannot enforce something.",
            Shape::Choice(&["refuse", "allow"]),
            Stricter::Earlier,
        ),
    ]
}

/// The sections of a level file, without `[remove]` and `[tunable]`, which are made from them.
fn sections() -> Vec<Key> {
    vec![
        section("filesystem", "What of the file system is in the view.", filesystem()),
        section("exec", "Which programs may be started, and how.", exec()),
        section(
            "environment",
            "The variables a command gets; all others are absent.",
            environment(),
        ),
        section("network", "Where a command may connect to.", network()),
        key(
            "credential",
            "A secret that is lent to a run without being shown to it.",
            list(Shape::Table(credential())),
            Merge::List(Adding::Widens),
        ),
        section(
            "syscalls",
            "The system call filter.",
            vec![value(
                "table",
                "Which column of the system call table applies.",
                Shape::Choice(&["strict", "standard", "debug"]),
                Stricter::Earlier,
            )],
        ),
        section("limits", "What one run may use.", limits()),
        section("output", "What happens with what a command prints.", output()),
        section("audit", "How runs are recorded.", audit()),
    ]
}

fn filesystem() -> Vec<Key> {
    let tmp = vec![
        value(
            "size",
            "Bytes in the run's own /tmp, /dev/shm and home.",
            Shape::Size,
            Stricter::Smaller,
        ),
        value("files", "Files in them.", Shape::Count, Stricter::Smaller),
        value("run_programs", "Programs there may be started.", Shape::Bool, Stricter::False),
    ];
    vec![
        value(
            "workspace",
            "How the workspace is mounted.",
            Shape::Choice(&["read-only", "session", "direct"]),
            Stricter::Earlier,
        ),
        grants(
            "read",
            "Files and trees that can be read; a path that does not exist is skipped.",
            Text::ReadPath,
        ),
        grants("write", "Writable places beyond the workspace.", Text::WritePath),
        entries(
            "hidden",
            "Masked although an entry of `read` contains them.",
            "path",
            Text::HiddenPath,
            Adding::Tightens,
        ),
        entries(
            "protected",
            "Names in the workspace that stay readable and are never written; a directory means all of it.",
            "path",
            Text::WorkspacePath,
            Adding::Tightens,
        ),
        entries(
            "toolchains",
            "Toolchains whose places a pack knows.",
            "name",
            Text::Name,
            Adding::Widens,
        ),
        entries(
            "caches",
            "Caches of tools: read by a run, which writes into a layer on top of them.",
            "path",
            Text::ReadPath,
            Adding::Widens,
        ),
        section("tmp", "The private temporary directories of a run.", tmp),
    ]
}

fn exec() -> Vec<Key> {
    vec![
        entries(
            "packs",
            "Packs of tool knowledge whose rules are in force.",
            "name",
            Text::Name,
            Adding::Widens,
        ),
        value(
            "workspace_programs",
            "Programs that lie in the workspace may be started.",
            Shape::Bool,
            Stricter::False,
        ),
        key(
            "program",
            "What is known of a program.",
            list(Shape::Table(program())),
            Merge::List(Adding::Widens),
        ),
        key(
            "rule",
            "A rule about commands.",
            list(Shape::Table(rule(false))),
            Merge::List(Adding::Depends),
        ),
    ]
}

fn environment() -> Vec<Key> {
    let value = Shape::Text(Text::VariableValue);
    let reasoned = Shape::Table(vec![
        required("value", "The value.", value.clone()),
        required("because", "The reason for this value.", Shape::Text(Text::Sentence)),
    ]);
    vec![
        entries(
            "pass",
            "Variables that pass from the caller.",
            "name",
            Text::Variable,
            Adding::Widens,
        ),
        key(
            "set",
            "Variables that rung sets.",
            Shape::Map(Text::Variable, Box::new(Shape::Either(vec![value, reasoned]))),
            Merge::List(Adding::Widens),
        ),
        entries(
            "workspace_sets",
            "Guarded variables that code of the workspace may set for what it starts; `GIT_*` is a prefix.",
            "name",
            Text::GuardedVariable,
            Adding::Widens,
        ),
    ]
}

fn network() -> Vec<Key> {
    let destination = vec![
        required(
            "host",
            "An exact host name, `*.` and a domain, or an address range that needs no name.",
            Shape::Text(Text::Host),
        ),
        required(
            "ports",
            "TCP ports, each a number or a range as `\"8000-8999\"`.",
            list(Shape::Either(vec![Shape::Whole(1, 65535), Shape::Text(Text::Ports)])),
        ),
        file(
            "address",
            "Address ranges beside the public internet where the host may lie.",
            list(Shape::Text(Text::Range)),
        ),
        file(
            "methods",
            "HTTP methods; present: every request is read by the gateway, and nothing but HTTP passes.",
            list(Shape::Text(Text::Method)),
        ),
        file(
            "paths",
            "Paths of requests, each exact or with all below as `/api/*`; present: as with `methods`.",
            list(Shape::Text(Text::UrlPath)),
        ),
        file("rate", "Bytes per second.", Shape::Either(vec![Shape::Size])),
        file("upload", "Bytes sent in one run.", Shape::Size),
        required("because", "The reason for this destination.", Shape::Text(Text::Sentence)),
    ];
    let budget = vec![
        value("upload", "Bytes sent in one run.", Shape::Size, Stricter::Smaller),
        value("download", "Bytes received in one run.", Shape::Size, Stricter::Smaller),
        value("connections", "Connections opened in one run.", Shape::Count, Stricter::Smaller),
    ];
    vec![
        value(
            "loopback",
            "The sandbox's own loopback interface is up.",
            Shape::Bool,
            Stricter::False,
        ),
        section("budget", "What one run may send and receive altogether.", budget),
        key(
            "destination",
            "A host the command may connect to.",
            list(Shape::Table(destination)),
            Merge::List(Adding::Widens),
        ),
    ]
}

fn credential() -> Vec<Key> {
    let source = vec![
        file("file", "A file of your own that nobody else may read.", Shape::Text(Text::ReadPath)),
        file("variable", "A variable of whoever starts rung.", Shape::Text(Text::Variable)),
        file("command", "A program of the host that prints it.", list(Shape::Text(Text::Sentence))),
        file(
            "key",
            "The description of a key of kind `user` in the kernel's keyring of the user.",
            Shape::Text(Text::Sentence),
        ),
    ];
    vec![
        required("name", "What it is called in records.", Shape::Text(Text::Name)),
        required("host", "The one host name that it is for.", Shape::Text(Text::Host)),
        required("methods", "With which it may be used.", list(Shape::Text(Text::Method))),
        required("header", "The header that carries it.", Shape::Text(Text::Sentence)),
        file("format", "The header's value; `{}` is the secret.", Shape::Text(Text::Sentence)),
        file("login", "The login name beside it in the files.", Shape::Text(Text::Name)),
        required("source", "Where rung takes it from.", Shape::Table(source)),
        file("variable", "The variable with a placeholder.", Shape::Text(Text::Variable)),
        file(
            "decoy",
            "Files with a placeholder in the run's home.",
            list(Shape::Choice(&Decoy::NAMES)),
        ),
        required("because", "The reason for lending it.", Shape::Text(Text::Sentence)),
    ]
}

fn limits() -> Vec<Key> {
    vec![
        value("wall", "Time from start to end.", Shape::Time, Stricter::Smaller),
        value(
            "grace",
            "Time between asking the command to end and killing it.",
            Shape::Time,
            Stricter::Smaller,
        ),
        value("processes", "Processes and threads at once.", Shape::Count, Stricter::Smaller),
        value("open_files", "Open files of one process.", Shape::Count, Stricter::Smaller),
        value("memory", "Memory of all processes together.", Shape::Size, Stricter::Smaller),
        value("file", "Size of one file.", Shape::Size, Stricter::Smaller),
        value(
            "session",
            "What all runs of a session may leave in its layer.",
            Shape::Size,
            Stricter::Smaller,
        ),
        value("session_files", "The same in files.", Shape::Count, Stricter::Smaller),
    ]
}

fn output() -> Vec<Key> {
    vec![
        value(
            "max",
            "Bytes of output, or `unlimited`: the command keeps the caller's own streams.",
            Shape::Either(vec![Shape::Choice(&["unlimited"]), Shape::Size]),
            Stricter::Smaller,
        ),
        value(
            "when_full",
            "What to do when there is more.",
            Shape::Choice(&["keep-head-and-tail", "stop"]),
            Stricter::Neither,
        ),
    ]
}

fn audit() -> Vec<Key> {
    vec![
        value(
            "durable",
            "When the decision must be on the disk.",
            Shape::Choice(&["before-exec", "overlapped"]),
            Stricter::Earlier,
        ),
        value("record_output", "The output is recorded too.", Shape::Bool, Stricter::True),
    ]
}

fn program() -> Vec<Key> {
    vec![
        required(
            "name",
            "The last component of its path, or several with one grammar.",
            one_or_more(Text::Program),
        ),
        required(
            "class",
            "What kind of power starting it is.",
            Shape::Choice(&[
                "plain",
                "wrapper",
                "interpreter",
                "shell",
                "loader",
                "build",
                "editor",
                "pager",
                "remote",
            ]),
        ),
        required(
            "style",
            "How its options are written.",
            Shape::Choice(&["gnu", "posix", "git", "clap", "single-dash-long", "dd", "bsd"]),
        ),
        file(
            "global",
            "Options that may stand before a subcommand.",
            list(Shape::Either(options())),
        ),
        file(
            "force_environment",
            "Variables set whenever rung starts it, over anything else.",
            Shape::Map(Text::Variable, Box::new(Shape::Text(Text::VariableValue))),
        ),
        file(
            "offline_environment",
            "The same, where the level lists no `network.destination`.",
            Shape::Map(Text::Variable, Box::new(Shape::Text(Text::VariableValue))),
        ),
        file(
            "sets_environment",
            "Guarded variables that it may set for what it starts, at any depth; `GIT_*` is a prefix.",
            list(Shape::Text(Text::GuardedVariable)),
        ),
        file(
            "multicall",
            "One file, many programs: the name it is called by says which.",
            Shape::Bool,
        ),
        file(
            "starts_itself",
            "It starts itself with words of its own making, which only never rules are about.",
            Shape::Bool,
        ),
        because("Why rung knows it."),
    ]
}

fn toolchain() -> Vec<Key> {
    vec![
        required("directories", "Read-only trees.", list(Shape::Text(Text::ReadPath))),
        file(
            "search_path",
            "Directories put in front of PATH, below `directories`.",
            list(Shape::Text(Text::ReadPath)),
        ),
        file(
            "credentials",
            "Credential files below `directories`, masked.",
            list(Shape::Text(Text::HiddenPath)),
        ),
        file(
            "caches",
            "What it keeps for all projects; a run writes into a layer on top.",
            list(Shape::Text(Text::ReadPath)),
        ),
        file(
            "environment",
            "Variables it needs.",
            Shape::Map(Text::Variable, Box::new(Shape::Text(Text::VariableValue))),
        ),
        file(
            "offline_environment",
            "And where the level lists no `network.destination`.",
            Shape::Map(Text::Variable, Box::new(Shape::Text(Text::VariableValue))),
        ),
        file(
            "listed_environment",
            "And where it lists one.",
            Shape::Map(Text::Variable, Box::new(Shape::Text(Text::VariableValue))),
        ),
        because("Why it is needed."),
    ]
}

fn one_or_more(text: Text) -> Shape {
    Shape::Either(vec![Shape::Text(text), list(Shape::Text(text))])
}

fn value_type() -> Shape {
    Shape::Either(vec![
        Shape::Choice(&[
            "uint",
            "int",
            "duration",
            "text",
            "glob",
            "regex",
            "path-read",
            "path-write",
            "host",
            "url",
            "revision",
            "path-workspace",
            "name",
            "sed-script",
            "awk-program",
            "argv",
            "argv-open",
        ]),
        Shape::Table(vec![required("enum", "One of these words.", list(Shape::Text(Text::Word)))]),
        Shape::Table(vec![required(
            "key_value",
            "`name=value` with one of these names.",
            list(Shape::Text(Text::Word)),
        )]),
    ])
}

/// The elements that describe options, each told apart by its first key.
fn options() -> Vec<Shape> {
    vec![
        Shape::Table(vec![required(
            "flags",
            "Options without a value.",
            list(Shape::Text(Text::OptionName)),
        )]),
        Shape::Table(vec![
            required(
                "option",
                "An option with a value: all its spellings.",
                one_or_more(Text::OptionName),
            ),
            required("value", "What the value looks like.", value_type()),
            file("optional_value", "The value may be left out.", Shape::Bool),
        ]),
        Shape::Table(vec![required(
            "options",
            "Several options: name and type of value.",
            Shape::Map(Text::OptionName, Box::new(value_type())),
        )]),
    ]
}

fn arguments() -> Shape {
    let mut elements = vec![
        Shape::Text(Text::Word),
        Shape::Table(vec![required(
            "one_of",
            "One of these words, at this place.",
            list(Shape::Text(Text::Word)),
        )]),
    ];
    elements.extend(options());
    elements.push(Shape::Table(vec![
        required("operands", "Words that are no options: what they look like.", value_type()),
        file("min", "At least so many; 0 if absent.", Shape::Whole(0, OPERANDS_MAX)),
        file("max", "At most so many; any number if absent.", Shape::Whole(0, OPERANDS_MAX)),
    ]));
    elements.push(Shape::Table(vec![
        required("after", "The word after which nothing is checked.", Shape::Text(Text::Word)),
        required("any", "true: whatever follows is for the program that is started.", Shape::Bool),
    ]));
    elements.push(Shape::Table(vec![required(
        "rest",
        "any: once the operands before it are there, nothing more is checked.",
        Shape::Choice(&["any"]),
    )]));
    elements.push(Shape::Table(vec![required(
        "words",
        "any: the words are the affair of the program in `started_by`.",
        Shape::Choice(&["any"]),
    )]));
    list(Shape::Either(elements))
}

fn rule(in_pack: bool) -> Vec<Key> {
    let words = || list(Shape::Text(Text::Word));
    let example =
        || list(Shape::Either(vec![Shape::Text(Text::Example), list(Shape::Text(Text::Example))]));
    let when = vec![
        file("subcommand", "The words after the global options begin like this.", words()),
        file(
            "any_option",
            "Options by full name; abbreviations count too.",
            list(Shape::Text(Text::OptionName)),
        ),
        file(
            "any_argument",
            "Words that an argument equals, or begins with if they end in `*`.",
            words(),
        ),
    ];
    let mut keys = vec![
        required("id", "Unique name: `git.push.force`.", Shape::Text(Text::RuleId)),
        required("program", "The programs it is about.", one_or_more(Text::ProgramPattern)),
        file(
            "started_by",
            "Only what these programs start; `@workspace` is any code of the workspace.",
            one_or_more(Text::Caller),
        ),
        required(
            "decision",
            "What it decides.",
            Shape::Choice(&["allow", "confirm", "deny", "never"]),
        ),
        required(
            "power",
            "Which power it is about.",
            Shape::Choice(&[
                "read", "write", "exec", "net", "pr", "merge", "migrate", "deploy", "rollback",
                "secret", "admin",
            ]),
        ),
        required(
            "because",
            "The reason, quoted wherever the rule decides.",
            Shape::Text(Text::Sentence),
        ),
        file("arguments", "For allow: the whole grammar of the command line.", arguments()),
        file("when", "For the others: what makes it fire; absent: any use.", Shape::Table(when)),
        file("reversible", "What it does can be undone; true if absent.", Shape::Bool),
        file(
            "touches",
            "What it can affect.",
            list(Shape::Choice(&["customer", "money", "infrastructure", "production", "identity"])),
        ),
        file("instead", "What to do instead, quoted in a refusal.", Shape::Text(Text::Sentence)),
        file("match", "Command lines the rule is about.", example()),
        file("not_match", "Command lines it is not about.", example()),
    ];
    if in_pack {
        keys.push(file("from_level", "The first level that has the rule.", Shape::Whole(1, 6)));
        keys.push(file("to_level", "The last level that has the rule.", Shape::Whole(1, 6)));
        keys.push(file(
            "listed_from_level",
            "The first level that has it where the level lists a `network.destination`; without `from_level`, nothing else has it.",
            Shape::Whole(1, 6),
        ));
        keys.push(file(
            "while_offline",
            "Only where the level lists no `network.destination`.",
            Shape::Bool,
        ));
    }
    keys
}

/// `[tunable]`: `true` for any value, or the loosest one.
fn tunable() -> Shape {
    fn of(keys: &[Key]) -> Shape {
        let keys = keys.iter().filter_map(|it| {
            let shape = match (&it.shape, it.merge) {
                (Shape::Table(keys), Merge::Section) => of(keys),
                (Shape::Either(shapes), Merge::Value(Stricter::Smaller | Stricter::Earlier)) => {
                    Shape::Either(
                        shapes.first().cloned().into_iter().chain([Shape::Bool]).collect(),
                    )
                }
                (_, Merge::Value(Stricter::False | Stricter::True) | Merge::List(_)) => Shape::Bool,
                (_, Merge::Value(_) | Merge::Section | Merge::File) => return None,
            };
            Some(file(it.name, "Whether, or how far, lower layers may widen this.", shape))
        });
        Shape::Table(keys.collect())
    }
    let mut keys = header();
    keys.extend(sections());
    of(&keys)
}

/// `[remove]`: names of entries in the lists of the same name, and powers.
fn remove() -> Shape {
    fn of(keys: &[Key]) -> Shape {
        let keys = keys.iter().filter_map(|it| {
            let shape = match (&it.shape, it.merge) {
                (Shape::Table(keys), Merge::Section) => match of(keys) {
                    Shape::Table(keys) if keys.is_empty() => return None,
                    shape => shape,
                },
                (_, Merge::List(_)) => list(Shape::Text(Text::Word)),
                (_, Merge::Value(_) | Merge::Section | Merge::File) => return None,
            };
            Some(file(it.name, "Names of entries to take away.", shape))
        });
        Shape::Table(keys.collect())
    }
    let mut all = of(&sections());
    let powers = file(
        "power",
        "Inherited allow and confirm rules of these powers are taken away.",
        list(Shape::Choice(&[
            "read", "write", "exec", "net", "pr", "merge", "migrate", "deploy", "rollback",
            "secret", "admin",
        ])),
    );
    if let Shape::Table(sections) = &mut all
        && let Some(exec) = sections.iter_mut().find(|it| it.name == "exec")
        && let Shape::Table(keys) = &mut exec.shape
    {
        keys.push(powers);
    }
    all
}
