//! Reads a task of the sandbox from outside: its memory while it waits, its files in `/proc`.
//!
//! Everything here can be a lie by the time it is used, because other tasks may write the same
//! memory; what is read behind the exec stop is not. Bounded: a task that asks with more than the
//! kernel would take is told so.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::model::Arg;
use crate::sys::standing::Standing;
use crate::sys::{descriptor, trace};

/// A path is never longer (`PATH_MAX`), its NUL byte included.
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// Words and variables together, one longer than the kernel's largest stack would hold.
const WORDS_BYTES_MAX: usize = 6 << 20;
const PAGE: usize = 4096;
/// Pages that are kept for the next task, and how large a stack may be that is.
const PAGES_KEPT: usize = 16;
const STACK_KEPT: usize = 16 * PAGE;
const POINTER: usize = size_of::<u64>();

/// The memory of a task that waits for an answer, page by page.
#[derive(Default)]
pub(super) struct Memory {
    task: i32,
    /// The one that was looked at last.
    page: Page,
    /// The others, by address.
    pages: BTreeMap<u64, Page>,
    left: usize,
    /// Pages of earlier tasks, to be used again.
    spare: Vec<Page>,
    /// What a stack is read into. Neither it nor a page is made anew for a task: memory that comes
    /// and goes with each costs more than all that is read.
    stack: Vec<u8>,
}

/// As far as it could be read, and at least one byte; empty where nothing has been.
#[derive(Default)]
struct Page {
    start: u64,
    bytes: Vec<u8>,
}

impl Memory {
    /// Forgets what is known, and looks at another task from now on.
    pub(super) fn turn_to(&mut self, task: i32) {
        self.task = task;
        self.left = 2 * WORDS_BYTES_MAX;
        self.page.bytes.clear();
        while let Some((_, page)) = self.pages.pop_first() {
            if self.spare.len() < PAGES_KEPT {
                self.spare.push(page);
            }
        }
    }

    /// The C string at `address`, without its NUL byte.
    pub(super) fn string(&mut self, address: u64, bytes_max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        self.append(address, bytes_max, &mut text)?;
        Ok(text)
    }

    /// The strings that a list of pointers names, each with its NUL byte, one behind the other; and
    /// how many there are. No list is an empty one, as the kernel has it.
    pub(super) fn words(&mut self, list: u64) -> Result<Words, Errno> {
        let mut words = Words::default();
        if list == 0 {
            return Ok(words);
        }
        let mut at = list;
        loop {
            let pointer = self.pointer(at)?;
            if pointer == 0 {
                break;
            }
            let left = WORDS_BYTES_MAX.checked_sub(words.bytes.len()).ok_or(Errno::E2BIG)?;
            match self.append(pointer, left, &mut words.bytes) {
                Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
                result => result?,
            }
            words.bytes.push(0);
            at = at.checked_add(POINTER as u64).ok_or(Errno::EFAULT)?;
        }
        Ok(words)
    }

    fn pointer(&mut self, at: u64) -> Result<u64, Errno> {
        // Hardly ever across the end of a page.
        if let Some(bytes) = self.from(at)?.first_chunk() {
            return Ok(u64::from_ne_bytes(*bytes));
        }
        let mut bytes = [0; POINTER];
        for (offset, slot) in (0..).zip(&mut bytes) {
            let address = at.checked_add(offset).ok_or(Errno::EFAULT)?;
            *slot = *self.from(address)?.first().ok_or(Errno::EFAULT)?;
        }
        Ok(u64::from_ne_bytes(bytes))
    }

    fn append(
        &mut self,
        mut address: u64,
        bytes_max: usize,
        text: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let mut left = bytes_max;
        loop {
            let piece = self.from(address)?;
            let end = piece.iter().position(|it| *it == 0);
            let piece = end.map_or(Some(piece), |end| piece.get(..end)).unwrap_or_default();
            left = left.checked_sub(piece.len() + 1).ok_or(Errno::ENAMETOOLONG)?;
            text.extend_from_slice(piece);
            if end.is_some() {
                return Ok(());
            }
            address = address.checked_add(piece.len() as u64).ok_or(Errno::EFAULT)?;
        }
    }

    /// What can be read from `address` to the end of its page: at least one byte.
    fn from(&mut self, address: u64) -> Result<&[u8], Errno> {
        let start = address & !(PAGE as u64 - 1);
        if self.page.bytes.is_empty() || self.page.start != start {
            self.turn_page(start)?;
        }
        let offset = usize::try_from(address - start).map_err(|_| Errno::EFAULT)?;
        self.page.bytes.get(offset..).filter(|it| !it.is_empty()).ok_or(Errno::EFAULT)
    }

