//! What came from another machine is not started, at no level.
//!
//! A program that speaks to other machines leaves bytes in files that its words name, or on its
//! standard output. What is started out of these, or given to a shell or an interpreter by name or
//! as its input, is refused: `curl | sh`, and the same in two steps. A program that is given such
//! bytes passes them on to its own output.
//!
//! It keeps honest agents from running what nobody has read. It is no boundary: a copy that is made
//! by a program which is not looked at here is a file like any other, and so is what a package
//! manager installs. What fetched code can do is limited by the sandbox.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::model::{Arg, ExecFact, Image, Look, Object, ProgramFact, Spot, lexical};
use crate::policy::decide::final_name;
use crate::profile::{Class, Decision, Power, Profile};

/// Words of one command that are looked at.
const WORDS_MAX: usize = 64;
/// As many of the last programs are remembered by what they read and wrote: those of one pipeline
/// start within moments of each other, in whatever order.
const LAST_MAX: usize = 256;

/// A file or a pipe: its device, its inode, its birth.
type Key = (u64, u64, i64);

/// What has been fetched, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    files: BTreeMap<PathBuf, File>,
    objects: BTreeSet<Key>,
    /// The last programs that have nothing fetched so far.
    last: VecDeque<Between>,
}

/// What a program reads and what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Between {
    input: Key,
    output: Option<Key>,
    interprets: bool,
}

/// What lies at a path that a fetching program was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// Fetched if it is another object than this one, or has been written since.
    Awaited { before: Option<Object> },
    /// Fetched as long as it is this inode, made at this time.
    There { inode: u64, born: i64 },
    /// Fetched, whichever object it is.
    Any,
}

/// How a program that is about to be started deals with bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dealing {
    /// It gets them from other machines.
    pub fetches: bool,
    /// It runs what it reads.
    interprets: bool,
}

impl Dealing {
    /// By the classes that the profile gives to the program's names.
    pub fn of(program: &ProgramFact, profile: &Profile) -> Self {
        let ProgramFact::Found { path, canonical, .. } = program else { return Self::default() };
        let named = |it: &PathBuf| Some(profile.exec.programs.get(final_name(it)?)?.class);
        let classes = [named(path), named(canonical)];
        Self {
            fetches: classes.contains(&Some(Class::Remote)),
            interprets: classes.contains(&Some(Class::Shell))
                || classes.contains(&Some(Class::Interpreter)),
        }
    }
}

/// Whether the profile lets any program start that gets bytes from other machines.
pub fn may_fetch(profile: &Profile) -> bool {
    let is_remote =
        |name: &String| profile.exec.programs.get(name).is_some_and(|it| it.class == Class::Remote);
    let allows = profile.exec.rules.iter().filter(|it| it.decision == Decision::Allow);
    // A database of this machine is spoken to as well, and is none of the network's.
    allows.filter(|it| it.power == Power::Net).flat_map(|it| &it.programs).any(is_remote)
}

impl Fetched {
    /// Adds a file of an earlier run.
    pub fn remember(&mut self, path: PathBuf, file: File) {
        self.files.insert(path, file);
    }

    pub fn files(&self) -> impl Iterator<Item = (&Path, File)> {
        self.files.iter().map(|(path, file)| (path.as_path(), *file))
    }

    /// Takes note of an exec that is otherwise allowed. What is returned is something fetched that
    /// would run by it. `look` says what lies somewhere as the task sees it.
    pub fn weigh(&mut self, fact: &ExecFact, dealing: Dealing, look: &Look<'_>) -> Option<String> {
        self.settle(look);
        if let Some(path) = self.started(fact, look) {
            return Some(path.display().to_string());
        }
        let named = self.named(fact, look);
        let (input, output) =
            (look(Spot::Input).map(|it| key(&it)), look(Spot::Output).map(|it| key(&it)));
        let is_fed = input.is_some_and(|it| self.objects.contains(&it));
        if dealing.interprets {
            if let Some(path) = &named {
                return Some(path.display().to_string());
            }
            if is_fed {
                return Some("the standard input".to_owned());
            }
        }
        if dealing.fetches || is_fed || named.is_some() {
            if output.is_some_and(|it| self.is_read_by_an_interpreter(it)) {
                return Some("what it prints to a shell or an interpreter".to_owned());
            }
            self.objects.extend(output);
            self.follow();
        } else if let Some(input) = input {
            self.last.truncate(LAST_MAX - 1);
            self.last.push_front(Between { input, output, interprets: dealing.interprets });
        }
        if dealing.fetches {
            for path in targets(fact) {
                let before = look(Spot::Path(&path));
                self.files.insert(path, File::Awaited { before });
            }
        }
        None
    }

