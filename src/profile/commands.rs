//! Turns what a file says about programs and rules into [`Program`]s and [`Rule`]s.
//!
//! The reader has checked shapes already. What is checked here is what needs two keys at once:
//! an allow rule has a grammar and examples on both sides, the others have a condition.

use std::collections::BTreeMap;

use super::read::{Node, Value};
use super::rule::{
    Argument, Class, Decision, Example, OptionSpec, Power, Program, Rule, Style, ValueType, When,
};
use super::source::{Place, Report};
use super::words;
use crate::model::{Arg, Level};

/// A rule of a pack, and the levels that have it.
pub(super) struct PackRule {
    pub(super) rule: Rule,
    pub(super) from_level: u64,
    pub(super) to_level: u64,
    /// The first level that has it where a destination is listed.
    pub(super) listed_from_level: u64,
    /// Where a destination is listed, the rule is not in force.
    pub(super) while_offline: bool,
}

/// The programs that one `[[program]]` describes: one per name, with one grammar.
pub(super) fn programs(
    node: &Node,
    because: &str,
    is_offline: bool,
    report: &Report,
) -> Vec<Program> {
    let (Some(class), Some(style)) =
        (node.text_of("class").and_then(class), node.text_of("style").and_then(style))
    else {
        return Vec::new();
    };
    let global = node.list_of("global").iter().flat_map(options).collect::<Vec<_>>();
    let mut force_environment = strings(node.get("force_environment"));
    if is_offline {
        force_environment.extend(strings(node.get("offline_environment")));
    }
    let sets_environment = node.texts_of("sets_environment");
    let multicall = node.get("multicall").is_some_and(Node::is_true);
    let starts_itself = node.get("starts_itself").is_some_and(Node::is_true);
    let origin = report.origin(&node.place, node.text_of("because").unwrap_or(because));
    let one = |name| Program {
        name,
        class,
        style,
        global: global.clone(),
        force_environment: force_environment.clone(),
        sets_environment: sets_environment.clone(),
        multicall,
        starts_itself,
        origin: origin.clone(),
    };
    node.texts_of("name").into_iter().map(one).collect()
}

/// A table of strings.
pub(super) fn strings(node: Option<&Node>) -> BTreeMap<String, String> {
    let entries = node.into_iter().flat_map(Node::entries);
    entries.filter_map(|(name, it)| Some((name.to_owned(), it.text()?.to_owned()))).collect()
}

pub(super) fn pack_rule(node: &Node, report: &mut Report) -> Option<PackRule> {
    let rule = rule(node, report)?;
    let from_level = node.get("from_level").and_then(Node::number);
    let listed = node.get("listed_from_level").and_then(Node::number);
    let opens = rule.decision <= Decision::Confirm;
    if from_level.is_none() && listed.is_none() && opens {
        let message = format!("rule `{}` does not say from which level it holds", rule.id);
        let help = "add `from_level = 1` to 6; only deny and never rules hold at every level";
        report.error_with_help(&node.place, message, Some(help.to_owned()));
    }
    let lowest = u64::from(Level::ReadOnlyResearch.number());
    let highest = u64::from(Level::ProductionWrites.number());
    let to_level = node.get("to_level").and_then(Node::number).unwrap_or(highest);
    // What opens something and has no level but the listed one is in force only there.
    let from_level = from_level.unwrap_or(if opens { highest + 1 } else { lowest });
    let listed_from_level = listed.unwrap_or(from_level);
    let while_offline = node.get("while_offline").is_some_and(Node::is_true);
    Some(PackRule { rule, from_level, to_level, listed_from_level, while_offline })
}

/// Reads one rule. Absent if the reader has already reported a part it needs.
pub(super) fn rule(node: &Node, report: &mut Report) -> Option<Rule> {
    let id = node.text_of("id")?.to_owned();
    let because = node.text_of("because")?.to_owned();
    let rule = Rule {
        programs: node.texts_of("program"),
        started_by: node.texts_of("started_by"),
        decision: decision(node.text_of("decision")?)?,
        power: power(node.text_of("power")?)?,
        arguments: node.list_of("arguments").iter().filter_map(argument).collect(),
        when: when(node.get("when")),
        reversible: node.get("reversible").is_none_or(Node::is_true),
        touches: node.texts_of("touches"),
        instead: node.text_of("instead").map(str::to_owned),
        matches: examples(node.list_of("match"), report),
        not_matches: examples(node.list_of("not_match"), report),
        origin: report.origin(&node.place, &because),
        because,
        id,
    };
    check(&rule, node, report);
    Some(rule)
}