    fn turn_page(&mut self, start: u64) -> Result<(), Errno> {
        let next = if let Some(known) = self.pages.remove(&start) {
            known
        } else {
            self.left = self.left.checked_sub(PAGE).ok_or(Errno::E2BIG)?;
            let mut page = self.spare.pop().unwrap_or_default();
            page.start = start;
            page.bytes.resize(PAGE, 0);
            let length = trace::read_memory(self.task, start, &mut page.bytes)?;
            page.bytes.truncate(length);
            page
        };
        let before = std::mem::replace(&mut self.page, next);
        if !before.bytes.is_empty() {
            self.pages.insert(before.start, before);
        } else if self.spare.len() < PAGES_KEPT {
            self.spare.push(before);
        }
        Ok(())
    }

    /// Whether the image that the task has just loaded was given these words and variables, by the
    /// stack that the kernel made for it; `stack` is where that begins. `false` also where the stack
    /// is not what this program's own would be, or cannot be read.
    pub(super) fn was_given(
        &mut self,
        task: i32,
        stack: u64,
        words: &Words,
        variables: &Words,
    ) -> bool {
        /// The vector for the loader, random bytes, the name of the platform, and a gap of up to two
        /// pages, as wide as the kernel rolls it (`arch_align_stack`).
        const BETWEEN: usize = 3 * PAGE;
        let (count, variable_count) = (words.count(), variables.count());
        let strings = words.bytes.len() + variables.bytes.len();
        let pointers = POINTER * (count + variable_count + 3);
        self.stack.resize(pointers + BETWEEN + strings, 0);
        let length = trace::read_memory(task, stack, &mut self.stack).unwrap_or(0);
        let seen = self.stack.get(..length).unwrap_or_default();
        let same =
            Stack { start: stack, bytes: seen }.holds((words, count), (variables, variable_count));
        if self.stack.capacity() > STACK_KEPT {
            self.stack = Vec::new();
        }
        same
    }
}

/// What lies on the stack of an image at its first instruction: how many words there are, where each
/// is, a null, where each variable is, a null; further up the words themselves, and right behind them
/// the variables (`create_elf_tables` and `bprm_execve`).
struct Stack<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl Stack<'_> {
    fn holds(&self, words: (&Words, usize), variables: (&Words, usize)) -> bool {
        let ((words, count), (variables, variable_count)) = (words, variables);
        let first = self.number(1);
        let behind = |it: u64| it.checked_add(words.bytes.len() as u64);
        let variable = if variable_count == 0 { Some(0) } else { first.and_then(behind) };
        self.number(0) == Some(count as u64)
            && self.number(count + 1) == Some(0)
            && self.number(count + 2) == variable
            && self.number(count + variable_count + 2) == Some(0)
            && first.is_some_and(|at| {
                self.has(at, &words.bytes)
                    && behind(at).is_some_and(|at| self.has(at, &variables.bytes))
            })
    }

    fn number(&self, index: usize) -> Option<u64> {
        let bytes = self.bytes.get(index * POINTER..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    fn has(&self, at: u64, text: &[u8]) -> bool {
        let offset = at.checked_sub(self.start).and_then(|it| usize::try_from(it).ok());
        offset.and_then(|it| self.bytes.get(it..)).is_some_and(|it| it.starts_with(text))
    }
}

/// Words or variables as the kernel lays them out: each with its NUL byte, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) bytes: Vec<u8>,
}

impl Words {
    pub(super) fn list(&self) -> Vec<Arg> {
        let whole = self.bytes.strip_suffix(b"\0").unwrap_or(&self.bytes);
        if self.bytes.is_empty() {
            return Vec::new();
        }
        let mut list = Vec::with_capacity(self.count());
        // Split at every NUL byte, so no word can have one.
        list.extend(whole.split(|it| *it == 0).filter_map(|it| Arg::new(it).ok()));
        list
    }

    pub(super) fn count(&self) -> usize {
        self.bytes.split(|it| *it == 0).count() - 1
    }

    pub(super) fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.bytes.push(0);
    }

    /// All but the first.
    pub(super) fn rest(&self) -> &[u8] {
        let end = self.bytes.iter().position(|it| *it == 0).map_or(0, |it| it + 1);
        self.bytes.get(end..).unwrap_or_default()
    }
}

/// The name of a file of the task in `/proc`.
pub(super) fn file(task: i32, name: &str) -> Result<CString, Errno> {
    CString::new(format!("/proc/{task}/{name}")).map_err(|_| Errno::EINVAL)
}

