//! The part of a git index that other repositories come from.
//!
//! An entry whose mode says `gitlink` ties another repository to a path of the tree. `git status`
//! starts a git in it, and that git does what the settings of the other repository say. So rung
//! has to know these paths, and has to learn them without running git. The format is that of
//! `gitformat-index(5)`: versions 2 to 4, split indexes, names of any bytes. Repositories hash with
//! SHA-1 or SHA-256 and the index does not say with which; what either reading finds counts.
//!
//! A sparse index names directories that it leaves out; links in those are not seen.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// What an index says about other repositories.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Gitlinks {
    /// Relative to the top of the tree, in the order of the index, plain: no `.` and no `..`.
    pub paths: Vec<PathBuf>,
    /// The file beside it that holds the rest of a split index, `sharedindex.` and a hash.
    pub shared: Vec<String>,
}

/// Bytes that git may read as an index, and this module cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a git index that could be read: {0}")]
pub struct NotAnIndex(&'static str);

/// Bytes of an object's name.
const HASHES: [usize; 2] = [20, 32];
/// Times, device, inode, mode, owner, group and size, each four bytes, times twice.
const NUMBERS: usize = 40;
const MODE: usize = 24;
const KIND: u32 = 0o170_000;
const GITLINK: u32 = 0o160_000;
const IS_EXTENDED: u16 = 0x4000;
const LENGTH_MAX: u16 = 0xfff;
const CUT_OFF: NotAnIndex = NotAnIndex("it is cut off");
const LENGTH: NotAnIndex = NotAnIndex("a name is not as long as it claims");

/// How much of an index is in memory at once, unless one name or table is longer.
const PIECE: usize = 1 << 16;

/// Reads an index that is in memory. Linear in its length.
pub fn gitlinks(bytes: &[u8]) -> Result<Gitlinks, NotAnIndex> {
    let copy = |buffer: &mut [u8], offset: u64| -> Result<usize, Infallible> {
        let rest = usize::try_from(offset).ok().and_then(|it| bytes.get(it..)).unwrap_or_default();
        Ok(buffer.iter_mut().zip(rest).map(|(to, from)| *to = *from).count())
    };
    match read_gitlinks(bytes.len() as u64, copy) {
        Ok(result) => result,
        Err(never) => match never {},
    }
}

/// Reads an index of `size` bytes by pieces of 64 KiB, because that of a large tree has megabytes.
/// `read_at` fills a buffer from an offset on, as `pread(2)` does, and says with how many bytes;
/// its error is the outer one.
pub fn read_gitlinks<E>(
    size: u64,
    mut read_at: impl FnMut(&mut [u8], u64) -> Result<usize, E>,
) -> Result<Result<Gitlinks, NotAnIndex>, E> {
    // An index without a byte is one that git takes for empty.
    if size == 0 {
        return Ok(Ok(Gitlinks::default()));
    }
    let mut found: Result<Gitlinks, _> = Err(CUT_OFF);
    for hash in HASHES {
        match (read(size, hash, &mut read_at), &mut found) {
            (Err(Stop::Unread(error)), _) => return Err(error),
            (Ok(links), Ok(both)) => {
                both.paths.extend(links.paths);
                both.shared.extend(links.shared);
            }
            (Ok(links), Err(_)) => found = Ok(links),
            (Err(Stop::NotAnIndex(error)), Err(_)) if hash == HASHES[0] => found = Err(error),
            (Err(Stop::NotAnIndex(_)), _) => {}
        }
    }
    Ok(found)
}

/// Why reading ends early.
enum Stop<E> {
    NotAnIndex(NotAnIndex),
    Unread(E),
}

impl<E> From<NotAnIndex> for Stop<E> {
    fn from(error: NotAnIndex) -> Self {
        Self::NotAnIndex(error)
    }
}

fn read<E>(
    size: u64,
    hash: usize,
    read_at: impl FnMut(&mut [u8], u64) -> Result<usize, E>,
) -> Result<Gitlinks, Stop<E>> {
    let body = size.checked_sub(hash as u64).ok_or(CUT_OFF)?;
    let mut reader = Reader { read_at, buffer: vec![0; PIECE], begin: 0, end: 0, next: 0, body };
    if reader.take(4)? != b"DIRC" {
        return Err(NotAnIndex("it does not begin as one").into());
    }
    let version = reader.number()?;
    if !(2..=4).contains(&version) {
        return Err(NotAnIndex("its version is not one of 2 to 4").into());
    }
    let count = reader.number()?;
    let mut links = Gitlinks::default();
    let mut name = Vec::new();
    // Where entries begin: git may start to read at any that an extension names.
    let entries_max = usize::try_from(body).unwrap_or(usize::MAX) / (NUMBERS + hash);
    let mut begins = Vec::with_capacity(entries_max.min(count as usize));
    for _ in 0..count {
        begins.push(u32::try_from(reader.position()).map_err(|_| NotAnIndex("it is too large"))?);
        let mode = reader.entry(version, hash, &mut name)?;
        if mode & KIND == GITLINK {
            links.paths.push(plain(&name)?);
        }
    }
    while reader.position() < body {
        let kind = four(reader.take(4)?).to_be_bytes();
        let length = reader.number()?;
        match &kind {
            b"link" => links.shared.extend(shared(reader.take(length as usize)?, hash)?),
            b"IEOT" => check_offsets(reader.take(length as usize)?, &begins)?,
            // What begins with a small letter has to be understood.
            [b'A'..=b'Z', ..] | b"sdir" => reader.skip(length.into())?,
            _ => return Err(NotAnIndex("it has an extension that is not known").into()),
        }
    }
    Ok(links)
}

/// The body of an index, all but the hash at its end.
struct Reader<R> {
    read_at: R,
    buffer: Vec<u8>,
    /// What of the buffer is not taken yet.
    begin: usize,
    end: usize,
    /// Where in the file the buffer ends.
    next: u64,
    /// Where the body ends.
    body: u64,
}

impl<E, R: FnMut(&mut [u8], u64) -> Result<usize, E>> Reader<R> {
    fn position(&self) -> u64 {
        self.next - (self.end - self.begin) as u64
    }

    /// Brings the next `length` bytes into the buffer.
    fn fill(&mut self, length: usize) -> Result<(), Stop<E>> {
        if length as u64 > self.body - self.position() {
            return Err(CUT_OFF.into());
        }
        while self.end - self.begin < length {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.buffer.len() < length {
                self.buffer.resize(length, 0);
            }
            let left = usize::try_from(self.body - self.next).unwrap_or(usize::MAX);
            let until = self.buffer.len().min(self.end.saturating_add(left));
            let room = self.buffer.get_mut(self.end..until).unwrap_or_default();
            match (self.read_at)(room, self.next).map_err(Stop::Unread)? {
                0 => return Err(CUT_OFF.into()),
                count => {
                    self.end += count;
                    self.next += count as u64;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Stop<E>> {
        self.fill(length)?;
        let taken = self.buffer.get(self.begin..).and_then(|it| it.get(..length));
        self.begin += length;
        Ok(taken.unwrap_or_default())
    }

    fn skip(&mut self, length: u64) -> Result<(), Stop<E>> {
        let to = self.position() + length;
        if to > self.body {
            return Err(CUT_OFF.into());
        }
        match usize::try_from(length) {
            Ok(length) if length <= self.end - self.begin => self.begin += length,
            _ => (self.begin, self.end, self.next) = (0, 0, to),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u32, Stop<E>> {
        Ok(four(self.take(4)?))
    }

    /// Adds what comes before the next NUL byte, which is taken too.
    fn text(&mut self, to: &mut Vec<u8>) -> Result<(), Stop<E>> {
        loop {
            let held = self.buffer.get(self.begin..self.end).unwrap_or_default();
            let end = held.iter().position(|it| *it == 0);
            to.extend_from_slice(held.get(..end.unwrap_or(held.len())).unwrap_or_default());
            self.begin += end.map_or(held.len(), |it| it + 1);
            if end.is_some() {
                return Ok(());
            }
            if self.position() == self.body {
                return Err(NotAnIndex("a name has no end").into());
            }
            self.fill(1)?;
        }
    }

    /// Reads an entry and gives its mode; `name` is that of the entry before, and then its own.
    fn entry(&mut self, version: u32, hash: usize, name: &mut Vec<u8>) -> Result<u32, Stop<E>> {
        let start = self.position();
        let fixed = self.take(NUMBERS + hash + 2)?;
        let mode = four(fixed.get(MODE..).unwrap_or_default());
        let flags = two(fixed.get(NUMBERS + hash..).unwrap_or_default());
        if flags & IS_EXTENDED != 0 {
            if version < 3 {
                return Err(NotAnIndex("an entry has flags that its version does not have").into());
            }
            self.take(2)?;
        }
        if version == 4 {
            let dropped = self.varint()?;
            let kept = name.len().checked_sub(dropped).ok_or(NotAnIndex("a name has no start"))?;
            name.truncate(kept);
            self.text(name)?;
            return if has_length(name, flags) { Ok(mode) } else { Err(LENGTH.into()) };
        }
        name.clear();
        self.text(name)?;
        if !has_length(name, flags) {
            return Err(LENGTH.into());
        }
        // One to eight NUL bytes fill the entry up to a multiple of eight.
        let length = self.position() - start;
        self.skip(length.next_multiple_of(8) - length)?;
        Ok(mode)
    }

    /// The number encoding of pack files' offsets.
    fn varint(&mut self) -> Result<usize, Stop<E>> {
        let too_large = NotAnIndex("a number is too large");
        let mut value = 0_usize;
        loop {
            let byte = *self.take(1)?.first().ok_or(too_large)?;
            value = value.checked_mul(128).ok_or(too_large)?;
            value = value.checked_add(usize::from(byte & 0x7f)).ok_or(too_large)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            value = value.checked_add(1).ok_or(too_large)?;
        }
    }
}

/// Git goes by the length that an entry claims, where its field can hold it.
fn has_length(name: &[u8], flags: u16) -> bool {
    let claimed = usize::from(flags & LENGTH_MAX);
    claimed == name.len().min(usize::from(LENGTH_MAX))
}

/// The file that a split index names; all zeros where there is none.
fn shared(inside: &[u8], hash: usize) -> Result<Option<String>, NotAnIndex> {
    let name = inside.get(..hash).ok_or(CUT_OFF)?;
    if name.iter().all(|it| *it == 0) {
        return Ok(None);
    }
    let digit = |it: u8| char::from_digit(u32::from(it), 16);
    let hex = name.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).flatten();
    Ok(Some("sharedindex.".chars().chain(hex).collect()))
}

/// Large indexes say where threads may begin to read. Were that another place than an entry's
/// beginning, git would see other entries than this module.
fn check_offsets(inside: &[u8], begins: &[u32]) -> Result<(), NotAnIndex> {
    let wrong = NotAnIndex("its table of offsets does not fit its entries");
    let (version, blocks) = inside.split_at_checked(4).ok_or(wrong)?;
    if four(version) != 1 || blocks.len() % 8 != 0 {
        return Err(wrong);
    }
    let mut next = 0;
    for block in blocks.chunks_exact(8) {
        let (offset, count) = block.split_at_checked(4).ok_or(wrong)?;
        if begins.get(next) != Some(&four(offset)) {
            return Err(wrong);
        }
        next =
            usize::try_from(four(count)).ok().and_then(|it| next.checked_add(it)).ok_or(wrong)?;
    }
    if next == begins.len() { Ok(()) } else { Err(wrong) }
}

/// Git refuses names that climb; so does this.
fn plain(name: &[u8]) -> Result<PathBuf, NotAnIndex> {
    let odd = |it: &[u8]| matches!(it, b"" | b"." | b"..");
    if name.strip_suffix(b"/").unwrap_or(name).split(|it| *it == b'/').any(odd) {
        return Err(NotAnIndex("a name is no path"));
    }
    Ok(PathBuf::from(OsString::from_vec(name.to_vec())))
}

fn four(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

fn two(bytes: &[u8]) -> u16 {
    bytes.iter().take(2).fold(0, |value, byte| (value << 8) | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u32 = 0o100_644;

    struct Written {
        version: u32,
        hash: usize,
        entries: Vec<(&'static str, u32)>,
        extensions: Vec<(&'static [u8; 4], Vec<u8>)>,
    }

    /// As git writes it, for what this module reads of it.
    fn write(index: &Written) -> (Vec<u8>, Vec<u32>) {
        let count = u32::try_from(index.entries.len()).unwrap();
        let mut bytes = [&b"DIRC"[..], &index.version.to_be_bytes(), &count.to_be_bytes()].concat();
        let mut begins = Vec::new();
        let mut before = "";
        for (name, mode) in &index.entries {
            begins.push(u32::try_from(bytes.len()).unwrap());
            let start = bytes.len();
            bytes.extend([1; MODE]);
            bytes.extend(mode.to_be_bytes());
            bytes.extend([2; NUMBERS - MODE - 4]);
            bytes.extend(vec![3; index.hash]);
            bytes.extend(u16::try_from(name.len().min(0xfff)).unwrap().to_be_bytes());
            if index.version == 4 {
                let common = name.bytes().zip(before.bytes()).take_while(|it| it.0 == it.1).count();
                bytes.push(u8::try_from(before.len() - common).unwrap());
                bytes.extend(&name.as_bytes()[common..]);
                bytes.push(0);
                before = name;
            } else {
                bytes.extend(name.as_bytes());
                let length = bytes.len() - start;
                bytes.extend(vec![0; 8 - length % 8]);
            }
        }
        for (kind, body) in &index.extensions {
            bytes.extend(*kind);
            bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend(body);
        }
        bytes.extend(vec![4; index.hash]);
        (bytes, begins)
    }

    fn entries() -> Vec<(&'static str, u32)> {
        // Git goes by four bits of the mode, and so does this.
        let odd = 0xdead_0000 | GITLINK | 0o7777;
        vec![("a", FILE), ("lib/one", GITLINK), ("lib/one-more", FILE), ("lib/two", odd)]
    }

    #[test]
    fn links_are_found_in_every_version_and_with_both_hashes() {
        for hash in HASHES {
            for version in 2..=4 {
                let extensions = vec![(b"TREE", b"whatever".to_vec())];
                let index = Written { version, hash, entries: entries(), extensions };
                let found = gitlinks(&write(&index).0).unwrap();
                assert_eq!(found.paths, ["lib/one", "lib/two"].map(PathBuf::from), "{version}");
                assert_eq!(found.shared, [""; 0]);
            }
        }
        assert_eq!(gitlinks(b"").unwrap(), Gitlinks::default());
    }

    /// However little a read gives, and however long a name or an extension is.
    #[test]
    fn pieces_make_the_same_as_the_whole() {
        let long: &'static str = "n".repeat(3 * PIECE).leak();
        let listed = vec![("a", FILE), (long, GITLINK), ("z", GITLINK)];
        let extensions = vec![(b"TREE", vec![7; 2 * PIECE]), (b"link", vec![0; 32])];
        for (hash, version) in [(20, 2), (32, 3)] {
            let (entries, extensions) = (listed.clone(), extensions.clone());
            let (bytes, _) = write(&Written { version, hash, entries, extensions });
            let whole = gitlinks(&bytes).unwrap();
            assert_eq!(whole.paths, [long, "z"].map(PathBuf::from));
            for piece in [1, 7, PIECE - 1, usize::MAX] {
                let some = |buffer: &mut [u8], offset: u64| -> Result<usize, &str> {
                    let rest = &bytes[usize::try_from(offset).unwrap()..];
                    let count = rest.len().min(buffer.len()).min(piece);
                    buffer[..count].copy_from_slice(&rest[..count]);
                    Ok(count)
                };
                assert_eq!(read_gitlinks(bytes.len() as u64, some), Ok(Ok(whole.clone())));
            }
            let torn = |_: &mut [u8], offset: u64| if offset == 0 { Ok(0) } else { Err("torn") };
            assert_eq!(read_gitlinks(bytes.len() as u64, torn), Ok(Err(CUT_OFF)));
            let failed = |_: &mut [u8], _| Err("the disk");
            assert_eq!(read_gitlinks(bytes.len() as u64, failed), Err("the disk"));
        }
    }

    #[test]
    fn the_other_half_of_a_split_index_is_named() {
        let mut body = vec![0xab; 20];
        body.extend([0; 4]);
        let extensions = vec![(b"link", body)];
        let index = Written { version: 2, hash: 20, entries: entries(), extensions };
        let name = format!("sharedindex.{}", "ab".repeat(20));
        assert_eq!(gitlinks(&write(&index).0).unwrap().shared, [name]);
        let index = Written { extensions: vec![(b"link", vec![0; 20])], ..index };
        assert_eq!(gitlinks(&write(&index).0).unwrap().shared, [""; 0]);
    }

    #[test]
    fn threads_of_git_begin_where_an_entry_does() {
        let mut index =
            Written { version: 4, hash: 20, entries: entries(), extensions: Vec::new() };
        let (_, begins) = write(&index);
        let table = |blocks: &[(u32, u32)]| {
            let blocks = blocks.iter().flat_map(|it| [it.0.to_be_bytes(), it.1.to_be_bytes()]);
            let blocks: Vec<u8> = blocks.flatten().collect();
            [&1_u32.to_be_bytes()[..], &blocks].concat()
        };
        for (blocks, fits) in [
            (vec![(begins[0], 2), (begins[2], 2)], true),
            (vec![(begins[0], 2), (begins[2] + 1, 2)], false),
            (vec![(begins[0], 2), (begins[3], 2)], false),
            (vec![(begins[0], 2)], false),
        ] {
            index.extensions = vec![(b"IEOT", table(&blocks))];
            assert_eq!(gitlinks(&write(&index).0).is_ok(), fits, "{blocks:?}");
        }
    }

    #[test]
    fn what_is_no_index_is_said_to_be_none() {
        let whole = whole_like();
        let (bytes, _) = write(&whole);
        for end in 1..bytes.len() {
            // Never a panic; and never less than all of it, as long as it reads at all.
            if let Ok(found) = gitlinks(&bytes[..end]) {
                assert_eq!(found.paths.len(), 2, "cut off at {end}");
            }
        }
        for name in ["../up", "a//b", "a/./b", "/root"] {
            let index = Written { entries: vec![(name, GITLINK)], ..whole_like() };
            assert!(gitlinks(&write(&index).0).is_err(), "{name}");
        }
        let unknown = Written { extensions: vec![(b"evil", vec![])], ..whole_like() };
        assert!(gitlinks(&write(&unknown).0).is_err());
        assert!(gitlinks(&write(&Written { version: 5, ..whole_like() }).0).is_err());
        assert!(gitlinks(b"not an index at all, but long enough").is_err());
    }

    #[test]
    fn a_name_is_as_long_as_it_claims() {
        for version in [2, 4] {
            let index = Written { version, ..whole_like() };
            let (mut bytes, begins) = write(&index);
            let at = usize::try_from(begins[0]).unwrap() + NUMBERS + 20 + 1;
            assert!(gitlinks(&bytes).is_ok());
            bytes[at] += 8;
            assert!(gitlinks(&bytes).is_err(), "version {version}");
        }
    }

    fn whole_like() -> Written {
        Written { version: 2, hash: 20, entries: entries(), extensions: Vec::new() }
    }
}
