//! The repository's files as the tidy checks see them.
//!
//! The one idea: a check must not be fooled by what a comment or a string says, so every Rust
//! file is kept twice, as written and as code. In the code, comments and the contents of
//! literals are blanks and items under `#[cfg(test)]` are gone; lines keep their numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that are never part of the repository.
const NOT_OURS: &[&str] = &[".git", "target"];

/// One file, by its path from the top of the repository.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// Empty for a file that is not Rust.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut file = Self { path: path.to_owned(), text: text.to_owned(), code: String::new() };
        if file.is_rust() {
            file.code = without_unit_tests(&blanked(text));
        }
        file
    }

    pub(super) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|it| it == "rs")
    }

    /// The top-level module of the crate that the file belongs to: `plan` for `src/plan/fs.rs`,
    /// and for `src/plan.rs`. `None` outside `src`.
    pub(super) fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split('/').next()?.split('.').next()
    }

    /// Steps from the crate root down to the file's module: 1 for `src/plan/mod.rs`, 2 for
    /// `src/plan/fs.rs`.
    pub(super) fn depth(&self) -> usize {
        let slashes = self.path.matches('/').count();
        if self.stem() == "mod" { slashes - 1 } else { slashes }
    }

    /// The file's name without its directory and extension.
    pub(super) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }

    /// The words of the code, each with what is around it.
    pub(super) fn words(&self) -> impl Iterator<Item = Found<'_>> {
        let base = self.code.as_ptr().addr();
        let words = self.code.split(|letter| !is_word(letter)).filter(|word| !word.is_empty());
        words.map(move |word| Found::at(&self.code, word.as_ptr().addr() - base, word.len()))
    }

    /// `src/plan/fs.rs:12`, for what was found in the code.
    pub(super) fn place(&self, found: &Found<'_>) -> String {
        format!("{}:{}", self.path, found.before.matches('\n').count() + 1)
    }
}

/// A piece of a text, with all that is before and after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) before: &'a str,
    pub(super) text: &'a str,
    pub(super) after: &'a str,
}

impl<'a> Found<'a> {
    fn at(text: &'a str, offset: usize, length: usize) -> Self {
        let (before, rest) = text.split_at(offset);
        let (text, after) = rest.split_at(length);
        Self { before, text, after }
    }

    /// Neither begins nor ends inside a word.
    pub(super) fn is_whole(&self) -> bool {
        let joins = |left: &str, right: &str| left.ends_with(is_word) && right.starts_with(is_word);
        !joins(self.before, self.text) && !joins(self.text, self.after)
    }

    /// The path that begins here, by its words: `crate`, `plan`, `FsPlan`.
    pub(super) fn path(&self) -> Vec<&'a str> {
        let mut path = vec![self.text];
        let mut rest = self.after;
        while let Some(next) = rest.strip_prefix("::") {
            let end = next.find(|letter| !is_word(letter)).unwrap_or(next.len());
            let (word, after) = next.split_at(end);
            if word.is_empty() {
                break;
            }
            path.push(word);
            rest = after;
        }
        path
    }

    /// Stands after `word::`, and not merely after the `::` before a crate's name.
    pub(super) fn continues_a_path(&self) -> bool {
        let earlier = self.before.strip_suffix("::");
        earlier.is_some_and(|it| it.ends_with(|letter| is_word(letter) || letter == '>'))
    }
}

/// Every place where `text` has `piece`.
pub(super) fn occurrences<'a>(text: &'a str, piece: &str) -> impl Iterator<Item = Found<'a>> {
    text.match_indices(piece).map(move |(offset, it)| Found::at(text, offset, it.len()))
}