    /// Whether nothing has been fetched, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.objects.is_empty()
    }

    /// Something fetched that a word names.
    fn named(&self, fact: &ExecFact, look: &Look<'_>) -> Option<PathBuf> {
        if self.objects.is_empty() {
            return None;
        }
        let words = fact.argv.iter().skip(1).take(WORDS_MAX);
        let mut paths = words.map(|it| lexical(&fact.cwd.join(it.as_os_str())));
        paths.find(|it| look(Spot::Path(it)).is_some_and(|it| self.objects.contains(&key(&it))))
    }

    /// Whether a shell or an interpreter that has been started already gets what is written there.
    fn is_read_by_an_interpreter(&self, written: Key) -> bool {
        let mut reached = BTreeSet::from([written]);
        loop {
            let readers: Vec<&Between> =
                self.last.iter().filter(|it| reached.contains(&it.input)).collect();
            if readers.iter().any(|it| it.interprets) {
                return true;
            }
            let before = reached.len();
            reached.extend(readers.iter().filter_map(|it| it.output));
            if reached.len() == before {
                return false;
            }
        }
    }

    /// What was started before the program that feeds it passes on what it is fed.
    fn follow(&mut self) {
        loop {
            let before = self.objects.len();
            let fed = self.last.iter().filter(|it| self.objects.contains(&it.input));
            let outputs: Vec<Key> = fed.filter_map(|it| it.output).collect();
            self.objects.extend(outputs);
            if self.objects.len() == before {
                return;
            }
        }
    }

    /// Turns what was awaited at a path into the object that has come to lie there.
    fn settle(&mut self, look: &Look<'_>) {
        for (path, file) in &mut self.files {
            let Some(found) = look(Spot::Path(path)) else { continue };
            if file.is(&found) {
                self.objects.insert(key(&found));
                if *file != File::Any {
                    *file = File::There { inode: found.inode, born: found.born };
                }
            }
        }
    }

    /// The fetched file that is started itself.
    fn started<'f>(&self, fact: &'f ExecFact, look: &Look<'_>) -> Option<&'f Path> {
        let image = match &fact.image {
            Image::File(program) => Some(program),
            Image::Nameless { .. } | Image::Unreadable { .. } => None,
        };
        [fact.script.as_ref(), image].into_iter().flatten().find_map(|it| match it {
            ProgramFact::Found { path, .. } => {
                let found = look(Spot::Path(path)).filter(|it| self.objects.contains(&key(it)));
                found.map(|_| path.as_path())
            }
            ProgramFact::Missing { .. } => None,
        })
    }
}

fn key(it: &Object) -> Key {
    (it.device, it.inode, it.born)
}

impl File {
    /// Whether what lies there now is what was fetched.
    pub fn is(&self, found: &Object) -> bool {
        match self {
            Self::Awaited { before } => before.as_ref() != Some(found),
            Self::There { inode, born } => (found.inode, found.born) == (*inode, *born),
            Self::Any => true,
        }
    }
}

