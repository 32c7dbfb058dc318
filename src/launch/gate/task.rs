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
use crate::sys::{descriptor, trace};

/// A path is never longer (`PATH_MAX`), its NUL byte included.
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// Words and variables together, one longer than the kernel's largest stack would hold.
const WORDS_BYTES_MAX: usize = 6 << 20;
const PAGE: usize = 4096;
const POINTER: usize = size_of::<u64>();
/// `/proc/PID/stat`, whose longest part is a name of 16 bytes.
const STAT_BYTES_MAX: usize = 1024;

/// The memory of a task that waits for an answer, page by page.
pub(super) struct Memory {
    task: i32,
    /// By address, as far as each could be read.
    pages: BTreeMap<u64, Vec<u8>>,
    left: usize,
}

impl Memory {
    pub(super) fn of(task: i32) -> Self {
        Self { task, pages: BTreeMap::new(), left: 2 * WORDS_BYTES_MAX }
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
        if !self.pages.contains_key(&start) {
            self.left = self.left.checked_sub(PAGE).ok_or(Errno::E2BIG)?;
            let mut page = vec![0; PAGE];
            let length = trace::read_memory(self.task, start, &mut page)?;
            page.truncate(length);
            self.pages.insert(start, page);
        }
        let page = self.pages.get(&start).ok_or(Errno::EFAULT)?;
        let offset = usize::try_from(address - start).map_err(|_| Errno::EFAULT)?;
        page.get(offset..).filter(|it| !it.is_empty()).ok_or(Errno::EFAULT)
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
        // Split at every NUL byte, so no word can have one.
        whole.split(|it| *it == 0).filter_map(|it| Arg::new(it).ok()).collect()
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

/// What `/proc/PID/stat` says of a task's place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) parent: i32,
    pub(super) threads: u32,
    /// In ticks since boot: with it a number cannot be taken for the next task that gets it.
    pub(super) started: u64,
}

pub(super) fn standing(task: i32) -> Result<Standing, Errno> {
    let from = descriptor::open_at(descriptor::HERE, &file(task, "stat")?, libc::O_RDONLY, 0)?;
    let mut bytes = [0; STAT_BYTES_MAX];
    let count = descriptor::read(from.as_fd(), &mut bytes)?;
    parse_standing(bytes.get(..count).unwrap_or_default()).ok_or(Errno::EBADMSG)
}

/// The name in parentheses may hold anything, parentheses and spaces too.
fn parse_standing(line: &[u8]) -> Option<Standing> {
    let end = line.iter().rposition(|it| *it == b')')?;
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    // Counted as proc(5) does, the first one here is the third: state.
    let parent = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Standing { parent, threads, started })
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
    fn a_name_cannot_forge_the_fields_behind_it() {
        let line = b"42 (a) S 1 (b) S) R 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 9001 0";
        let found = parse_standing(line).unwrap();
        assert_eq!(found, Standing { parent: 7, threads: 3, started: 9001 });
        assert_eq!(parse_standing(b"42 (a) R 7"), None);
    }

    #[test]
    fn this_process_has_a_standing() {
        let own = i32::try_from(std::process::id()).unwrap();
        let found = standing(own).unwrap();
        assert_eq!(found.parent, nix::unistd::getppid().as_raw());
        assert_eq!(process_of(own, found).unwrap(), own);
    }

    #[test]
    fn words_are_read_as_the_kernel_would_read_them() {
        let texts = [c"ls", c"", c"a b"];
        let list: Vec<usize> =
            texts.iter().map(|it| it.as_ptr().expose_provenance()).chain([0]).collect();
        let own = i32::try_from(std::process::id()).unwrap();
        let mut memory = Memory::of(own);
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
}