/// Every file of the repository that can be read as text.
pub(super) fn repository() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(top, &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths
        .iter()
        .filter_map(|path| {
            let text = String::from_utf8(fs::read(path).unwrap()).ok()?;
            Some(Source::new(path.strip_prefix(top).unwrap().to_str()?, &text))
        })
        .collect();
    assert!(sources.iter().any(|it| it.path == "src/lib.rs"), "{} has no sources", top.display());
    sources
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if NOT_OURS.iter().any(|it| entry.file_name() == *it) {
            continue;
        }
        if kind.is_dir() {
            collect(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

pub(super) fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

/// The text with comments and the contents of literals replaced by blanks.
fn blanked(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = end_of_blank(&letters, at);
        let keep = end == at;
        let end = end.max(at + 1).min(letters.len());
        for letter in &letters[at..end] {
            code.push(if keep || *letter == '\n' { *letter } else { ' ' });
        }
        at = end;
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn end_of_blank(letters: &[char], at: usize) -> usize {
    let here = |text: &str, at: usize| {
        text.chars().enumerate().all(|(index, letter)| letters.get(at + index) == Some(&letter))
    };
    let find = |text: &str, from: usize| {
        (from..letters.len()).find(|at| here(text, *at)).unwrap_or(letters.len())
    };
    match letters[at] {
        '/' if here("//", at) => find("\n", at),
        '/' if here("/*", at) => {
            let (mut depth, mut next) = (1, at + 2);
            while depth > 0 && next < letters.len() {
                let (opens, closes) = (here("/*", next), here("*/", next));
                depth = depth + usize::from(opens) - usize::from(closes);
                next += 1 + usize::from(opens || closes);
            }
            next
        }
        '"' => end_of_quoted(letters, at + 1, '"'),
        // A quote begins a literal unless it is a lifetime's.
        '\'' if letters.get(at + 1) == Some(&'\\') || letters.get(at + 2) == Some(&'\'') => {
            end_of_quoted(letters, at + 1, '\'')
        }
        'r' if !at.checked_sub(1).is_some_and(|it| is_word(letters[it]) && letters[it] != 'b') => {
            let hashes = letters[at + 1..].iter().take_while(|it| **it == '#').count();
            if letters.get(at + 1 + hashes) != Some(&'"') {
                return at;
            }
            let close = format!("\"{}", "#".repeat(hashes));
            find(&close, at + 2 + hashes) + close.len()
        }
        _ => at,
    }
}

fn end_of_quoted(letters: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < letters.len() && letters[at] != quote {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The blanked text without the items that `#[cfg(test)]` stands before.
fn without_unit_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, item)) = rest.split_once(MARK) {
        let (gone, after) = item.split_at(end_of_item(item));
        kept.push_str(before);
        kept.extend(gone.chars().filter(|letter| *letter == '\n'));
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// The first `;` outside brackets, or the brace that closes the first block.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0_usize;
    for (offset, letter) in code.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(letter, ';' | '}') {
            return offset + 1;
        }
    }
    code.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    let code = |text: &str| blanked(text).split_whitespace().collect::<Vec<_>>().join(" ");
    for (text, expected) in [
        ("a // b\nc", "a c"),
        ("a /* b /* c */ d */ e", "a e"),
        (r#"a "b \" c" d"#, "a d"),
        ("a '\"' b", "a b"),
        (r"a '\'' b", "a b"),
        ("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)"),
        ("a r#\"b \" c\"# d", "a d"),
        ("for x in y { r#type }", "for x in y { r#type }"),
        ("a b\"c\" d", "a b d"),
        ("a \"b // c", "a"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn what_is_compiled_for_tests_only_is_no_code() {
    let kept = |text: &str| Source::new("src/x.rs", text).code;
    assert_eq!(kept("a\n#[cfg(test)]\nmod tests {\n { }\n}\nb"), "a\n\n\n\n\nb");
    assert_eq!(kept("#[cfg(test)]\nuse x::y;\nb"), "\n\nb");
    assert_eq!(kept("#[cfg(test)]\nfn f(a: [u8; 2]) { c }\nb"), "\n\nb");
    assert_eq!(kept("\"#[cfg(test)]\" b").trim_start(), "b");
}

#[test]
fn a_file_knows_its_module_and_its_depth() {
    for (path, module, depth) in [
        ("src/lib.rs", Some("lib"), 1),
        ("src/engine.rs", Some("engine"), 1),
        ("src/plan/mod.rs", Some("plan"), 1),
        ("src/plan/fs.rs", Some("plan"), 2),
        ("src/front/mcp/mod.rs", Some("front"), 2),
        ("tests/it/main.rs", None, 2),
    ] {
        let source = Source::new(path, "");
        assert_eq!((source.module(), source.depth()), (module, depth), "{path}");
    }
}
