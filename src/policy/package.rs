//! Scripts of a project that a command runs by their name, resolved one step.
//!
//! `npm test` says nothing of what it does; the script it names does. What such a script is certain
//! to start is put to the rules before anything runs, so that whoever asked hears at once that it
//! will not work, and why. It only ever refuses, and only what the exec gate would refuse later: a
//! script that is not understood is left to the gate, which decides every program by itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{Arg, Denial, Layer, ProgramFact, Request};
use crate::policy::decide::{final_name, judge, verdict};
use crate::policy::finding::{Asked, Command, Finding, Nearest};
use crate::policy::shell::{self, Certain};
use crate::policy::{Refusal, Verdict, refusal};
use crate::profile::{Decision, Profile, WORKSPACE_CODE};

/// Where a tool keeps its scripts; of several names the first that exists.
const PACKAGE: &[&str] = &["package.json"];
const MAKEFILES: &[&str] = &["GNUmakefile", "makefile", "Makefile"];

/// Options of npm, pnpm and yarn that say nothing about which script runs, or where.
const PACKAGE_FLAGS: [&str; 4] = ["-s", "--silent", "--if-present", "--ignore-scripts"];
/// The same of make; a number of jobs may follow the letter.
const MAKE_FLAGS: [&str; 10] = ["-B", "-i", "-j", "-k", "-l", "-r", "-R", "-s", "-w", "--silent"];

/// Verbs of a package manager that are no scripts, for those that take a script's name as a verb.
const VERBS: [&str; 14] = [
    "add",
    "ci",
    "create",
    "dlx",
    "exec",
    "i",
    "init",
    "install",
    "list",
    "ls",
    "publish",
    "remove",
    "up",
    "workspace",
];

/// What changes the meaning of lines of a Makefile that stand elsewhere in it.
const DIRECTIVES: [&str; 13] = [
    "include", "-include", "sinclude", "define", "override", "ifdef", "ifndef", "ifeq", "ifneq",
    "else", "endif", "unexport", "vpath",
];

/// A script that a command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedScript {
    tool: String,
    /// Absent where the file says which one it is.
    name: Option<String>,
    /// Names of the file that has it.
    pub files: &'static [&'static str],
}

/// One script: what a shell will be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageScript {
    tool: String,
    name: String,
    file: String,
    texts: Vec<Text>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    text: String,
    /// The tool gives up when it fails.
    counts: bool,
}

/// The script that a command line runs. Nothing where it is none, and where an option could make it
/// another one.
pub fn named_script(argv: &[Arg]) -> Option<NamedScript> {
    let (first, words) = argv.split_first()?;
    let tool = final_name(Path::new(first.as_os_str()))?;
    let words: Option<Vec<&str>> = words.iter().map(Arg::as_str).collect();
    let words = words?;
    let own = words.iter().position(|it| *it == "--").unwrap_or(words.len());
    let (options, operands): (Vec<&str>, Vec<&str>) =
        words.iter().take(own).partition(|it| it.starts_with('-'));
    let make_flag = |it: &&str| {
        let number = it.trim_end_matches(|it: char| it.is_ascii_digit());
        MAKE_FLAGS.contains(&number)
    };
    let named = |name: Option<&str>, files| {
        let name = name.map(str::to_owned);
        Some(NamedScript { tool: tool.to_owned(), name, files })
    };
    match (tool, operands.as_slice()) {
        ("make" | "gmake", targets) if options.iter().all(make_flag) => match targets {
            [] => named(None, MAKEFILES),
            [only] => named(Some(only), MAKEFILES),
            [_, ..] => None,
        },
        ("npm" | "pnpm" | "yarn", _) if !options.iter().all(|it| PACKAGE_FLAGS.contains(it)) => {
            None
        }
        ("npm", ["test" | "t" | "tst"]) => named(Some("test"), PACKAGE),
        ("npm" | "pnpm" | "yarn", ["run" | "run-script", name]) => named(Some(name), PACKAGE),
        ("pnpm" | "yarn", [name]) if !VERBS.contains(name) => named(Some(name), PACKAGE),
        _ => None,
    }
}

impl NamedScript {
    /// Whether the tool takes the file of a directory further up, where there is none.
    pub fn is_looked_for_above(&self) -> bool {
        self.files == PACKAGE
    }

    /// The script, out of the file's text. Nothing where it is not certain which one runs.
    pub fn find(&self, file: &str, text: &str) -> Option<PackageScript> {
        let (name, texts) = match self.files {
            PACKAGE => self.in_package(text)?,
            _ => in_makefile(self.name.as_deref(), text)?,
        };
        Some(PackageScript { tool: self.tool.clone(), name, file: file.to_owned(), texts })
    }

