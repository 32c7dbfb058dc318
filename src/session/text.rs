//! Changes as text: a unified diff for people, and a patch that `git apply` takes.
//!
//! Names come from code that nobody trusts. For people whatever a terminal would obey is escaped,
//! in names and in lines; in a patch names are quoted as git does it, and lines are as they are.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use similar::TextDiff;

use super::binary::{self, BINARY_BYTES_MAX, Names};
use super::changes::{Change, Kind, Look, Looks, contents};
use super::place::Tree;
use super::repository::names_of;
use super::store::Session;
use super::{SessionError, failed, shown};
use crate::model::Bytes;

/// Longer files are named and not shown.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Lines that a diff shows around a change.
const CONTEXT_LINES: usize = 3;
/// Comparing two very different files may take long; then they differ as a whole.
const COMPARE_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// A change list as text.
#[derive(Debug, Default)]
pub struct Patch {
    pub text: String,
    /// What the text could not hold, a sentence each.
    pub left_out: Vec<String>,
}

/// How a diff is to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// For a terminal: escaped, and in colour if it has colours.
    People { colour: bool },
    /// For `git apply`: as it is.
    Patch,
}

/// Both contents of a change; nothing where there is no text.
enum Sides {
    Text(String, String),
    Binary,
    /// The same with its contents, for a patch; absent where there is no file.
    Whole(Option<Vec<u8>>, Option<Vec<u8>>),
    /// Nothing to compare: a directory, a mode, something special.
    None,
}

/// The unified diff of the changes.
pub fn diff(session: &Session, changes: &[Change], shown_as: Shown) -> Result<Patch, SessionError> {
    let base = session.base()?;
    let written = session.written();
    let layer = Tree::open(&written).map_err(failed("opening", &written))?;
    let mut patch = Patch::default();
    let names = names_of(&session.manifest.base);
    for change in changes {
        let sides = sides(change, &base, &layer).map_err(failed("comparing", &change.path))?;
        match shown_as {
            Shown::Patch => {
                let sides = match sides {
                    Sides::Binary => {
                        whole(change, &base, &layer).map_err(failed("comparing", &change.path))?
                    }
                    sides => sides,
                };
                for_git(&mut patch, change, &sides, names);
            }
            Shown::People { colour } => for_people(&mut patch.text, change, &sides, colour),
        }
    }
    Ok(patch)
}

/// One line for each change: a letter, the name, how many lines, the risks.
pub fn stat(session: &Session, changes: &[Change]) -> Result<String, SessionError> {
    let base = session.base()?;
    let written = session.written();
    let layer = Tree::open(&written).map_err(failed("opening", &written))?;
    let mut text = String::new();
    let (mut added_all, mut removed_all) = (0, 0);
    for change in changes {
        let sides = sides(change, &base, &layer).map_err(failed("comparing", &change.path))?;
        let count = match &sides {
            Sides::Text(before, after) => {
                let (added, removed) = counted(before, after);
                added_all += added;
                removed_all += removed;
                format!(" +{added} -{removed}")
            }
            Sides::Binary | Sides::Whole(..) => format!(
                " binary, {} to {} bytes",
                change.before.as_ref().map_or(0, |it| it.size),
                change.after.as_ref().map_or(0, |it| it.size)
            ),
            Sides::None => String::new(),
        };
        push(&mut text, format_args!("{}{count}\n", line(change)));
    }
    let files = changes.len();
    let files = if files == 1 { "1 change".to_owned() } else { format!("{files} changes") };
    push(&mut text, format_args!("{files}, {added_all} lines added, {removed_all} removed\n"));
    Ok(text)
}

/// `M src/lib.rs  [executable: confirm]`
pub fn line(change: &Change) -> String {
    let mut text = format!("{} {}", letter(change.kind), name(change));
    let mut marks: Vec<String> = change.risks.iter().map(|it| it.name().to_owned()).collect();
    if change.both {
        marks.push("both sides changed".to_owned());
    }
    if !marks.is_empty() {
        push(&mut text, format_args!("  [{}]", marks.join(", ")));
    }
    text
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::Created => 'A',
        Kind::Modified => 'M',
        Kind::Deleted => 'D',
        Kind::Renamed => 'R',
        Kind::Mode => 'm',
        Kind::Attributes => 'x',
        Kind::Replaced => 'T',
    }
}

fn name(change: &Change) -> String {
    let directory =
        |look: &Option<Look>| look.as_ref().is_some_and(|it| it.sort == Looks::Directory);
    let slash = if directory(&change.after) || (change.after.is_none() && directory(&change.before))
    {
        "/"
    } else {
        ""
    };
    let mut text = match &change.from {
        Some(from) => format!("{} -> {}{slash}", shown(from), shown(&change.path)),
        None => format!("{}{slash}", shown(&change.path)),
    };
    if let Some(target) = change.after.as_ref().and_then(|it| it.target.as_ref()) {
        push(&mut text, format_args!(" -> {}", shown(target)));
    }
    if let (Some(before), Some(after)) = (&change.before, &change.after)
        && before.mode != after.mode
        && before.sort == after.sort
    {
        push(&mut text, format_args!(" ({:o} to {:o})", before.mode, after.mode));
    }
    text
}