/// The words or variables of an image that has been loaded.
pub(super) fn loaded(task: i32, name: &str) -> Result<Words, Errno> {
    let mut bytes = Vec::new();
    let from = descriptor::open_at(descriptor::HERE, &file(task, name)?, libc::O_RDONLY, 0)?;
    let mut piece = [0; PAGE];
    loop {
        match descriptor::read(from.as_fd(), &mut piece)? {
            0 => return Ok(Words { bytes }),
            count => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
        if bytes.len() > WORDS_BYTES_MAX {
            return Err(Errno::E2BIG);
        }
    }
}

/// Where a link of the task's in `/proc` leads, as a path of the view.
pub(super) fn link(task: i32, name: &str) -> Result<PathBuf, Errno> {
    let mut buffer = [0; PATH_BYTES_MAX];
    let path = descriptor::read_link(descriptor::HERE, &file(task, name)?, &mut buffer)?;
    Ok(as_path(path))
}

pub(super) fn as_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The process that a thread belongs to.
pub(super) fn process_of(task: i32, standing: Standing) -> Result<i32, Errno> {
    if standing.threads <= 1 {
        return Ok(task);
    }
    let text = loaded(task, "status")?.bytes;
    let line = text.split(|it| *it == b'\n').find_map(|it| it.strip_prefix(b"Tgid:"));
    let number = line.and_then(|it| std::str::from_utf8(it).ok()?.trim().parse().ok());
    number.ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_standing() {
        let own = i32::try_from(std::process::id()).unwrap();
        let found = Standing::of(own).unwrap();
        assert_eq!(found.parent, nix::unistd::getppid().as_raw());
        assert_eq!(process_of(own, found).unwrap(), own);
    }

    #[test]
    fn words_are_read_as_the_kernel_would_read_them() {
        let texts = [c"ls", c"", c"a b"];
        let list: Vec<usize> =
            texts.iter().map(|it| it.as_ptr().expose_provenance()).chain([0]).collect();
        let own = i32::try_from(std::process::id()).unwrap();
        let mut byte = [0];
        let here = byte.as_ptr().expose_provenance() as u64;
        if trace::read_memory(own, here, &mut byte) == Err(Errno::EPERM) {
            println!("left out: this process may read nobody's memory");
            return;
        }
        let mut memory = Memory::default();
        memory.turn_to(own);
        let words = memory.words(list.as_ptr().expose_provenance() as u64).unwrap();
        assert_eq!(words.bytes, b"ls\0\0a b\0");
        let list: Vec<String> = words.list().iter().map(ToString::to_string).collect();
        assert_eq!(list, ["ls", "", "a b"]);
        assert_eq!(words.rest(), b"\0a b\0");
        assert_eq!(memory.words(0).unwrap(), Words::default());
        assert_eq!(Words::default().list(), []);
        assert_eq!(memory.words(8), Err(Errno::EFAULT));
        let long = c"0123456789".as_ptr().expose_provenance() as u64;
        assert_eq!(memory.string(long, 11).unwrap(), b"0123456789");
        assert_eq!(memory.string(long, 10), Err(Errno::ENAMETOOLONG));
    }

    /// A stack as the kernel makes it, at an address, for these words and variables.
    fn stack(start: u64, words: &[&str], variables: &[&str]) -> Vec<u8> {
        const BETWEEN: usize = 64;
        let pointers = words.len() + variables.len() + 3;
        let mut at = start + (pointers * POINTER + BETWEEN) as u64;
        let mut numbers = vec![words.len() as u64];
        let mut strings = Vec::new();
        for list in [words, variables] {
            for text in list {
                numbers.push(at);
                at += text.len() as u64 + 1;
                strings.extend_from_slice(text.as_bytes());
                strings.push(0);
            }
            numbers.push(0);
        }
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_ne_bytes()).collect();
        bytes.extend([0xee; BETWEEN]);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_stack_says_what_an_image_was_given_and_nothing_else() {
        let list = |texts: &[&str]| {
            let mut words = Words::default();
            for it in texts {
                words.push(it.as_bytes());
            }
            words
        };
        let start = 0x7fff_0000;
        let holds = |bytes: &[u8], words: &[&str], variables: &[&str]| {
            let (words, variables) = (list(words), list(variables));
            let counts = (words.count(), variables.count());
            Stack { start, bytes }.holds((&words, counts.0), (&variables, counts.1))
        };
        let bytes = stack(start, &["ls", "-l", ""], &["A=1", "B=2"]);
        assert!(holds(&bytes, &["ls", "-l", ""], &["A=1", "B=2"]));
        for (words, variables) in [
            (&["ls", "-l"][..], &["A=1", "B=2"][..]),
            (&["ls", "-l", "", "A=1"], &["B=2"]),
            (&["ls", "-x", ""], &["A=1", "B=2"]),
            (&["ls", "-l", ""], &["A=1", "B=3"]),
            (&["ls", "-l", ""], &["A=1"]),
            (&["ls", "-l", ""], &[]),
            (&["ls", "-l", ""], &["A=1", "B=2", "C=3"]),
        ] {
            assert!(!holds(&bytes, words, variables), "{words:?} {variables:?}");
        }
        let without = stack(start, &["ls"], &[]);
        assert!(holds(&without, &["ls"], &[]) && !holds(&without, &["ls"], &["A=1"]));
        for end in 0..bytes.len() {
            assert!(!holds(&bytes[..end], &["ls", "-l", ""], &["A=1", "B=2"]), "cut off at {end}");
        }
    }
}