/// Every file that a fetching program may write by what its words say: a word, the value in it, or
/// the last name of an address, in the working directory or in one that another word names.
fn targets(fact: &ExecFact) -> BTreeSet<PathBuf> {
    let words: Vec<&[u8]> = fact.argv.iter().skip(1).take(WORDS_MAX).map(Arg::as_bytes).collect();
    let values = words.iter().flat_map(|word| {
        let value = word.iter().position(|it| *it == b'=').and_then(|it| word.get(it + 1..));
        let joined = word.strip_prefix(b"-").and_then(|it| it.get(1..));
        [Some(*word), value, joined]
    });
    let values: BTreeSet<PathBuf> = values.flatten().filter_map(as_path).collect();
    let names: Vec<PathBuf> =
        words.iter().copied().filter_map(last_name).filter_map(as_path).collect();
    let directories = std::iter::once(fact.cwd.clone()).chain(values.iter().cloned());
    let below = directories.flat_map(|it| names.iter().map(move |name| it.join(name)));
    below.chain(values.iter().cloned()).map(|it| lexical(&fact.cwd.join(it))).collect()
}

/// What of an address names a file.
fn last_name(address: &[u8]) -> Option<&[u8]> {
    let end = address.iter().position(|it| matches!(it, b'?' | b'#')).unwrap_or(address.len());
    address.get(..end)?.rsplit(|it| *it == b'/').next()
}