fn check(rule: &Rule, node: &Node, report: &mut Report) {
    let place = &node.place;
    let id = &rule.id;
    let allow = rule.decision == Decision::Allow;
    if rule.programs.is_empty() {
        report.error(place, format!("rule `{id}` is about no program"));
    }
    if let Some(when) = node.get("when").filter(|_| allow) {
        let message =
            format!("rule `{id}` allows, so it has `arguments`, the whole grammar, and no `when`");
        report.error(&when.place, message);
    }
    if let Some(arguments) = node.get("arguments").filter(|_| !allow) {
        let message = format!("rule `{id}` does not allow, so it has `when` and no `arguments`");
        report.error(&arguments.place, message);
    }
    if allow && let Some(pattern) = rule.programs.iter().find(|it| it.ends_with('*')) {
        let message =
            format!("rule `{id}` allows, so it names its programs: `{pattern}` stands for many");
        report.error(place, message);
    }
    if let Some(callers) = node.get("started_by").filter(|_| rule.started_by.is_empty()) {
        let message = format!("rule `{id}` is about what nobody starts: `started_by` is empty");
        report.error(&callers.place, message);
    }
    if rule.arguments.contains(&Argument::AnyWords) {
        if rule.started_by.is_empty() {
            let message = format!("rule `{id}` allows any words, so it names who may choose them");
            let help = "add `started_by`, or list the options that the program may get";
            report.error_with_help(place, message, Some(help.to_owned()));
        }
        if rule.arguments.len() > 1 {
            let message = format!("rule `{id}` allows any words, so nothing stands beside them");
            report.error(place, message);
        }
    }
    for argument in node.list_of("arguments") {
        if argument.get("any").is_some_and(|it| !it.is_true()) {
            report
                .error(&argument.place, format!("rule `{id}`: `any` after a word is always true"));
        }
        for key in ["one_of", "flags"] {
            if argument.get(key).is_some_and(|it| it.list().is_empty()) {
                report.error(
                    &argument.place,
                    format!("rule `{id}`: `{key}` lists nothing, so nothing can match"),
                );
            }
        }
    }
    // Where any words are allowed, none can come close and be refused.
    let narrow = allow && !rule.arguments.contains(&Argument::AnyWords);
    let missing = match (rule.matches.is_empty(), rule.not_matches.is_empty()) {
        (true, _) if node.list_of("match").is_empty() => Some("match"),
        (_, true) if narrow && node.list_of("not_match").is_empty() => Some("not_match"),
        (_, _) => None,
    };
    if let Some(key) = missing {
        let help = match key {
            "match" => "list command lines that the rule is about",
            _ => "list command lines that come close and must not be allowed",
        };
        let message = format!("rule `{id}` has no examples in `{key}`");
        report.error_with_help(place, message, Some(help.to_owned()));
    }
}

fn examples(nodes: &[Node], report: &mut Report) -> Vec<Example> {
    nodes.iter().filter_map(|it| example(it, report)).collect()
}

fn example(node: &Node, report: &mut Report) -> Option<Example> {
    let words = match &node.value {
        Value::Text(line) => match words::split(line) {
            Ok(words) => words,
            Err(error) => {
                report.error(&node.place, error.to_string());
                return None;
            }
        },
        Value::List(words) => words.iter().filter_map(|it| it.text().map(str::to_owned)).collect(),
        Value::Number(_) | Value::Bool(_) | Value::Table(_) => return None,
    };
    if words.is_empty() {
        report.error(&node.place, "the example is empty");
        return None;
    }
    // The reader refuses NUL in every string, so no word is lost here.
    let argv: Vec<Arg> = words.iter().filter_map(|it| Arg::try_from(it.as_str()).ok()).collect();
    Some(Example { argv, line: report.line(&node.place) })
}

fn when(node: Option<&Node>) -> When {
    let Some(node) = node else { return When::default() };
    When {
        subcommand: node.texts_of("subcommand"),
        any_option: node.texts_of("any_option"),
        any_argument: node.texts_of("any_argument"),
    }
}

fn argument(node: &Node) -> Option<Argument> {
    if let Some(word) = node.text() {
        return Some(Argument::Word(word.to_owned()));
    }
    if node.get("one_of").is_some() {
        return Some(Argument::OneOf(node.texts_of("one_of")));
    }
    if let Some(value) = node.get("operands") {
        let bound = |key, otherwise| {
            let number = node.get(key).and_then(Node::number);
            number.and_then(|it| u32::try_from(it).ok()).unwrap_or(otherwise)
        };
        let value = value_type(value)?;
        return Some(Argument::Operands {
            value,
            min: bound("min", 0),
            max: bound("max", u32::MAX),
        });
    }
    if let Some(word) = node.text_of("after") {
        return Some(Argument::AfterAny(word.to_owned()));
    }
    if node.get("rest").is_some() {
        return Some(Argument::Rest);
    }
    if node.get("words").is_some() {
        return Some(Argument::AnyWords);
    }
    Some(Argument::Options(options(node)))
}

