//! Rules by the programs they are about, so that a run with thousands of decisions reads the list once.
//!
//! It only narrows where to look: whoever asks still asks each rule, so a rule too many costs
//! time and nothing else.

use std::collections::BTreeMap;

use super::{Exec, Rule};

/// Where in the list of rules those about each program stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleIndex {
    by_name: BTreeMap<String, Vec<usize>>,
    /// Rules about names that begin with something.
    patterns: Vec<usize>,
    // INVARIANT: how many rules there were when the index was made. A longer or shorter list has
    // changed since, and then the index is not used.
    rules: usize,
}

impl Exec {
    /// Prepares for many decisions. To be called again after the rules have changed.
    pub fn index_rules(&mut self) {
        let mut index = RuleIndex { rules: self.rules.len(), ..RuleIndex::default() };
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
        let index = self.index.as_ref().filter(|it| it.rules == self.rules.len());
        let positions = index.map(|index| {
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
}
