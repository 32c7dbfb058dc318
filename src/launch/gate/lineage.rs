//! Who started what: the programs above a task, as far as they can be told.
//!
//! Only an exec that was verified makes an entry, so nothing in it is a claim of a task. Forks are
//! not followed: a task without an entry runs what its closest parent with one runs. A number with
//! its time of start is one process and never the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Ancestor, Caller};
use crate::sys::standing::Standing;

/// Programs that are remembered above one; what is above these is cut off.
const DEPTH_MAX: usize = 32;
/// How far up parents without an entry are followed.
const PARENTS_MAX: usize = 64;
/// When so many processes are known, those that are gone are forgotten.
const KNOWN_MAX: usize = 4096;

/// What a process runs.
#[derive(Debug)]
struct Node {
    program: Ancestor,
    above: Option<Arc<Node>>,
    depth: usize,
    /// The line above does not lead up to the run's own command.
    cut: bool,
}

#[derive(Debug)]
struct Known {
    started: u64,
    node: Arc<Node>,
}

/// Every process that has been seen to become a program.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    known: BTreeMap<i32, Known>,
    sweep_at: usize,
}

/// Where a task stands when it calls exec.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    node: Option<Arc<Node>>,
    cut: bool,
}

impl Place {
    pub(super) fn caller(&self) -> Caller {
        let above = std::iter::successors(self.node.as_ref(), |it| it.above.as_ref());
        let cut = self.cut || self.node.as_ref().is_some_and(|it| it.cut);
        Caller { lineage: above.map(|it| it.program.clone()).collect(), cut }
    }
}

impl Lineage {
    /// The place of a task among the programs that were started.
    pub(super) fn place(&self, process: i32, mut standing: Standing, init: i32) -> Place {
        let mut at = process;
        for _ in 0..PARENTS_MAX {
            if let Some(known) = self.known.get(&at)
                && known.started == standing.started
            {
                return Place { node: Some(Arc::clone(&known.node)), cut: false };
            }
            at = standing.parent;
            if at == init {
                break;
            }
            match Standing::of(at) {
                Ok(found) => standing = found,
                Err(_) => break,
            }
        }
        // Before anything has been started, init's child is the command itself.
        Place { node: None, cut: !self.known.is_empty() }
    }

    /// The process has become this program.
    pub(super) fn started(&mut self, process: i32, started: u64, program: Ancestor, from: &Place) {
        let depth = from.node.as_ref().map_or(0, |it| it.depth + 1);
        let too_deep = depth > DEPTH_MAX;
        let node = Node {
            program,
            above: from.node.clone().filter(|_| !too_deep),
            depth: if too_deep { 0 } else { depth },
            cut: from.cut || too_deep || from.node.as_ref().is_some_and(|it| it.cut),
        };
        self.known.insert(process, Known { started, node: Arc::new(node) });
        if self.known.len() > self.sweep_at.max(KNOWN_MAX) {
            let is_there =
                |pid: i32, started| Standing::of(pid).is_ok_and(|it| it.started == started);
            self.known.retain(|pid, it| is_there(*pid, it.started));
            self.sweep_at = self.known.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::ProgramLocation;

    fn program(name: &str) -> Ancestor {
        let path = PathBuf::from("/usr/bin").join(name);
        let canonical = path.clone();
        Ancestor {
            path,
            canonical,
            location: ProgramLocation::System,
            script: None,
            words: Vec::new(),
        }
    }

    fn names(place: &Place) -> Vec<String> {
        let caller = place.caller();
        caller.lineage.iter().map(|it| it.path.file_name().unwrap().display().to_string()).collect()
    }

    const INIT: i32 = 2;

    #[test]
    fn a_process_is_below_what_it_was_and_a_number_used_again_is_not() {
        let mut lineage = Lineage::default();
        let standing = |started| Standing { has_ended: false, parent: INIT, threads: 1, started };
        let first = lineage.place(10, standing(5), INIT);
        assert_eq!((names(&first), first.caller().cut), (vec![], false));
        lineage.started(10, 5, program("sh"), &first);
        let second = lineage.place(10, standing(5), INIT);
        lineage.started(10, 5, program("env"), &second);
        let third = lineage.place(10, standing(5), INIT);
        assert_eq!(
            (names(&third), third.caller().cut),
            (vec!["env".to_owned(), "sh".to_owned()], false)
        );
        // Its parent has ended, so init is its parent now.
        let again = lineage.place(10, standing(6), INIT);
        assert_eq!((names(&again), again.caller().cut), (vec![], true));
    }

    #[test]
    fn a_child_that_has_started_nothing_runs_what_its_parent_runs() {
        let own = i32::try_from(std::process::id()).unwrap();
        let here = Standing::of(own).unwrap();
        let mut lineage = Lineage::default();
        lineage.started(own, here.started, program("make"), &Place::default());
        let child =
            Standing { has_ended: false, parent: own, threads: 1, started: here.started + 1 };
        assert_eq!(names(&lineage.place(-7, child, INIT)), ["make"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        let mut lineage = Lineage::default();
        let standing = Standing { has_ended: false, parent: INIT, threads: 1, started: 5 };
        for _ in 0..3 * DEPTH_MAX {
            let place = lineage.place(10, standing, INIT);
            lineage.started(10, 5, program("env"), &place);
            assert!(lineage.place(10, standing, INIT).caller().lineage.len() <= DEPTH_MAX + 1);
        }
        assert!(lineage.place(10, standing, INIT).caller().cut);
    }
}
