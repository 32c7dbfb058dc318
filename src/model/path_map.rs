//! A map from places in a file system, made for few places and many questions about trees.
//!
//! [`Path`] compares paths one component at a time, because two spellings may mean the same.
//! Places are plain: absolute, without `.` and `..`, without a doubled or a trailing slash. There
//! is one spelling of each, so bytes decide, and a directory stands right before what is in it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is known of each place, in the order of a walk.
#[derive(Clone, PartialEq, Eq)]
pub struct PathMap<T> {
    // INVARIANT: sorted by `walk_order`, every path once.
    entries: Vec<(PathBuf, T)>,
}

type Iter<'a, T> = std::iter::Map<
    std::slice::Iter<'a, (PathBuf, T)>,
    fn(&'a (PathBuf, T)) -> (&'a PathBuf, &'a T),
>;

/// The order in which a walk comes by: parents first, every tree in one piece.
pub fn walk_order(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.as_os_str().as_bytes(), b.as_os_str().as_bytes());
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    let shared = shared(a, b);
    match (a.get(shared), b.get(shared)) {
        (Some(x), Some(y)) => rank(x).cmp(&rank(y)),
        _ => a.len().cmp(&b.len()),
    }
}

/// How many bytes both begin with. Paths share long beginnings, so by the word as far as it goes.
fn shared(a: &[u8], b: &[u8]) -> usize {
    let (words, _) = a.as_chunks::<8>();
    let (others, _) = b.as_chunks::<8>();
    let whole = 8 * words.iter().zip(others).take_while(|(x, y)| x == y).count();
    let rest = |it: &'_ [u8]| it.len().min(whole);
    let (_, a) = a.split_at(rest(a));
    let (_, b) = b.split_at(rest(b));
    whole + a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Whether `path` is the root of `tree` or below it.
pub fn lies_in(path: &Path, tree: &Path) -> bool {
    let tree = tree.as_os_str().as_bytes();
    match path.as_os_str().as_bytes().strip_prefix(tree) {
        Some(rest) => matches!(rest, [] | [b'/', ..]) || tree == b"/",
        None => false,
    }
}

/// Whether the path is spelled the one way that a place is.
pub fn is_plain(path: &Path) -> bool {
    match path.as_os_str().as_bytes() {
        b"/" => true,
        [b'/', rest @ ..] => {
            rest.split(|it| *it == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
        }
        _ => false,
    }
}

/// The path with `.` and `..` taken out of its text: nothing on the way is taken for a link.
pub fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

impl<T> PathMap<T> {
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> Iter<'_, T> {
        self.entries.iter().map(|(path, value)| (path, value))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &PathBuf> {
        self.entries.iter().map(|(path, _)| path)
    }

    pub fn get(&self, path: &Path) -> Option<&T> {
        let index = self.search(path).ok()?;
        self.entries.get(index).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, path: &Path) -> Option<&mut T> {
        let index = self.search(path).ok()?;
        self.entries.get_mut(index).map(|(_, value)| value)
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.search(path).is_ok()
    }

    /// What is known of the deepest place at or above `path`.
    pub fn covering(&self, path: &Path) -> Option<(&Path, &T)> {
        let end = match self.search(path) {
            Ok(index) => index + 1,
            Err(index) => index,
        };
        self.last_around(end, path)
    }

    /// What is known of the deepest place above `path`.
    pub fn above(&self, path: &Path) -> Option<(&Path, &T)> {
        let (Ok(end) | Err(end)) = self.search(path);
        self.last_around(end, path)
    }

    /// Whether anything is known of `path` or of a place below it.
    pub fn any_in(&self, path: &Path) -> bool {
        let (Ok(index) | Err(index)) = self.search(path);
        self.entries.get(index).is_some_and(|(it, _)| lies_in(it, path))
    }

    /// Replaces what was known of the place.
    pub fn insert(&mut self, path: PathBuf, value: T) -> Option<T> {
        match self.search(&path) {
            Ok(index) => self.entries.get_mut(index).map(|(_, old)| std::mem::replace(old, value)),
            Err(index) => {
                self.entries.insert(index, (path, value));
                None
            }
        }
    }

    /// Changes what is known of the place, which is `new` if it was nothing.
    pub fn update(&mut self, path: &Path, new: impl FnOnce() -> T, change: impl FnOnce(&mut T)) {
        match self.search(path) {
            Ok(index) => {
                if let Some((_, value)) = self.entries.get_mut(index) {
                    change(value);
                }
            }
            Err(index) => {
                let mut value = new();
                change(&mut value);
                self.entries.insert(index, (path.to_path_buf(), value));
            }
        }
    }

    pub fn remove(&mut self, path: &Path) -> Option<T> {
        let index = self.search(path).ok()?;
        Some(self.entries.remove(index).1)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&Path, &mut T) -> bool) {
        self.entries.retain_mut(|(path, value)| keep(path, value));
    }

    /// Where the path is, or where it would be. Most maps are built in their order.
    fn search(&self, path: &Path) -> Result<usize, usize> {
        match self.entries.last() {
            Some((last, _)) if walk_order(last, path) == Ordering::Less => Err(self.entries.len()),
            _ => self.entries.binary_search_by(|(it, _)| walk_order(it, path)),
        }
    }

    /// The last of the first `end` entries that is at or above `path`.
    fn last_around(&self, end: usize, path: &Path) -> Option<(&Path, &T)> {
        let before = self.entries.get(..end)?.iter().rev();
        before.map(|(it, value)| (it.as_path(), value)).find(|(it, _)| lies_in(path, it))
    }
}

/// Where a place comes twice, the last value counts.
impl<T> Extend<(PathBuf, T)> for PathMap<T> {
    fn extend<I: IntoIterator<Item = (PathBuf, T)>>(&mut self, more: I) {
        for (path, value) in more {
            self.insert(path, value);
        }
    }
}

impl<T> FromIterator<(PathBuf, T)> for PathMap<T> {
    fn from_iter<I: IntoIterator<Item = (PathBuf, T)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<T> IntoIterator for PathMap<T> {
    type Item = (PathBuf, T);
    type IntoIter = std::vec::IntoIter<(PathBuf, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a PathMap<T> {
    type Item = (&'a PathBuf, &'a T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for PathMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for PathMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PathMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<PathBuf, T>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(paths: &[&str]) -> PathMap<usize> {
        paths.iter().enumerate().map(|(index, path)| (PathBuf::from(path), index)).collect()
    }

    #[test]
    fn a_walk_meets_every_tree_in_one_piece() {
        let paths = map(&["/a-b", "/a/c", "/b", "/", "/a", "/a/c/d", "/a/c-", "/a/b"]);
        let walked: Vec<&str> = paths.keys().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(walked, ["/", "/a", "/a/b", "/a/c", "/a/c/d", "/a/c-", "/a-b", "/b"]);
        assert!(paths.keys().is_sorted(), "as the components say");
        assert_eq!(paths.get(Path::new("/a/c-")), Some(&6));
    }

    #[test]
    fn the_order_is_that_of_components_wherever_two_paths_part() {
        let mut names = vec!["/".to_owned()];
        for length in 1..20 {
            let start = "a".repeat(length);
            names.extend(["", "-", "0", "/", "/b", "b"].map(|end| format!("/{start}{end}")));
        }
        let paths: Vec<&Path> = names.iter().map(Path::new).collect();
        for a in &paths {
            for b in &paths {
                if is_plain(a) && is_plain(b) {
                    assert_eq!(walk_order(a, b), a.cmp(b), "{a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn the_deepest_place_around_a_path_decides() {
        let map = map(&["/a", "/a/b", "/a/b/c", "/a/b-", "/x"]);
        for (path, covering, above) in [
            ("/a/b", Some("/a/b"), Some("/a")),
            ("/a/b/d", Some("/a/b"), Some("/a/b")),
            ("/a/b/c/d", Some("/a/b/c"), Some("/a/b/c")),
            ("/a/c", Some("/a"), Some("/a")),
            ("/ab", None, None),
            ("/x", Some("/x"), None),
            ("/", None, None),
        ] {
            let path = Path::new(path);
            let place = |found: Option<(&Path, &usize)>| found.map(|it| it.0.to_path_buf());
            assert_eq!(place(map.covering(path)), covering.map(PathBuf::from), "{path:?}");
            assert_eq!(place(map.above(path)), above.map(PathBuf::from), "{path:?}");
        }
        assert!(map.any_in(Path::new("/")) && map.any_in(Path::new("/a/b/c")));
        assert!(!map.any_in(Path::new("/a/b/c/d")) && !map.any_in(Path::new("/a/d")));
    }

    #[test]
    fn a_place_has_one_spelling() {
        for (path, plain) in [
            ("/", true),
            ("/usr/lib", true),
            ("/a/..b", true),
            ("usr", false),
            ("", false),
            ("/usr/", false),
            ("//usr", false),
            ("/usr/./lib", false),
            ("/usr/..", false),
        ] {
            assert_eq!(is_plain(Path::new(path)), plain, "{path}");
        }
    }

    #[test]
    fn a_path_lies_in_itself_and_in_what_is_above_it() {
        for (path, tree, inside) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/a", "/", true),
            ("/ab", "/a", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(lies_in(Path::new(path), Path::new(tree)), inside, "{path} in {tree}");
        }
    }
}