    fn in_package(&self, text: &str) -> Option<(String, Vec<Text>)> {
        let package: serde_json::Value = serde_json::from_str(text).ok()?;
        let script = |name: &str| package.get("scripts")?.get(name)?.as_str();
        let name = self.name.as_deref()?;
        let own = script(name)?;
        // Only of npm it is certain that it runs what is called so.
        let around = |when: &str| script(&format!("{when}{name}")).filter(|_| self.tool == "npm");
        let texts = [around("pre"), Some(own), around("post")].into_iter().flatten();
        let texts = texts.map(|it| Text { text: it.to_owned(), counts: true });
        Some((name.to_owned(), texts.collect()))
    }
}

/// The recipe of a target, or of the first one.
fn in_makefile(target: Option<&str>, text: &str) -> Option<(String, Vec<Text>)> {
    let text = text.replace("\\\n", " ");
    let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut first = None;
    let mut current: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(recipe) = line.strip_prefix('\t') {
            for target in &current {
                rules.entry(target).or_default().push(recipe);
            }
            continue;
        }
        let plain = line.trim_start();
        let word = plain.split([' ', '\t', '(']).next().unwrap_or_default();
        if plain.is_empty() || plain.starts_with('#') {
            continue;
        }
        if DIRECTIVES.contains(&word) || plain.starts_with('$') || changes_recipes(plain) {
            return None;
        }
        current.clear();
        let Some((targets, rest)) = plain.split_once(':') else { continue };
        if targets.contains('=') || rest.trim_start_matches(':').starts_with('=') {
            continue;
        }
        if rest.contains(';') || targets.contains(['%', '$']) {
            return None;
        }
        for name in targets.split_whitespace() {
            if rules.get(name).is_some_and(|it| !it.is_empty()) {
                return None;
            }
            if !name.starts_with('.') {
                first.get_or_insert(name);
            }
            rules.entry(name).or_default();
            current.push(name);
        }
    }
    let name = target.or(first)?;
    Some((name.to_owned(), rules.get(name)?.iter().filter_map(|it| recipe(it)).collect()))
}

fn changes_recipes(line: &str) -> bool {
    [".ONESHELL", ".RECIPEPREFIX", "SHELL", ".SHELLFLAGS", "export SHELL", "MAKEFLAGS"]
        .iter()
        .any(|it| line.starts_with(it))
}

/// One line as the shell gets it. What make fills in is not known here.
fn recipe(line: &str) -> Option<Text> {
    let text = line.trim_start_matches(['@', '+', '-', ' ', '\t']);
    let marks = line.get(..line.len() - text.len()).unwrap_or_default();
    let filled_in = text.replace("$$", "").contains('$');
    let text = text.replace("$$", "$");
    (!filled_in).then(|| Text { text, counts: !marks.contains('-') })
}

/// Why the script could not run to its end, if that is certain. `is_local` says whether a plain
/// name is a program of the project, which the tool looks for first.
pub fn decide_package_script(
    script: &PackageScript,
    is_local: &dyn Fn(&str) -> bool,
    request: &Request,
    profile: &Profile,
) -> Option<Refusal> {
    let callers = [script.tool.as_str(), "sh", WORKSPACE_CODE];
    let asked = Asked { callers: &callers, layer: Layer::Policy, ..Asked::from(request) };
    script.texts.iter().find_map(|text| {
        let place = asked.place(profile);
        if let Some(rule) = shell::never(profile, text.text.as_bytes(), &place) {
            let whole = Arg::try_from(text.text.as_str()).ok()?;
            let shown = whole.to_string();
            return refused(script, &asked, profile, (&[whole], &shown), Finding::Caught(rule));
        }
        shell::certain(text.text.as_bytes()).iter().find_map(|Certain { argv, counts }| {
            let (first, words) = argv.split_first()?;
            let name = first.as_str()?;
            let command = Command { name, names: vec![name], words };
            if name.contains('/') || is_local(name) {
                return None;
            }
            let finding = judge(profile, &command, &place, 1);
            let stops = match &finding {
                Finding::Caught(rule) => rule.decision == Decision::Never || *counts,
                Finding::Uncovered(Nearest::NoRule { .. }) => *counts,
                Finding::Uncovered(_)
                | Finding::Allowed(_)
                | Finding::BadProgram(_)
                | Finding::Undecidable(_)
                | Finding::Text(_) => false,
            };
            let is_never =
                matches!(&finding, Finding::Caught(it) if it.decision == Decision::Never);
            if !stops || !(text.counts || is_never) {
                return None;
            }
            refused(script, &asked, profile, (argv, &refusal::command_text(argv)), finding)
        })
    })
}