fn sides(change: &Change, base: &Tree, layer: &Tree) -> std::io::Result<Sides> {
    let compared = |look: &Option<Look>| match look.as_ref().map(|it| it.sort) {
        None | Some(Looks::File | Looks::Link) => true,
        Some(Looks::Directory | Looks::Special) => false,
    };
    let same = matches!(change.kind, Kind::Mode | Kind::Attributes | Kind::Renamed);
    if same || !compared(&change.before) || !compared(&change.after) {
        return Ok(Sides::None);
    }
    let read = |tree: &Tree, look: &Option<Look>| match look {
        Some(_) => contents(tree, &change.path, TEXT_BYTES_MAX),
        None => Ok(Some(Vec::new())),
    };
    let (before, after) = (read(base, &change.before)?, read(layer, &change.after)?);
    let (Some(before), Some(after)) = (before, after) else { return Ok(Sides::Binary) };
    Ok(match (String::from_utf8(before), String::from_utf8(after)) {
        (Ok(before), Ok(after)) if !before.contains('\0') && !after.contains('\0') => {
            Sides::Text(before, after)
        }
        _ => Sides::Binary,
    })
}

fn compared<'a>(before: &'a str, after: &'a str) -> TextDiff<'a, 'a, 'a, str> {
    TextDiff::configure().timeout(COMPARE_TIME).diff_lines(before, after)
}

fn counted(before: &str, after: &str) -> (usize, usize) {
    let diff = compared(before, after);
    diff.iter_all_changes().fold((0, 0), |(added, removed), change| match change.tag() {
        similar::ChangeTag::Insert => (added + 1, removed),
        similar::ChangeTag::Delete => (added, removed + 1),
        similar::ChangeTag::Equal => (added, removed),
    })
}

fn hunks(before: &str, after: &str) -> String {
    compared(before, after).unified_diff().context_radius(CONTEXT_LINES).to_string()
}

// ---- for people ----

fn for_people(text: &mut String, change: &Change, sides: &Sides, colour: bool) {
    let paint = |code: &str, line: &str| {
        if colour { format!("\u{1b}[{code}m{line}\u{1b}[0m") } else { line.to_owned() }
    };
    push(text, format_args!("{}\n", paint("1", &line(change))));
    match sides {
        Sides::None => {}
        Sides::Binary | Sides::Whole(..) => {
            push(text, format_args!("  not shown: not text, or too long\n"));
        }
        Sides::Text(before, after) => {
            for line in hunks(before, after).lines() {
                let line = printable(line);
                let code = match line.as_bytes().first() {
                    Some(b'+') => "32",
                    Some(b'-') => "31",
                    Some(b'@') => "36",
                    _ => "0",
                };
                push(text, format_args!("{}\n", paint(code, &line)));
            }
        }
    }
}

/// A line of a file as it may be printed: what a terminal would obey, or not show, is escaped.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for letter in line.chars() {
        // Backslashes are what files have and mean nothing to a terminal.
        if letter == '\t' || letter == '\\' {
            text.push(letter);
            continue;
        }
        let mut buffer = [0; 4];
        let word = crate::model::Arg::new(letter.encode_utf8(&mut buffer).as_bytes());
        text.push_str(&word.map_or_else(|_| "\\x00".to_owned(), |it| it.to_string()));
    }
    text
}

// ---- for git ----

/// Both contents of a change that is no text, if a patch takes them.
fn whole(change: &Change, base: &Tree, layer: &Tree) -> std::io::Result<Sides> {
    let read = |tree: &Tree, look: &Option<Look>| -> std::io::Result<Option<Option<Vec<u8>>>> {
        match look {
            Some(_) => Ok(contents(tree, &change.path, BINARY_BYTES_MAX)?.map(Some)),
            None => Ok(Some(None)),
        }
    };
    Ok(match (read(base, &change.before)?, read(layer, &change.after)?) {
        (Some(before), Some(after)) => Sides::Whole(before, after),
        _ => Sides::Binary,
    })
}

