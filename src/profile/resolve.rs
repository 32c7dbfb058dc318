//! From files to what is in force: `extends` is followed, layers are laid on top and held to
//! tightening.
//!
//! A level's files are applied from the highest authority to the lowest, on top of what the level
//! below came to. Lists collect, values replace, `[remove]` takes away. Every change that a lower
//! layer makes is compared with what it found: a change that opens something needs leave by
//! `[tunable]`, and a lock set by a lower layer is not undone by a file above.

use std::collections::BTreeMap;

use super::commands::{self, PackRule};
use super::describe::{Adding, Key, LEVEL, Merge, Shape, Stricter};
use super::library::{Document, Library};
use super::read::{Node, Value};
use super::rule::{Decision, Rule};
use super::source::{Place, Report, did_you_mean};
use crate::model::{Bytes, Count, Level, Span};

/// A value in force.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) node: Node,
    pub(super) because: Option<String>,
}

/// An entry in force.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) node: Node,
    pub(super) because: Option<String>,
    /// For a confirm rule: a lower layer took the power away, so nobody is asked any more.
    pub(super) denied: bool,
}

/// How far lower layers may go with a key.
#[derive(Debug, Clone)]
struct Leave {
    bound: Node,
    layer: usize,
}

#[derive(Debug, Clone)]
struct PowerRemoved {
    power: String,
    level: Level,
    layer: usize,
}

/// What is in force at one level.
#[derive(Debug, Clone)]
pub(super) struct Force {
    pub(super) level: Level,
    /// By key path: `limits.wall`.
    pub(super) values: BTreeMap<String, Setting>,
    pub(super) lists: BTreeMap<String, Vec<Item>>,
    leaves: BTreeMap<String, Leave>,
    rules_removed: Vec<String>,
    powers_removed: Vec<PowerRemoved>,
    /// Files that had a say, lowest level first.
    pub(super) files: Vec<usize>,
}

/// A rule in force, and where it is written.
#[derive(Debug, Clone)]
pub(super) struct RuleInForce {
    pub(super) rule: Rule,
    pub(super) place: Place,
}

/// Resolves a level. Absent if there is no such level, which is reported.
pub(super) fn resolve(level: Level, library: &Library, report: &mut Report) -> Option<Force> {
    let documents = library.levels.get(&level)?;
    let first = documents.first()?;
    let mut force = match first.node.get("extends") {
        None => Force {
            level,
            values: BTreeMap::new(),
            lists: BTreeMap::new(),
            leaves: BTreeMap::new(),
            rules_removed: Vec::new(),
            powers_removed: Vec::new(),
            files: Vec::new(),
        },
        Some(extends) => below(level, extends, library, report)?,
    };
    force.level = level;
    for document in documents {
        force.files.push(document.file);
        Step { library, report, layer: document.layer, force: &mut force }.apply(document);
    }
    Some(force)
}

fn below(level: Level, extends: &Node, library: &Library, report: &mut Report) -> Option<Force> {
    let name = extends.text()?;
    let Some(lower) = library.level_named(name) else {
        // A profile whose name could not be read has been reported; this may be the one.
        if library.names().count() < library.levels.len() {
            return None;
        }
        let help = did_you_mean(name, library.names());
        report.error_with_help(&extends.place, format!("there is no profile `{name}`"), help);
        return None;
    };
    if lower >= level {
        let message =
            format!("level {level} cannot extend level {lower}: a level adds to a lower one");
        report.error(&extends.place, message);
        return None;
    }
    resolve(lower, library, report)
}

impl Force {
    pub(super) fn items(&self, path: &str) -> &[Item] {
        self.lists.get(path).map_or(&[], Vec::as_slice)
    }

    /// Whether no destination is listed.
    pub(super) fn is_offline(&self) -> bool {
        self.items("network.destination").is_empty()
    }

