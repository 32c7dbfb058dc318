//! What a task of the sandbox starts: the facts of one exec, before anything has been decided.
//!
//! The same shape serves twice: for what a task asks for when it calls exec, and for what really
//! has been loaded when the kernel stops it behind the call. Only the second is a fact that
//! nobody can change any more.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Arg, ProgramFact, ProgramLocation};

/// One exec, complete: deciding about it needs the run's own request and profile, and nothing
/// else of the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFact {
    /// The path as the task gave it to the kernel. For a script it is the script's.
    pub spelled: Arg,
    /// The words of the image that runs: for a script, those of its interpreter. The kernel
    /// lets a caller leave them out, so the list may be empty.
    pub argv: Vec<Arg>,
    pub image: Image,
    /// The script whose first line names the image as its interpreter.
    pub script: Option<ProgramFact>,
    pub cwd: PathBuf,
    /// Every entry as it stands, in order: `NAME=value`, or whatever the caller made up.
    pub environment: Vec<Arg>,
    pub caller: Caller,
}

/// Something that can be looked at while a task waits at the gate, as the task sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot<'a> {
    /// Its standard input.
    Input,
    /// Its standard output.
    Output,
    Path(&'a Path),
}

/// A file or a pipe, by the numbers that the kernel has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    pub device: u64,
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970: with it the number of an inode cannot be taken
    /// for the next one that gets it. 0 where the file system does not say.
    pub born: i64,
    /// When its bytes were last written, in nanoseconds since 1970.
    pub written: i64,
}

/// Says what lies somewhere as a task sees it that calls exec: a file or a pipe, or nothing.
pub type Look<'a> = dyn Fn(Spot<'_>) -> Option<Object> + 'a;

/// The object that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    File(ProgramFact),
    /// There is no name left by which it could be told what it is: memory made to look like a
    /// file, or a file that has been removed.
    Nameless {
        shown: String,
    },
    /// It may be run and not read, so nobody can see what it was told to do.
    Unreadable {
        path: PathBuf,
    },
}

/// Who starts it: the programs above, nearest first. The first is the image that called exec,
/// the last is what rung itself has started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Empty for the run's own command.
    pub lineage: Vec<Ancestor>,
    /// The line of parents does not lead up to rung: one of them has ended.
    pub cut: bool,
}

/// A program above: an image that was allowed to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The absolute path it was found at, links not followed: its name decides.
    pub path: PathBuf,
    pub canonical: PathBuf,
    pub location: ProgramLocation,
    /// Where the script lies that the kernel started it for.
    pub script: Option<(PathBuf, ProgramLocation)>,
    /// The first words behind its name, cut: enough to tell a script from a text to run.
    pub words: Vec<Arg>,
}

/// How many words of an ancestor are kept, and how much of each.
const WORDS_MAX: usize = 4;
const WORD_BYTES_MAX: usize = 64;

impl Ancestor {
    /// The image of an exec, as the caller of the next one. Absent where it is no file, which
    /// runs nowhere.
    pub fn of(fact: &ExecFact) -> Option<Self> {
        let Image::File(ProgramFact::Found { path, canonical, location, .. }) = &fact.image else {
            return None;
        };
        let script = match &fact.script {
            Some(ProgramFact::Found { path, location, .. }) => Some((path.clone(), *location)),
            Some(ProgramFact::Missing { .. }) | None => None,
        };
        let (path, canonical) = (path.clone(), canonical.clone());
        let words = fact.argv.iter().skip(1).take(WORDS_MAX).map(|it| it.cut(WORD_BYTES_MAX));
        Some(Self { path, canonical, location: *location, script, words: words.collect() })
    }
}