fn options(node: &Node) -> Vec<OptionSpec> {
    let spec = |names, value| OptionSpec { names, value, optional_value: false };
    if node.get("flags").is_some() {
        return node.texts_of("flags").into_iter().map(|name| spec(vec![name], None)).collect();
    }
    if let Some(options) = node.get("options") {
        let pairs = options.entries().filter_map(|(name, it)| Some((name, value_type(it)?)));
        return pairs.map(|(name, value)| spec(vec![name.to_owned()], Some(value))).collect();
    }
    let Some(value) = node.get("value").and_then(value_type) else { return Vec::new() };
    let optional_value = node.get("optional_value").is_some_and(Node::is_true);
    vec![OptionSpec { names: node.texts_of("option"), value: Some(value), optional_value }]
}

fn value_type(node: &Node) -> Option<ValueType> {
    if node.get("enum").is_some() {
        return Some(ValueType::Enum(node.texts_of("enum")));
    }
    if node.get("key_value").is_some() {
        return Some(ValueType::KeyValue(node.texts_of("key_value")));
    }
    Some(match node.text()? {
        "uint" => ValueType::Uint,
        "int" => ValueType::Int,
        "duration" => ValueType::Duration,
        "text" => ValueType::Text,
        "glob" => ValueType::Glob,
        "regex" => ValueType::Regex,
        "path-read" => ValueType::PathRead,
        "path-write" => ValueType::PathWrite,
        "host" => ValueType::Host,
        "url" => ValueType::Url,
        "revision" => ValueType::Revision,
        "path-workspace" => ValueType::PathWorkspace,
        "name" => ValueType::Name,
        "sed-script" => ValueType::SedScript,
        "awk-program" => ValueType::AwkProgram,
        "argv" => ValueType::Argv,
        "argv-open" => ValueType::ArgvOpen,
        _ => return None,
    })
}

fn class(word: &str) -> Option<Class> {
    Some(match word {
        "plain" => Class::Plain,
        "wrapper" => Class::Wrapper,
        "interpreter" => Class::Interpreter,
        "shell" => Class::Shell,
        "loader" => Class::Loader,
        "build" => Class::Build,
        "editor" => Class::Editor,
        "pager" => Class::Pager,
        "remote" => Class::Remote,
        _ => return None,
    })
}

fn style(word: &str) -> Option<Style> {
    Some(match word {
        "gnu" => Style::Gnu,
        "posix" => Style::Posix,
        "git" => Style::Git,
        "clap" => Style::Clap,
        "single-dash-long" => Style::SingleDashLong,
        "dd" => Style::Dd,
        "bsd" => Style::Bsd,
        _ => return None,
    })
}

pub(super) fn decision(word: &str) -> Option<Decision> {
    Some(match word {
        "allow" => Decision::Allow,
        "confirm" => Decision::Confirm,
        "deny" => Decision::Deny,
        "never" => Decision::Never,
        _ => return None,
    })
}

pub(super) fn power(word: &str) -> Option<Power> {
    Some(match word {
        "read" => Power::Read,
        "write" => Power::Write,
        "exec" => Power::Exec,
        "net" => Power::Net,
        "pr" => Power::Pr,
        "merge" => Power::Merge,
        "migrate" => Power::Migrate,
        "deploy" => Power::Deploy,
        "rollback" => Power::Rollback,
        "secret" => Power::Secret,
        "admin" => Power::Admin,
        _ => return None,
    })
}

/// Checks every program and rule of a file, whether or not a level uses it.
pub(super) fn check_all(programs: &[Node], rules: &[Node], in_pack: bool, report: &mut Report) {
    let mut ids: BTreeMap<&str, &Place> = BTreeMap::new();
    for node in rules {
        if in_pack {
            pack_rule(node, report);
        } else {
            rule(node, report);
        }
        let Some(id) = node.get("id") else { continue };
        let Some(name) = id.text() else { continue };
        match ids.get(name) {
            Some(first) => {
                let message = format!("rule `{name}` is already at {}", report.at(first));
                report.error(&id.place, message);
            }
            None => drop(ids.insert(name, &id.place)),
        }
    }
    for node in programs.iter().filter(|it| it.get("name").is_some()) {
        if node.texts_of("name").is_empty() {
            report.error(&node.place, "a program without a name describes nothing");
        }
    }
}