    /// All rules in force: those of the packs in their order, then those of the level files.
    pub(super) fn rules(&self, library: &Library, report: &mut Report) -> Vec<RuleInForce> {
        let mut rules = Vec::new();
        for item in self.items("exec.packs") {
            let Some(pack) = library.pack(&item.node, &item.name, report) else { continue };
            for node in pack.node.list_of("rule") {
                let Some(rule) = commands::pack_rule(node, report) else { continue };
                if let Some(rule) = self.pack_rule(rule) {
                    rules.push(RuleInForce { rule, place: node.place.clone() });
                }
            }
        }
        for item in self.items("exec.rule") {
            let Some(mut rule) = commands::rule(&item.node, report) else { continue };
            if item.denied {
                rule.decision = Decision::Deny;
            }
            rules.push(RuleInForce { rule, place: item.node.place.clone() });
        }
        rules
    }

    fn pack_rule(&self, pack_rule: PackRule) -> Option<Rule> {
        let PackRule { mut rule, from_level, to_level, listed_from_level, while_offline } =
            pack_rule;
        let number = |level: Level| u64::from(level.number());
        let is_offline = self.is_offline();
        let from_level = if is_offline { from_level } else { listed_from_level };
        let levels = from_level..=to_level;
        if !levels.contains(&number(self.level)) || self.rules_removed.contains(&rule.id) {
            return None;
        }
        if while_offline && !is_offline {
            return None;
        }
        let removed = |it: &&PowerRemoved| {
            commands::power(&it.power) == Some(rule.power)
                && (from_level < number(it.level) || it.layer > 0)
        };
        let removed: Vec<&PowerRemoved> = self.powers_removed.iter().filter(removed).collect();
        match (rule.decision, removed.iter().map(|it| it.layer).max()) {
            (Decision::Allow, Some(_)) | (Decision::Confirm, Some(0)) => return None,
            (Decision::Confirm, Some(_)) => rule.decision = Decision::Deny,
            (Decision::Allow | Decision::Confirm, None) | (Decision::Deny | Decision::Never, _) => {
            }
        }
        Some(rule)
    }
}

/// One file on its way into force.
struct Step<'a> {
    library: &'a Library,
    report: &'a mut Report,
    layer: usize,
    force: &'a mut Force,
}