fn as_path(bytes: &[u8]) -> Option<PathBuf> {
    let text = Arg::new(bytes).ok()?;
    (!bytes.is_empty()).then(|| PathBuf::from(text.as_os_str()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::{Caller, Level, ProgramLocation};
    use crate::policy::fixture::{argv, found};

    const CURL: Dealing = Dealing { fetches: true, interprets: false };
    const SHELL: Dealing = Dealing { fetches: false, interprets: true };
    const PLAIN: Dealing = Dealing { fetches: false, interprets: false };

    /// A small world: what lies where.
    #[derive(Default)]
    struct World {
        files: RefCell<BTreeMap<PathBuf, Object>>,
        input: Option<Object>,
        output: Option<Object>,
    }

    fn object(inode: u64, written: i64) -> Object {
        Object { device: 1, inode, born: 3, written }
    }

    impl World {
        fn put(&self, path: &str, it: Object) {
            self.files.borrow_mut().insert(PathBuf::from(path), it);
        }

        fn weigh(&self, fetched: &mut Fetched, line: &str, dealing: Dealing) -> Option<String> {
            let argv = argv(line);
            let image = match argv[0].as_str() {
                Some("./tool") => found("/ws/tool", ProgramLocation::Workspace),
                _ => found("/usr/bin/x", ProgramLocation::System),
            };
            let fact = ExecFact {
                spelled: argv[0].clone(),
                argv,
                image: Image::File(image),
                script: None,
                cwd: PathBuf::from("/ws"),
                environment: Vec::new(),
                caller: Caller::default(),
            };
            fetched.weigh(&fact, dealing, &|spot| match spot {
                Spot::Input => self.input,
                Spot::Output => self.output,
                Spot::Path(path) => self.files.borrow().get(path).copied(),
            })
        }
    }

    #[test]
    fn what_a_word_of_the_fetching_program_names_is_not_given_to_a_shell() {
        for (line, path) in [
            ("curl -o x.sh https://h/y", "/ws/x.sh"),
            ("curl -ox.sh https://h/y", "/ws/x.sh"),
            ("curl --output=d/../x.sh https://h/y", "/ws/x.sh"),
            ("curl -O https://h/a/x.sh?v=1#top", "/ws/x.sh"),
            ("curl --output-dir d -O https://h/x.sh", "/ws/d/x.sh"),
            ("wget -P/tmp/d https://h/x.sh", "/tmp/d/x.sh"),
            ("wget -O /tmp/x.sh h/x", "/tmp/x.sh"),
            ("wget h/x.sh", "/ws/x.sh"),
        ] {
            let (world, mut fetched) = (World::default(), Fetched::default());
            let run = format!("sh {path}");
            assert_eq!(world.weigh(&mut fetched, line, CURL), None);
            world.put("/ws/own.sh", object(8, 1));
            assert_eq!(world.weigh(&mut fetched, &run, SHELL), None, "{line}: nothing came");
            world.put(path, object(7, 1));
            assert_eq!(world.weigh(&mut fetched, &run, SHELL), Some(path.to_owned()), "{line}");
            assert_eq!(world.weigh(&mut fetched, "sh own.sh", SHELL), None);
            assert_eq!(world.weigh(&mut fetched, &format!("cat {path}"), PLAIN), None);
        }
    }

    #[test]
    fn a_file_that_was_only_sent_is_none() {
        let (world, mut fetched) = (World::default(), Fetched::default());
        world.put("/ws/build.sh", object(7, 1));
        assert_eq!(world.weigh(&mut fetched, "scp build.sh host:", CURL), None);
        assert_eq!(world.weigh(&mut fetched, "sh build.sh", SHELL), None);
        // Written since: it may have been fetched over what was there.
        world.put("/ws/build.sh", object(7, 2));
        assert!(world.weigh(&mut fetched, "sh build.sh", SHELL).is_some());
    }

    #[test]
    fn another_name_of_the_same_file_is_no_way_out_and_another_file_of_that_name_is_free() {
        let (world, mut fetched) = (World::default(), Fetched::default());
        world.weigh(&mut fetched, "curl -o x.sh https://h/y", CURL);
        world.put("/ws/x.sh", object(7, 1));
        assert_eq!(world.weigh(&mut fetched, "mv x.sh y.sh", PLAIN), None);
        world.files.borrow_mut().clear();
        world.put("/ws/y.sh", object(7, 1));
        assert!(world.weigh(&mut fetched, "sh y.sh", SHELL).is_some());
        world.put("/ws/x.sh", object(9, 1));
        assert_eq!(world.weigh(&mut fetched, "sh x.sh", SHELL), None);
    }

    #[test]
    fn no_pipeline_from_a_fetching_program_to_a_shell_starts_whole_in_whatever_order() {
        let (one, two) = (Some(object(20, 0)), Some(object(21, 0)));
        let curl = World { output: one, ..World::default() };
        let cat = World { input: one, output: two, ..World::default() };
        let shell = World { input: two, ..World::default() };
        let start = |fetched: &mut Fetched, index: usize| match index {
            0 => curl.weigh(fetched, "curl https://h/y", CURL),
            1 => cat.weigh(fetched, "cat", PLAIN),
            _ => shell.weigh(fetched, "sh", SHELL),
        };
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut fetched = Fetched::default();
            let refused: Vec<bool> =
                order.iter().map(|it| start(&mut fetched, *it).is_some()).collect();
            // Only the last one closes the way from the first to the shell.
            assert_eq!(refused, [false, false, true], "{order:?}");
        }
        let mut fetched = Fetched::default();
        assert_eq!(start(&mut fetched, 0), None);
        assert_eq!(start(&mut fetched, 1), None);
        // A pager is given it without further ado.
        assert_eq!(shell.weigh(&mut fetched, "less", PLAIN), None);
        // And a shell what nobody fetched.
        let mut fetched = Fetched::default();
        assert_eq!(start(&mut fetched, 1), None);
        assert_eq!(start(&mut fetched, 2), None);
    }

    #[test]
    fn a_fetched_program_is_not_started() {
        let (world, mut fetched) = (World::default(), Fetched::default());
        world.weigh(&mut fetched, "curl -o tool https://h/tool", CURL);
        world.put("/ws/tool", object(7, 1));
        assert!(world.weigh(&mut fetched, "./tool", PLAIN).is_some());
    }

    #[test]
    fn the_levels_that_run_without_a_person_let_nothing_fetch() {
        for level in Level::ALL {
            let profile = crate::profile::built_in(level).unwrap();
            assert_eq!(may_fetch(&profile), level > Level::TestExecution, "{level}");
        }
    }

    #[test]
    fn what_an_earlier_run_fetched_is_remembered() {
        let world = World::default();
        world.put("/ws/x.sh", object(7, 1));
        for (file, refused) in [
            (File::There { inode: 7, born: 3 }, true),
            (File::There { inode: 8, born: 3 }, false),
            (File::There { inode: 7, born: 4 }, false),
            (File::Any, true),
        ] {
            let mut fetched = Fetched::default();
            fetched.remember(PathBuf::from("/ws/x.sh"), file);
            let answer = world.weigh(&mut fetched, "sh x.sh", SHELL);
            assert_eq!(answer.is_some(), refused, "{file:?}");
        }
    }
}
