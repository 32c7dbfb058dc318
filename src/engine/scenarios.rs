//! Scenario tables: command lines, and the verdicts that the profiles are expected to give.
//!
//! A security person writes down what must and must not be, and a change of a profile is held
//! against it. Nothing of this machine is looked at: a plain name is a program of the system, one
//! with a slash lies in the workspace or where its path says, so a table means the same everywhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{EngineError, Surroundings};
use crate::model::{
    Arg, Ids, Level, ProgramFact, ProgramLocation, Request, Streams, Tree, lexical,
};
use crate::policy::{self, Verdict, words};
use crate::profile::{Ladder, Profile};

/// The largest table that is read.
const TABLE_BYTES_MAX: u64 = 4 << 20;
/// Where the commands of a table run.
const WORKSPACE: &str = "/workspace";
const HOME: &str = "/home/user";

/// A verdict as tables write it: a word, and the id of the rule where it matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    pub verdict: Word,
    pub rule: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Allow,
    /// A person is asked first.
    Ask,
    Deny,
    /// Denied, and no approval can lift it.
    Never,
}

impl Word {
    const ALL: [Self; 4] = [Self::Allow, Self::Ask, Self::Deny, Self::Never];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
            Self::Never => "never",
        }
    }
}

/// `deny core.rm.workspace`
impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.verdict.as_str())?;
        self.rule.as_ref().map_or(Ok(()), |rule| write!(f, " {rule}"))
    }
}

/// One expectation of a table, held against what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    pub line: usize,
    pub command: String,
    pub level: Level,
    pub expected: Said,
    pub found: Said,
    /// Why the verdict is what it is.
    pub reason: Option<String>,
    pub holds: bool,
}

/// Decides every command of the table at the levels it names, in the order of the file; `with` is
/// a level's file that is laid on top of what is in force.
pub fn hold(
    table: &Path,
    with: Option<&Path>,
    around: &Surroundings,
) -> Result<Vec<Held>, EngineError> {
    let text = read(table)?;
    let scenarios = parse(&text)
        .map_err(|problem| EngineError::Profile(format!("{}:{problem}", table.display())))?;
    let changed = with.map(|it| around.profile_with(it)).transpose()?;
    let mut held = Vec::new();
    let mut ladder = Ladder { ceiling: Level::ProductionWrites, profiles: BTreeMap::new() };
    if let Some(changed) = changed {
        ladder.profiles.insert(changed.level, changed);
    }
    for scenario in scenarios {
        for (level, expected) in scenario.expected {
            let profile = match ladder.profiles.entry(level) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(around.profile(level)?),
            };
            let request = supposed(scenario.argv.clone(), profile);
            let (found, reason) = said(policy::decide(&request, &ladder));
            let holds = expected.verdict == found.verdict
                && (expected.rule.is_none() || expected.rule == found.rule);
            held.push(Held {
                line: scenario.line,
                command: scenario.command.clone(),
                level,
                expected,
                found,
                reason,
                holds,
            });
        }
    }
    Ok(held)
}

fn read(table: &Path) -> Result<String, EngineError> {
    let failed = |source| EngineError::Read { path: table.to_owned(), source };
    let size = fs::metadata(table).map_err(failed)?.len();
    if size > TABLE_BYTES_MAX {
        let path = table.display();
        return Err(EngineError::Profile(format!(
            "`{path}` has {size} bytes, and a table at most {TABLE_BYTES_MAX}"
        )));
    }
    fs::read_to_string(table).map_err(failed)
}

fn said(verdict: Verdict) -> (Said, Option<String>) {
    let (verdict, rule, reason) = match verdict {
        Verdict::Allow(permit) => (Word::Allow, permit.rule().to_owned(), None),
        Verdict::Ask(question) => (Word::Ask, question.rule, Some(question.denial.reason)),
        Verdict::Deny(refusal) => {
            let word = if refusal.never { Word::Never } else { Word::Deny };
            (word, refusal.denial.rule, Some(refusal.denial.reason))
        }
    };
    (Said { verdict, rule: Some(rule) }, reason)
}