fn refused(
    script: &PackageScript,
    asked: &Asked<'_>,
    profile: &Profile,
    (command, shown): (&[Arg], &str),
    finding: Finding<'_>,
) -> Option<Refusal> {
    let program = ProgramFact::Missing { searched: Vec::new() };
    let inner = Asked { argv: command, program: &program, ..*asked };
    let refused = match verdict(&inner, None, profile, finding) {
        Verdict::Allow(_) => return None,
        // Nobody is asked in the middle of a script.
        Verdict::Ask(question) => {
            Refusal { denial: question.denial, not_found: false, never: false }
        }
        Verdict::Deny(refusal) => refusal,
    };
    let PackageScript { name, file, .. } = script;
    let reason = format!("`{name}` of {file} runs `{shown}`: {}", refused.denial.reason);
    let denial = Denial { object: refusal::shown(asked.argv), reason, ..refused.denial };
    Some(Refusal { denial, ..refused })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::ProgramLocation;
    use crate::policy::fixture::{allow, argv, found, profile, request, rule};
    use crate::profile::{Argument, Rule, When};

    fn texts(line: &str, file: &str) -> Option<Vec<String>> {
        let script = named_script(&argv(line))?.find("file", file)?;
        let mark = |it: Text| format!("{}{}", if it.counts { "" } else { "-" }, it.text);
        Some(script.texts.into_iter().map(mark).collect())
    }

    #[track_caller]
    fn check(line: &str, file: &str, expected: &[&str]) {
        assert_eq!(texts(line, file).unwrap_or_default(), expected, "{line}");
    }

    #[test]
    fn a_package_manager_runs_the_script_it_names() {
        let file = r#"{ "scripts": { "pretest": "a", "test": "b", "x": "c", "posttest": "d" } }"#;
        check("npm test", file, &["a", "b", "d"]);
        check("npm -s t -- --anything", file, &["a", "b", "d"]);
        check("npm run x", file, &["c"]);
        check("yarn test", file, &["b"]);
        check("pnpm run-script x", file, &["c"]);
        for line in [
            "npm run",
            "npm run y",
            "npm test --prefix ..",
            "npm run x -w a",
            "npm install",
            "yarn add",
            "pnpm -r test",
            "npx test",
        ] {
            check(line, file, &[]);
        }
        for file in ["", "[]", "{", r#"{ "scripts": { "test": 1 } }"#, r#"{ "scripts": [] }"#] {
            check("npm test", file, &[]);
        }
    }

    #[test]
    fn a_target_runs_its_recipe() {
        let file =
            "A = b\nall: x\n\t@one\\\ntwo\n\n# no\n\t-three $$HOME\n\tfour $(A)\nx:\n\tfive\n";
        check("make", file, &["one two", "-three $HOME"]);
        check("make -j4 x", file, &["five"]);
        check("make y", file, &[]);
        check("make -C sub", file, &[]);
        check("make -n", file, &[]);
        check("make all x", file, &[]);
        for odd in
            ["include y", "ifdef A", "SHELL = y", ".ONESHELL:", "$(eval y)", "%.o: y", "x: ; y"]
        {
            check("make x", &format!("{odd}\n{file}"), &[]);
        }
        // Which of two recipes it is, is make's own business.
        check("make x", &format!("{file}x:\n\tsix\n"), &[]);
    }

    /// What is said of `npm test`, whose script this is.
    fn said(script: &str) -> Option<String> {
        let mut profile = profile();
        let only = |word: &str| When { any_argument: vec![word.to_owned()], ..When::default() };
        let parts = Rule {
            started_by: vec![WORKSPACE_CODE.to_owned()],
            ..allow("parts", "tsc", vec![Argument::AnyWords])
        };
        profile.exec.rules = vec![
            parts,
            Rule { when: only("prod"), ..rule("deploy", "tsc", Decision::Deny) },
            rule("ask", "touch", Decision::Confirm),
            rule("drop", "dropdb", Decision::Never),
        ];
        let request = request("npm test", found("/usr/bin/npm", ProgramLocation::System));
        let file = serde_json::json!({ "scripts": { "test": script } }).to_string();
        let script = named_script(&request.argv)?.find("package.json", &file)?;
        let refused = decide_package_script(&script, &|it| it == "vitest", &request, &profile)?;
        assert_eq!(refused.denial.object, "npm test");
        let begin = "`test` of package.json runs `";
        let reason = refused.denial.reason.strip_prefix(begin)?.to_owned();
        let command = reason.split('`').next()?;
        Some(format!("{}: {command}", refused.denial.rule))
    }

    #[test]
    fn what_a_script_is_certain_to_start_is_refused_before_it_begins() {
        let check = |script: &str, expected: &str| {
            assert_eq!(said(script).as_deref().unwrap_or_default(), expected, "{script}");
        };
        check("tsc -p . && curl x", "default: curl x");
        check("A=b curl x; tsc", "default: curl x");
        check("tsc prod", "deploy: tsc prod");
        check("tsc; touch x", "ask: touch x");
        check("tsc || dropdb shop", "drop: tsc || dropdb shop");
        check("if x; then dropdb shop; fi", "drop: if x; then dropdb shop; fi");
    }

    #[test]
    fn what_may_work_is_left_to_the_gate() {
        for script in [
            "tsc -p . && tsc x",
            "vitest run",
            "./tool",
            "cd sub && tsc",
            "[ -f x ] || tsc",
            "curl x || tsc",
            "tsc || curl x",
            "$(curl x)",
            "for i in a; do curl $i; done",
            "",
        ] {
            assert_eq!(said(script), None, "{script}");
        }
    }
}