impl Step<'_> {
    fn apply(&mut self, document: &Document) {
        if let Some(remove) = document.node.get("remove") {
            self.remove(remove, "");
        }
        self.merge(&LEVEL, &document.node, "", None);
        if let Some(tunable) = document.node.get("tunable") {
            self.tunable(&LEVEL, tunable, "");
        }
    }

    fn merge(&mut self, keys: &[Key], node: &Node, prefix: &str, because: Option<&str>) {
        for key in keys {
            let Some(said) = node.get(key.name) else { continue };
            let path = join(prefix, key.name);
            match (&key.merge, &key.shape) {
                (Merge::Section, Shape::Table(keys)) => {
                    let because = said.text_of("because").or(because);
                    self.merge(keys, said, &path, because);
                }
                (Merge::Section | Merge::File, _) => {}
                (Merge::Value(stricter), shape) => {
                    self.value(&path, said, *stricter, shape, because);
                }
                (Merge::List(adding), _) => self.list(&path, said, *adding, because),
            }
        }
    }

    fn value(
        &mut self,
        path: &str,
        said: &Node,
        stricter: Stricter,
        shape: &Shape,
        because: Option<&str>,
    ) {
        // A table is the value with its reason.
        let (node, own) = match said.get("value") {
            Some(value) => (value, said.text_of("because")),
            None => (said, None),
        };
        let widens = self.layer > 0 && self.widens(path, node, stricter, shape);
        if widens {
            return;
        }
        let because = own.or(because).map(str::to_owned);
        self.force.values.insert(path.to_owned(), Setting { node: node.clone(), because });
    }

    /// Whether the value opens more than the layers above allow; reports it if so.
    fn widens(&mut self, path: &str, new: &Node, stricter: Stricter, shape: &Shape) -> bool {
        let old = self.force.values.get(path).map(|it| it.node.clone());
        let looser = match &old {
            None => is_looser(&new.value, &unset(stricter), stricter, shape),
            Some(old) => is_looser(&new.value, &old.value, stricter, shape),
        };
        if !looser {
            return false;
        }
        let leave = self.force.leaves.get(path).cloned();
        if let Some(leave) = &leave {
            match &leave.bound.value {
                Value::Bool(true) => return false,
                Value::Bool(false) => {}
                bound if !is_looser(&new.value, bound, stricter, shape) => return false,
                _ => {}
            }
        }
        let said = match &old {
            Some(old) => {
                format!("{} says {}", self.report.at(&old.place), spell(&old.value, shape))
            }
            None => format!("`{}` does not set it", self.upper()),
        };
        let help = match leave.filter(|it| !matches!(it.bound.value, Value::Bool(_))) {
            Some(leave) => format!(
                "{} allows {} at most",
                self.report.at(&leave.bound.place),
                spell(&leave.bound.value, shape)
            ),
            None => format!(
                "a layer may only tighten what lies above it, unless that marks `{path}` as tunable"
            ),
        };
        let message = format!(
            "`{path}` = {} is wider than the layer above: {said}",
            spell(&new.value, shape)
        );
        self.report.error_with_help(&new.place, message, Some(help));
        true
    }

    /// The name of the layer above this one.
    fn upper(&self) -> &str {
        self.layer
            .checked_sub(1)
            .and_then(|it| self.library.layers.get(it))
            .map_or("rung", String::as_str)
    }

    fn may_widen(&self, path: &str) -> bool {
        self.force.leaves.get(path).is_some_and(|it| it.bound.is_true())
    }

    fn list(&mut self, path: &str, said: &Node, adding: Adding, because: Option<&str>) {
        for item in items_of(said, because) {
            if self.layer > 0 && !self.may_add(path, &item, adding) {
                continue;
            }
            let unique = matches!(path, "exec.rule" | "exec.program");
            let list = self.force.lists.entry(path.to_owned()).or_default();
            match list.iter_mut().find(|it| it.name == item.name && !unique) {
                Some(old) => *old = item,
                None => list.push(item),
            }
        }
    }

    /// Whether a lower layer may add the entry; reports it if not.
    fn may_add(&mut self, path: &str, new: &Item, adding: Adding) -> bool {
        let old = self.force.items(path).iter().find(|it| it.name == new.name).cloned();
        let harmless = match adding {
            Adding::Tightens => true,
            Adding::Widens => old.as_ref().is_some_and(|old| no_wider(old, new)),
            Adding::Depends => self.rule_tightens(new),
        };
        if harmless || self.may_widen(path) {
            return true;
        }
        let locked = self.force.leaves.get(path).filter(|it| it.layer > 0);
        let help = match locked {
            Some(leave) => format!("{} locks `{path}`", self.report.at(&leave.bound.place)),
            None => format!(
                "a layer may only tighten what lies above it, unless that marks `{path}` as tunable"
            ),
        };
        let last = self.force.items(path).last().map(|it| self.report.at(&it.node.place));
        let message = match (old, last) {
            (Some(old), _) => format!(
                "`{}` in `{path}` opens more than {}",
                new.name,
                self.report.at(&old.node.place)
            ),
            (None, Some(last)) => format!(
                "`{}` is not in `{path}` of the layer above, which ends at {last}",
                new.name
            ),
            (None, None) => {
                format!("`{}` is not in `{path}` of the layer above, which is empty", new.name)
            }
        };
        self.report.error_with_help(&new.node.place, message, Some(help));
        false
    }

    /// Deny and never rules tighten; a confirm rule does where there is something to allow.
    fn rule_tightens(&mut self, item: &Item) -> bool {
        match item.node.text_of("decision").and_then(commands::decision) {
            // Without a decision, the reader has reported it.
            Some(Decision::Deny | Decision::Never) | None => true,
            Some(Decision::Allow) => false,
            Some(Decision::Confirm) => {
                let programs = item.node.texts_of("program");
                let rules = self.force.rules(self.library, self.report);
                rules.iter().any(|it| {
                    it.rule.decision == Decision::Allow
                        && it.rule.programs.iter().any(|it| programs.contains(it))
                })
            }
        }
    }

    fn tunable(&mut self, keys: &[Key], node: &Node, prefix: &str) {
        for key in keys {
            let Some(said) = node.get(key.name) else { continue };
            let path = join(prefix, key.name);
            match (&key.merge, &key.shape) {
                (Merge::Section, Shape::Table(keys)) => self.tunable(keys, said, &path),
                (Merge::Value(stricter), shape) => self.leave(&path, said, *stricter, shape),
                (Merge::List(_), shape) => self.leave(&path, said, Stricter::False, shape),
                (Merge::Section | Merge::File, _) => {}
            }
        }
    }

    fn leave(&mut self, path: &str, said: &Node, stricter: Stricter, shape: &Shape) {
        let old = self.force.leaves.get(path);
        if self.layer == 0 {
            // What a lower layer has locked at a level below stays locked here.
            if old.is_some_and(|it| it.layer > 0) {
                return;
            }
        } else {
            let fits = match (&said.value, old.map(|it| &it.bound.value)) {
                (Value::Bool(false), _) | (_, Some(Value::Bool(true))) => true,
                (_, None | Some(Value::Bool(false))) | (Value::Bool(true), Some(_)) => false,
                (new, Some(old)) => !is_looser(new, old, stricter, shape),
            };
            if !fits {
                let above = old
                    .map(|it| format!(" ({})", self.report.at(&it.bound.place)))
                    .unwrap_or_default();
                let message = format!(
                    "`{path}` cannot be made more tunable than the layer above leaves it{above}"
                );
                self.report.error(&said.place, message);
                return;
            }
        }
        let leave = Leave { bound: said.clone(), layer: self.layer };
        self.force.leaves.insert(path.to_owned(), leave);
    }

    fn remove(&mut self, node: &Node, prefix: &str) {
        for (name, said) in node.entries() {
            let path = join(prefix, name);
            match &said.value {
                Value::Table(_) => self.remove(said, &path),
                _ if path == "exec.power" => self.remove_powers(said),
                _ if path == "exec.rule" => said.list().iter().for_each(|it| self.remove_rule(it)),
                _ => said.list().iter().for_each(|it| self.remove_entry(&path, it)),
            }
        }
    }

    fn remove_entry(&mut self, path: &str, said: &Node) {
        let Some(name) = said.text() else { return };
        let plain = name.strip_suffix("/**").or_else(|| name.strip_suffix('/')).unwrap_or(name);
        let found = self.force.items(path).iter().position(|it| it.name == plain);
        let Some(found) = found else {
            let help =
                did_you_mean(plain, self.force.items(path).iter().map(|it| it.name.as_str()));
            self.report.error_with_help(
                &said.place,
                format!("`{path}` has no `{plain}` to remove"),
                help,
            );
            return;
        };
        let tightens = matches!(path, "filesystem.hidden" | "filesystem.protected");
        if self.layer > 0 && tightens && !self.may_widen(path) {
            let upper = self
                .force
                .items(path)
                .get(found)
                .map(|it| self.report.at(&it.node.place))
                .unwrap_or_default();
            self.report.error(
                &said.place,
                format!("`{plain}` is in `{path}` by {upper}, and only that file can take it back"),
            );
            return;
        }
        if let Some(list) = self.force.lists.get_mut(path) {
            list.remove(found);
        }
    }

    fn remove_rule(&mut self, said: &Node) {
        let Some(id) = said.text() else { return };
        let rules = self.force.rules(self.library, self.report);
        let Some(found) = rules.iter().find(|it| it.rule.id == id) else {
            let help = did_you_mean(id, rules.iter().map(|it| it.rule.id.as_str()));
            self.report.error_with_help(
                &said.place,
                format!("there is no rule `{id}` to remove"),
                help,
            );
            return;
        };
        let upper = self.report.at(&found.place);
        match found.rule.decision {
            Decision::Never => {
                self.report.error(
                    &said.place,
                    format!("rule `{id}` says never ({upper}), and nothing can take that back"),
                );
            }
            Decision::Confirm | Decision::Deny if self.layer > 0 => {
                let message =
                    format!("rule `{id}` restricts ({upper}), and only that file can take it back");
                self.report.error(&said.place, message);
            }
            Decision::Allow | Decision::Confirm | Decision::Deny => {
                if let Some(list) = self.force.lists.get_mut("exec.rule") {
                    list.retain(|it| it.name != id);
                }
                self.force.rules_removed.push(id.to_owned());
            }
        }
    }

    /// Inherited allow rules go. Confirm rules go too, or turn into a refusal where a lower layer
    /// says so, because what they guard may be allowed by a rule of another power.
    fn remove_powers(&mut self, said: &Node) {
        for power in said.list().iter().filter_map(Node::text) {
            let layer = self.layer;
            self.force.powers_removed.push(PowerRemoved {
                power: power.to_owned(),
                level: self.force.level,
                layer,
            });
            let Some(list) = self.force.lists.get_mut("exec.rule") else { continue };
            let decides = |it: &Item, decision: &str| {
                it.node.text_of("power") == Some(power)
                    && it.node.text_of("decision") == Some(decision)
            };
            let goes = |it: &Item| decides(it, "allow") || (layer == 0 && decides(it, "confirm"));
            list.retain(|it| !goes(it));
            list.iter_mut().filter(|it| decides(it, "confirm")).for_each(|it| it.denied = true);
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The entries of a list, or of a table of names.
fn items_of(said: &Node, because: Option<&str>) -> Vec<Item> {
    let item = |name: &str, node: &Node| Item {
        name: name.to_owned(),
        node: node.clone(),
        because: node.text_of("because").or(because).map(str::to_owned),
        denied: false,
    };
    match &said.value {
        Value::List(list) => {
            let keys = ["path", "name", "host", "id"];
            let name = |it: &Node| {
                let name = it.text().or_else(|| keys.iter().find_map(|key| it.text_of(key)));
                name.map_or_else(|| it.texts_of("name").join(", "), str::to_owned)
            };
            list.iter().map(|it| item(&name(it), it)).collect()
        }
        Value::Table(table) => table.iter().map(|(name, it)| item(name, it)).collect(),
        Value::Text(_) | Value::Number(_) | Value::Bool(_) => Vec::new(),
    }
}

/// The same entry again, or one with fewer programs.
fn no_wider(old: &Item, new: &Item) -> bool {
    let programs = |it: &Item| it.node.get("programs").is_some_and(Node::is_true);
    let plain = |it: &Item| {
        it.node.text().is_some() || it.node.get("path").is_some() || it.node.get("name").is_some()
    };
    plain(old) && plain(new) && (programs(old) || !programs(new)) && old.node.get("value").is_none()
}

/// What a value counts as while nobody has set it.
fn unset(stricter: Stricter) -> Value {
    match stricter {
        Stricter::Smaller | Stricter::Neither | Stricter::Earlier => Value::Number(u64::MAX),
        Stricter::False | Stricter::True => Value::Bool(false),
    }
}

fn is_looser(new: &Value, old: &Value, stricter: Stricter, shape: &Shape) -> bool {
    let amount = |it: &Value| match it {
        Value::Number(number) => *number,
        _ => u64::MAX, // `unlimited`
    };
    let yes = |it: &Value| *it == Value::Bool(true);
    match stricter {
        Stricter::Smaller => amount(new) > amount(old),
        Stricter::False => yes(new) && !yes(old),
        Stricter::True => !yes(new) && yes(old),
        Stricter::Earlier => rank(new, shape) > rank(old, shape),
        Stricter::Neither => false,
    }
}

/// The place of a word in its choice; the strictest is first.
fn rank(value: &Value, shape: &Shape) -> usize {
    let Value::Text(word) = value else { return usize::MAX };
    words(shape).and_then(|it| it.iter().position(|it| it == word)).unwrap_or(usize::MAX)
}

fn words(shape: &Shape) -> Option<&'static [&'static str]> {
    match shape {
        Shape::Choice(words) => Some(words),
        Shape::Either(shapes) => shapes.iter().find_map(words),
        _ => None,
    }
}

/// A value as its author would write it.
pub(super) fn spell(value: &Value, shape: &Shape) -> String {
    fn unit(shape: &Shape, number: u64) -> Option<String> {
        match shape {
            Shape::Size => Some(Bytes(number).to_string()),
            Shape::Count => Some(Count(number).to_string()),
            Shape::Time => Some(Span(number).to_string()),
            Shape::Either(shapes) => shapes.iter().find_map(|it| unit(it, number)),
            _ => None,
        }
    }
    match value {
        Value::Number(number) => unit(shape, *number).unwrap_or_else(|| number.to_string()),
        Value::Text(text) => format!("`{text}`"),
        Value::Bool(yes) => yes.to_string(),
        Value::List(_) | Value::Table(_) => "a list".to_owned(),
    }
}
