//! Where profiles come from and what is wrong with them: sources, places in them, problems.
//!
//! A problem always names a file, a line and a column, because the person who reads it wrote that
//! line. Nothing is printed here: a [`Findings`] is text or JSON for whoever asks.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level as Mark, Renderer, Snippet};
use serde::Serialize;

use crate::model::Origin;

/// A longer profile is nothing a person reviews.
pub(super) const SOURCE_BYTES_MAX: usize = 1 << 20;

/// One file, as text with a name; reading it is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What messages call it: `level-3.toml`, `packs/rust.toml`, `/etc/rung/level-3.toml`. The last
    /// component (for a pack the last two) says what it is.
    pub name: String,
    pub text: String,
}

/// Files of equal authority. The first layer is rung's own; each one after it may only tighten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What messages call it: `built-in`, `/etc/rung`.
    pub name: String,
    pub sources: Vec<Source>,
}

/// A stretch of one of the files that are being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) span: Range<usize>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    #[serde(skip)]
    place: Place,
}

/// Everything that was found in a set of files, in their order: errors, and oddities where they
/// were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    problems: Vec<Problem>,
    sources: Vec<Source>,
}

impl Findings {
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|it| it.severity == Severity::Error)
    }

    /// A list of objects with `severity`, `file`, `line`, `column`, `message` and perhaps `help`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!(self.problems)
    }

    /// The problems with their lines and a caret below each.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let rendered: Vec<String> =
            self.problems.iter().map(|problem| self.render_one(problem, &renderer)).collect();
        rendered.join("\n\n")
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let mark = match problem.severity {
            Severity::Error => Mark::ERROR,
            Severity::Warning => Mark::WARNING,
        };
        let text = self.sources.get(problem.place.file).map_or("", |it| it.text.as_str());
        let snippet = Snippet::source(text)
            .path(problem.file.as_str())
            .annotation(AnnotationKind::Primary.span(problem.place.span.clone()));
        let mut group = mark.primary_title(problem.message.as_str()).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Mark::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Findings {}

/// The files being read, and what was found wrong with them so far.
#[derive(Debug)]
pub(super) struct Report {
    sources: Vec<Source>,
    /// Byte offsets at which lines start, per source.
    lines: Vec<Vec<usize>>,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { sources: Vec::new(), lines: Vec::new(), problems: Vec::new() }
    }

    /// Takes a file in and returns the number that [`Place`]s call it by.
    pub(super) fn add(&mut self, source: &Source) -> usize {
        let starts = std::iter::once(0)
            .chain(source.text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        self.lines.push(starts);
        self.sources.push(source.clone());
        self.sources.len() - 1
    }

    pub(super) fn source(&self, file: usize) -> Option<&Source> {
        self.sources.get(file)
    }

    /// The first character of a file, for what is wrong with it as a whole.
    pub(super) fn start(&self, file: usize) -> Place {
        let first = self.source(file).and_then(|it| it.text.chars().next());
        Place { file, span: 0..first.map_or(0, char::len_utf8) }
    }

    pub(super) fn file_name(&self, place: &Place) -> &str {
        self.sources.get(place.file).map_or("", |it| it.name.as_str())
    }

    pub(super) fn line(&self, place: &Place) -> u32 {
        let starts = self.lines.get(place.file).map_or(&[] as &[usize], Vec::as_slice);
        let line = starts.partition_point(|start| *start <= place.span.start);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    fn column(&self, place: &Place) -> u32 {
        let text = self.sources.get(place.file).map_or("", |it| it.text.as_str());
        let before = text.get(..place.span.start).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or("");
        u32::try_from(line.chars().count() + 1).unwrap_or(u32::MAX)
    }

    pub(super) fn origin(&self, place: &Place, because: &str) -> Origin {
        Origin {
            file: self.file_name(place).into(),
            line: self.line(place),
            because: because.into(),
        }
    }

    /// `level-3.toml:41`
    pub(super) fn at(&self, place: &Place) -> String {
        format!("{}:{}", self.file_name(place), self.line(place))
    }

    pub(super) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), None);
    }

    pub(super) fn error_with_help(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.push(Severity::Error, place, message.into(), help);
    }

    pub(super) fn warning(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), None);
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String, help: Option<String>) {
        let problem = Problem {
            severity,
            file: self.file_name(place).to_owned(),
            line: self.line(place),
            column: self.column(place),
            message,
            help,
            place: place.clone(),
        };
        // One mistake in a file that several levels share is still one mistake.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|it| it.severity == Severity::Error)
    }

    /// The errors, if there are any.
    pub(super) fn into_error(mut self) -> Option<Findings> {
        self.problems.retain(|it| it.severity == Severity::Error);
        self.has_errors().then(|| self.into_findings())
    }

    /// Everything found, warnings too, in the order of the files.
    pub(super) fn into_findings(self) -> Findings {
        let mut problems = self.problems;
        problems.sort_by_key(|it| (it.place.file, it.place.span.start));
        Findings { problems, sources: self.sources }
    }
}

/// A user's word as it may stand in a message: control and invisible characters escaped.
pub(super) fn shown(word: &str) -> String {
    word.chars()
        .map(|it| if is_unseen(it) { it.escape_unicode().to_string() } else { it.to_string() })
        .collect()
}

/// Characters that a reviewer cannot see or that reorder what he sees.
pub(super) fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|it| (distance(word, it), it))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, it)| it)
}

pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let meant: Option<&'a str> = nearest(word, known);
    meant.map(|it| format!("did you mean `{it}`?"))
}

/// Letters to change, insert, leave out or swap with a neighbour to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut left = None;
    for (row, letter) in a.chars().take(64).enumerate() {
        let mut current = vec![row + 1];
        let mut above = None;
        for (column, other) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX);
            let change = at(&last, column) + usize::from(letter != *other);
            let mut best = change.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            if left == Some(*other) && above == Some(letter) && column > 0 {
                best = best.min(at(&before_last, column - 1).saturating_add(1));
            }
            current.push(best);
            above = Some(*other);
        }
        left = Some(letter);
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = ["filesystem", "exec", "limits", "environment"];
        let check = |word: &str, meant: Option<&str>| assert_eq!(nearest(word, known), meant);
        check("filesytem", Some("filesystem"));
        check("exce", Some("exec"));
        check("limit", Some("limits"));
        check("network", None);
        check("", None);
    }

    #[test]
    fn unseen_characters_do_not_reach_a_message() {
        assert_eq!(shown("a\u{202e}b\nc"), "a\\u{202e}b\\u{a}c");
    }
}