fn for_git(patch: &mut Patch, change: &Change, sides: &Sides, names: Names) {
    let path = &change.path;
    let mut leave_out = |why: &str| patch.left_out.push(format!("`{}`: {why}", shown(path)));
    let file = |look: &Option<Look>| {
        look.clone().filter(|it| matches!(it.sort, Looks::File | Looks::Link))
    };
    if change.is_of_git() {
        return leave_out("a patch holds nothing of the repository's own data");
    }
    let (before, after) = (file(&change.before), file(&change.after));
    if matches!(sides, Sides::Binary) {
        let why = format!("it is no text and longer than {}", Bytes(BINARY_BYTES_MAX));
        return leave_out(&why);
    }
    if change.kind == Kind::Attributes {
        return leave_out("a patch has no extended attributes");
    }
    match (&before, &after) {
        // Git knows no directories.
        (None, None) => {
            let special =
                |it: &Option<Look>| it.as_ref().is_some_and(|it| it.sort == Looks::Special);
            if special(&change.before) || special(&change.after) {
                leave_out("it is a socket, a pipe or a device");
            }
        }
        _ if change.kind == Kind::Replaced && before.is_some() && after.is_some() => {
            leave_out("a file became a link, or a link a file");
        }
        _ if change.kind == Kind::Replaced => {
            leave_out("a directory was put in place of something else, or the reverse");
        }
        (before, after) => {
            let text = git_text(change, before.as_ref(), after.as_ref(), (sides, names));
            patch.text.push_str(&text);
        }
    }
}

fn git_text(
    change: &Change,
    before: Option<&Look>,
    after: Option<&Look>,
    (sides, names): (&Sides, Names),
) -> String {
    let old_path = change.from.as_deref().unwrap_or(&change.path);
    let (old, new) = (quoted("a/", old_path), quoted("b/", &change.path));
    let mut text = format!("diff --git {old} {new}\n");
    match (before, after) {
        (None, Some(after)) => push(&mut text, format_args!("new file mode {}\n", mode(after))),
        (Some(before), None) => {
            push(&mut text, format_args!("deleted file mode {}\n", mode(before)));
        }
        (Some(before), Some(after)) if mode(before) != mode(after) => {
            let (before, after) = (mode(before), mode(after));
            push(&mut text, format_args!("old mode {before}\nnew mode {after}\n"));
        }
        _ => {}
    }
    if change.kind == Kind::Renamed {
        let (from, to) = (quoted("", old_path), quoted("", &change.path));
        push(
            &mut text,
            format_args!("similarity index 100%\nrename from {from}\nrename to {to}\n"),
        );
    }
    let (old_text, new_text) = match sides {
        Sides::Text(old, new) => (old, new),
        Sides::Whole(old, new) => {
            text.push_str(&binary::patch(old.as_deref(), new.as_deref(), names));
            return text;
        }
        Sides::Binary | Sides::None => return text,
    };
    let hunks = hunks(old_text, new_text);
    if hunks.is_empty() {
        return text;
    }
    let null = || "/dev/null".to_owned();
    let old = if before.is_some() { old } else { null() };
    let new = if after.is_some() { new } else { null() };
    // A tab ends a name with a blank in it, which is otherwise taken to end there.
    let ended = |name: String| if name.contains(' ') { name + "\t" } else { name };
    push(&mut text, format_args!("--- {}\n+++ {}\n{hunks}", ended(old), ended(new)));
    text
}

fn mode(look: &Look) -> &'static str {
    match look.sort {
        Looks::Link => "120000",
        _ if look.mode & 0o100 != 0 => "100755",
        _ => "100644",
    }
}

/// A name as git writes it: in quotes, with escapes, if it has anything but plain letters.
fn quoted(prefix: &str, path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(plain) {
        return format!("{prefix}{}", String::from_utf8_lossy(bytes));
    }
    let mut text = format!("\"{prefix}");
    for byte in bytes {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            byte if plain(byte) => text.push(char::from(*byte)),
            byte => push(&mut text, format_args!("\\{byte:03o}")),
        }
    }
    text.push('"');
    text
}

/// Writing to a string cannot fail.
fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_names_are_quoted_when_they_must_be() {
        assert_eq!(quoted("a/", Path::new("src/lib.rs")), "a/src/lib.rs");
        assert_eq!(quoted("a/", Path::new("a b")), "a/a b");
        assert_eq!(quoted("b/", Path::new("a\nb\"\\")), "\"b/a\\nb\\\"\\\\\"");
        let path = Path::new(std::ffi::OsStr::from_bytes(b"\xff\x1b"));
        assert_eq!(quoted("", path), "\"\\377\\033\"");
    }

    #[test]
    fn no_line_of_a_file_reaches_the_terminal_as_a_command() {
        assert_eq!(printable("a\u{1b}[2J\tb\\n"), "a\\x1b[2J\tb\\n");
        assert!(!printable("a\u{202e}b").contains('\u{202e}'));
    }

    #[test]
    fn a_missing_last_line_end_is_said() {
        let hunks = hunks("a\nb", "a\nc\n");
        assert!(hunks.contains("-b\n\\ No newline at end of file\n+c\n"), "{hunks}");
    }
}