/// The request that a command line of a table stands for.
fn supposed(argv: Vec<Arg>, profile: &Profile) -> Request {
    Request {
        program: program(argv.first(), profile),
        argv,
        level: profile.level,
        cwd: PathBuf::from(WORKSPACE),
        workspace: PathBuf::from(WORKSPACE),
        home: PathBuf::from(HOME),
        environment: BTreeMap::new(),
        ids: Ids::default(),
        streams: Streams::Inherit,
        tree: Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}

fn program(word: Option<&Arg>, profile: &Profile) -> ProgramFact {
    let spelled = word.map(|it| PathBuf::from(it.as_os_str())).unwrap_or_default();
    let plain = spelled.components().count() == 1
        && matches!(spelled.components().next(), Some(Component::Normal(_)));
    let path = if plain {
        Path::new("/usr/bin").join(&spelled)
    } else {
        lexical(&Path::new(WORKSPACE).join(&spelled))
    };
    let below = |tree: &str| match tree.strip_prefix("~/") {
        Some(rest) => path.starts_with(Path::new(HOME).join(rest)),
        None => path.starts_with(tree),
    };
    let filesystem = &profile.filesystem;
    let mut toolchains = filesystem.toolchains.iter().flat_map(|it| &it.directories);
    let location = if plain || filesystem.read.iter().any(|it| it.programs && below(&it.path)) {
        ProgramLocation::System
    } else if toolchains.any(|it| below(it)) {
        ProgramLocation::Toolchain
    } else if path.starts_with(WORKSPACE) {
        ProgramLocation::Workspace
    } else {
        ProgramLocation::Elsewhere
    };
    ProgramFact::Found {
        canonical: path.clone(),
        path,
        location,
        device: 0,
        inode: 0,
        setid: false,
        executable: true,
    }
}

// ---- the file

/// One command line with what it is expected to come to.
#[derive(Debug)]
struct Scenario {
    line: usize,
    command: String,
    argv: Vec<Arg>,
    expected: Vec<(Level, Said)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    scenario: Vec<Spanned<Row>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    command: Words,
    /// For the reader of the table.
    #[expect(dead_code, reason = "a reason is for people")]
    because: Option<String>,
    #[serde(rename = "level-1")]
    level_1: Option<String>,
    #[serde(rename = "level-2")]
    level_2: Option<String>,
    #[serde(rename = "level-3")]
    level_3: Option<String>,
    #[serde(rename = "level-4")]
    level_4: Option<String>,
    #[serde(rename = "level-5")]
    level_5: Option<String>,
    #[serde(rename = "level-6")]
    level_6: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    Line(String),
    List(Vec<String>),
}

/// The scenarios of a table, or what is wrong with it, behind its line.
fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|it| *it == b'\n').count();
    let table: Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        format!("{line}: {}", error.message())
    })?;
    if table.scenario.is_empty() {
        return Err("1: the table has no `[[scenario]]`, so it says nothing".to_owned());
    }
    let scenario = |row: Spanned<Row>| {
        let line = line_at(row.span().start);
        scenario(line, row.into_inner()).map_err(|problem| format!("{line}: {problem}"))
    };
    table.scenario.into_iter().map(scenario).collect()
}

fn scenario(line: usize, row: Row) -> Result<Scenario, String> {
    let argv = match &row.command {
        Words::Line(text) => words::split(text).map_err(|error| error.to_string())?,
        Words::List(list) => {
            let word = |it: &String| Arg::try_from(it.as_str()).map_err(|error| error.to_string());
            list.iter().map(word).collect::<Result<Vec<_>, _>>()?
        }
    };
    let command = match row.command {
        Words::Line(text) => text,
        Words::List(list) => shell_words::join(&list),
    };
    if argv.is_empty() {
        return Err("the command has no word".to_owned());
    }
    let said = [row.level_1, row.level_2, row.level_3, row.level_4, row.level_5, row.level_6];
    let mut expected = Vec::new();
    for (level, text) in Level::ALL.into_iter().zip(said) {
        if let Some(text) = text {
            expected.push((level, expectation(&text)?));
        }
    }
    if expected.is_empty() {
        return Err("nothing is expected: add `level-1 = \"deny\"`, or another level".to_owned());
    }
    Ok(Scenario { line, command, argv, expected })
}

fn expectation(text: &str) -> Result<Said, String> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let verdict = Word::ALL.into_iter().find(|it| it.as_str() == first).ok_or_else(|| {
        format!(
            "`{}` is no verdict: write allow, ask, deny or never, and the id of a rule behind it \
             if that matters",
            text.escape_debug()
        )
    })?;
    let rule = words.next().map(str::to_owned);
    match words.next() {
        None => Ok(Said { verdict, rule }),
        Some(more) => Err(format!("`{}` behind the rule means nothing", more.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_with_its_lines() {
        let text = "# the push\n[[scenario]]\ncommand = \"git push\"\nlevel-2 = \"deny git.push\"\n\
                    level-4 = \"ask\"\n\n[[scenario]]\ncommand = [\"rm\", \"a b\"]\n\
                    because = \"editing\"\nlevel-2 = \"allow\"\n";
        let scenarios = parse(text).unwrap();
        let lines: Vec<usize> = scenarios.iter().map(|it| it.line).collect();
        assert_eq!(lines, [2, 7]);
        let expected: Vec<String> =
            scenarios[0].expected.iter().map(|(level, said)| format!("{level} {said}")).collect();
        assert_eq!(expected, ["2 deny git.push", "4 ask"]);
        assert_eq!((scenarios[1].command.as_str(), scenarios[1].argv.len()), ("rm 'a b'", 2));
    }

    #[track_caller]
    fn check(text: &str, says: &str) {
        let problem = parse(text).unwrap_err();
        assert!(problem.contains(says), "{problem}");
    }

    #[test]
    fn what_a_table_may_not_say_is_named_with_its_line() {
        check("", "1: the table has no `[[scenario]]`");
        check("[[scenario]]\nlevel-1 = \"deny\"", "1: missing field `command`");
        check("[[scenario]]\ncommand = \"ls\"", "nothing is expected");
        check("[[scenario]]\ncommand = \"ls\"\nlevel-7 = \"deny\"", "3: unknown field `level-7`");
        check("\n[[scenario]]\ncommand = \"ls\"\nlevel-1 = \"alow\"", "2: `alow` is no verdict");
        check("[[scenario]]\ncommand = \"ls\"\nlevel-1 = \"deny a b\"", "`b` behind the rule");
        check("[[scenario]]\ncommand = \"ls; rm x\"\nlevel-1 = \"deny\"", "`;` at character 3");
        check("[[scenario]]\ncommand = []\nlevel-1 = \"deny\"", "has no word");
        check("[[scenario]]\ncommand = \"a\\u0000\"\nlevel-1 = \"deny\"", "NUL");
        check("scenario = 1", "1: ");
    }
}
