//! Rules by the programs they are about, so that a run with thousands of decisions reads the list once.
//!
//! It only narrows where to look: whoever asks still asks each rule, so a rule too many costs
//! time and nothing else.

use std::collections::BTreeMap;

use super::{Class, Exec, Rule};

/// Where in the list of rules those about each program stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleIndex {
    by_name: BTreeMap<String, Vec<usize>>,
    /// Rules about names that begin with something.
    patterns: Vec<usize>,
    loaders: Vec<String>,
    // INVARIANT: how many rules and programs there were when the index was made. A longer or shorter
    // list has changed since, and then the index is not used.
    rules: usize,
    programs: usize,
}

impl Exec {
    /// Prepares for many decisions. To be called again after the rules have changed.
    pub fn index_rules(&mut self) {
        let loaders = self.loaders().map(str::to_owned).collect();
        let (rules, programs) = (self.rules.len(), self.programs.len());
        let mut index = RuleIndex { loaders, rules, programs, ..RuleIndex::default() };
        for (position, rule) in self.rules.iter().enumerate() {
            for program in &rule.programs {
                if program.ends_with('*') {
                    index.patterns.push(position);
                } else {
                    index.by_name.entry(program.clone()).or_default().push(position);
                }
            }
        }
        self.index = Some(index);
    }

    /// Every rule that could be about one of these names, and maybe others.
    pub fn rules_near<'a>(&'a self, names: &[&str]) -> impl Iterator<Item = &'a Rule> + use<'a> {
        let positions = self.current().map(|index| {
            let named = names.iter().filter_map(|it| index.by_name.get(*it)).flatten();
            let mut positions: Vec<usize> = named.chain(&index.patterns).copied().collect();
            positions.sort_unstable();
            positions.dedup();
            positions
        });
        let all = if positions.is_some() { &[][..] } else { &self.rules };
        let near = positions.unwrap_or_default().into_iter();
        near.filter_map(|it| self.rules.get(it)).chain(all)
    }

    /// The names of dynamic loaders; a final `*` stands for any rest.
    pub fn loaders(&self) -> impl Iterator<Item = &str> {
        let known = self.current().map(|it| &it.loaders);
        let all = if known.is_some() { None } else { Some(&self.programs) };
        let described = all.into_iter().flatten();
        let described = described.filter(|(_, it)| it.class == Class::Loader).map(|it| it.0);
        known.into_iter().flatten().chain(described).map(String::as_str)
    }

    /// What was prepared, if it still fits.
    fn current(&self) -> Option<&RuleIndex> {
        let fits =
            |it: &&RuleIndex| (it.rules, it.programs) == (self.rules.len(), self.programs.len());
        self.index.as_ref().filter(fits)
    }
}
