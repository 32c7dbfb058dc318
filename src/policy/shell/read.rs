//! The reader: bytes in, words out, or the first construct that it does not know.
//!
//! One pass, no recursion, no lookahead beyond a few bytes. Every byte is met in exactly one
//! place below, and what has no arm of its own ends the reading. A rule that holds throughout:
//! where bash takes a line break between a backslash and what follows out of the text, it is
//! accepted only between blanks, so that it can join nothing.

use std::ops::Range;

use super::script::{
    Assignment, Connection, Fill, Filled, Redirect, Script, Simple, Step, Target, Word,
};
use super::{Construct, Limits};
use crate::model::Arg;

type Stop = (Construct, Range<usize>);

/// What bash reads as its own grammar where a command may begin.
const KEYWORDS: [&[u8]; 22] = [
    b"!",
    b"[[",
    b"]]",
    b"{",
    b"}",
    b"case",
    b"coproc",
    b"do",
    b"done",
    b"elif",
    b"else",
    b"esac",
    b"fi",
    b"for",
    b"function",
    b"if",
    b"in",
    b"select",
    b"then",
    b"time",
    b"until",
    b"while",
];

/// How a here-document is written where its text becomes one word.
const COPY_OPENS: &[u8] = b"$(cat <<'";

pub(super) fn read(text: &[u8], limits: &Limits) -> Result<Script, Stop> {
    let reader = Reader {
        text,
        limits,
        at: 0,
        steps: Vec::new(),
        words: 0,
        documents: 0,
        pending: Vec::new(),
        copies: 0,
    };
    reader.script()
}

struct Reader<'t> {
    text: &'t [u8],
    limits: &'t Limits,
    at: usize,
    steps: Vec<Step>,
    words: usize,
    documents: usize,
    /// Here-documents whose text begins on the next line.
    pending: Vec<Pending>,
    /// Of the command that is read.
    copies: usize,
}

struct Pending {
    step: usize,
    redirect: usize,
    delimiter: Range<usize>,
    quoted: bool,
}

/// A word, and how it was written.
struct Written {
    word: Word,
    /// Neither quotes nor backslashes: only such a word can be a keyword or a number.
    plain: bool,
    /// How long the name before an unquoted `=` is, where the word may be an assignment.
    name: Option<usize>,
}

impl Reader<'_> {
    fn script(mut self) -> Result<Script, Stop> {
        let mut wanted_after = None;
        loop {
            self.empty_lines(wanted_after.is_some())?;
            if self.peek().is_none() {
                break;
            }
            if self.steps.len() >= self.limits.commands_max {
                let max = self.limits.commands_max;
                return Err(self.here(Construct::TooManyCommands { max }));
            }
            let command = self.command()?;
            self.steps.push(Step { command, then: Connection::End });
            let (then, operator) = self.connection()?;
            if let Some(step) = self.steps.last_mut() {
                step.then = then;
            }
            wanted_after = operator;
        }
        if let Some(after) = wanted_after {
            return Err(self.here(Construct::Incomplete { after }));
        }
        if let Some(pending) = self.pending.first() {
            let after = "the start of a here-document";
            return Err((Construct::Incomplete { after }, pending.delimiter.clone()));
        }
        if self.steps.is_empty() {
            return Err(self.here(Construct::Empty));
        }
        Ok(Script { steps: self.steps })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The construct begins at the byte that is read next.
    fn here(&self, construct: Construct) -> Stop {
        let end = (self.at + 1).min(self.text.len());
        (construct, self.at..end)
    }

    /// Blanks, and line breaks that a backslash takes back between blanks.
    fn blanks(&mut self) -> Result<(), Stop> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\\') if self.peek_at(1) == Some(b'\n') && self.is_after_blank() => {
                    let joins = matches!(self.peek_at(2), None | Some(b'#'));
                    if joins || !self.pending.is_empty() {
                        return Err(self.here(Construct::Continuation));
                    }
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn is_after_blank(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|it| self.text.get(it));
        matches!(before, None | Some(b' ' | b'\t' | b'\n'))
    }

    /// Everything between two commands that is no command.
    fn empty_lines(&mut self, after_operator: bool) -> Result<(), Stop> {
        loop {
            self.blanks()?;
            match self.peek() {
                Some(b'\n') if after_operator && !self.pending.is_empty() => {
                    return Err(self.here(Construct::HereDocument));
                }
                Some(b'\n') => self.line_end()?,
                Some(b'#') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// To the end of the line, which stays.
    fn comment(&mut self) -> Result<(), Stop> {
        if !self.pending.is_empty() {
            return Err(self.here(Construct::HereDocument));
        }
        self.at += self.rest().iter().take_while(|it| **it != b'\n').count();
        Ok(())
    }

    /// The end of a line, and the here-documents that were announced on it.
    fn line_end(&mut self) -> Result<(), Stop> {
        self.at += 1;
        for pending in std::mem::take(&mut self.pending) {
            let body = self.body(pending.delimiter, pending.quoted)?;
            let text = self.text.get(body).unwrap_or_default().to_vec();
            let step = self.steps.get_mut(pending.step);
            let redirect = step.and_then(|it| it.command.redirects.get_mut(pending.redirect));
            if let Some(redirect) = redirect {
                redirect.target = Target::Text(text);
            }
        }
        Ok(())
    }

    /// The lines up to the one that is the delimiter and nothing else, which is read too.
    fn body(&mut self, delimiter: Range<usize>, quoted: bool) -> Result<Range<usize>, Stop> {
        let start = self.at;
        loop {
            let line_start = self.at;
            let length = self.rest().iter().take_while(|it| **it != b'\n').count();
            let line_end = line_start + length;
            let is_last = line_end == self.text.len();
            if self.text.get(line_start..line_end) == self.text.get(delimiter.clone()) {
                self.at = if is_last { line_end } else { line_end + 1 };
                return Ok(start..line_start);
            }
            if is_last {
                let after = "the start of a here-document";
                return Err((Construct::Incomplete { after }, delimiter));
            }
            let line = self.text.get(line_start..line_end).unwrap_or_default();
            let special = line.iter().position(|it| matches!(it, b'$' | b'`' | b'\\'));
            if let Some(position) = special.filter(|_| !quoted) {
                let place = line_start + position;
                return Err((Construct::HereDocument, place..place + 1));
            }
            self.at = line_end + 1;
        }
    }

    /// What connects the command before to the next one, and whether that one must come.
    fn connection(&mut self) -> Result<(Connection, Option<&'static str>), Stop> {
        let (then, length, wanted) = match (self.peek(), self.peek_at(1)) {
            (None, _) => return Ok((Connection::End, None)),
            (Some(b'\n'), _) => {
                self.line_end()?;
                return Ok((Connection::Next, None));
            }
            (Some(b';'), _) => (Connection::Next, 1, None),
            (Some(b'&'), Some(b'&')) => (Connection::And, 2, Some("`&&`")),
            (Some(b'&'), _) => (Connection::Background, 1, None),
            (Some(b'|'), Some(b'|')) => (Connection::Or, 2, Some("`||`")),
            (Some(b'|'), Some(b'&')) => (Connection::Pipe, 2, Some("`|&`")),
            (Some(b'|'), _) => (Connection::Pipe, 1, Some("`|`")),
            (Some(_), _) => return Err(self.here(Construct::Group)),
        };
        self.at += length;
        Ok((then, wanted))
    }

    fn command(&mut self) -> Result<Simple, Stop> {
        let start = self.at;
        let mut command = Simple {
            assignments: Vec::new(),
            words: Vec::new(),
            redirects: Vec::new(),
            copies: 0,
            span: start..start,
        };
        self.copies = 0;
        loop {
            self.blanks()?;
            match self.peek() {
                Some(b'&') if self.peek_at(1) == Some(b'>') => self.redirect(&mut command)?,
                None | Some(b'\n' | b';' | b'|' | b'&') => break,
                Some(b'<' | b'>') => self.redirect(&mut command)?,
                Some(b'#') => self.comment()?,
                Some(_) => self.word_of(&mut command)?,
            }
        }
        if command.words.is_empty()
            && command.assignments.is_empty()
            && command.redirects.is_empty()
        {
            return Err(self.here(Construct::EmptyCommand));
        }
        command.copies = self.copies;
        command.span.end = self.at;
        Ok(command)
    }

    /// The next word, put where it belongs: before the program, the program, an argument, or the
    /// number of a redirected descriptor.
    fn word_of(&mut self, command: &mut Simple) -> Result<(), Stop> {
        let before_program = command.words.is_empty();
        let Written { word, plain, name } = self.word(before_program)?;
        let span = word.span.clone();
        if matches!(self.peek(), Some(b'<' | b'>')) {
            match (plain && word.filled.is_none(), word.start.as_bytes()) {
                (true, [b'0'..=b'9']) => {
                    self.words -= 1;
                    return self.redirect(command);
                }
                (true, digits) if digits.iter().all(u8::is_ascii_digit) => {
                    return Err((Construct::RedirectForm, span));
                }
                _ => {}
            }
        }
        if let Some(length) = name {
            let bytes = word.start.as_bytes();
            let name = bytes.get(..length).unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let value = bytes.get(length + 1..).unwrap_or_default().to_vec();
            // NOTE: the value of an assignment is neither split nor matched against files.
            let filled = word.filled.map(|it| Filled { splits: false, ..it });
            let value = Word { start: arg(value, &span)?, filled, span: span.clone() };
            command.assignments.push(Assignment { name, value, span });
            return Ok(());
        }
        if before_program {
            let Some(program) = word.literal() else {
                return Err((Construct::ProgramFilledIn, span));
            };
            let program = program.as_bytes();
            if plain && KEYWORDS.contains(&program) {
                let word = String::from_utf8_lossy(program).into_owned();
                return Err((Construct::Keyword { word }, span));
            }
            let named = !program.is_empty() && program.iter().all(u8::is_ascii_graphic);
            if !named || program.starts_with(b"%") {
                return Err((Construct::ProgramName, span));
            }
        }
        command.words.push(word);
        Ok(())
    }

    fn redirect(&mut self, command: &mut Simple) -> Result<(), Stop> {
        let start = self.at;
        let (operator, length) = operator(self.rest());
        self.at += length;
        let target: fn(Arg) -> Target = match operator {
            Operator::Unusual => return Err((Construct::RedirectForm, start..self.at)),
            Operator::Process => return Err((Construct::ProcessSubstitution, start..self.at)),
            Operator::Document => return self.here_document(command, start),
            Operator::Duplicate => {
                let is_target = matches!(self.peek(), Some(b'0'..=b'9' | b'-'));
                let ends =
                    matches!(self.peek_at(1), None | Some(b' ' | b'\t' | b'\n' | b';' | b'|'));
                if !is_target || !ends {
                    return Err((Construct::RedirectForm, start..self.at));
                }
                self.at += 1;
                let span = start..self.at;
                command.redirects.push(Redirect { target: Target::Descriptor, span });
                return Ok(());
            }
            Operator::Read => Target::Read,
            Operator::Write => Target::Write,
            Operator::ReadWrite => Target::ReadWrite,
            Operator::String => |word| Target::Text(word.as_bytes().to_vec()),
        };
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        if matches!(self.peek(), None | Some(b'\n' | b';' | b'|' | b'&' | b'<' | b'>' | b'#')) {
            return Err((Construct::RedirectTarget, start..self.at));
        }
        let written = self.word(false)?;
        let span = start..self.at;
        let Some(word) = written.word.literal().cloned() else {
            return Err((Construct::RedirectTarget, span));
        };
        let bytes = word.as_bytes();
        // `> 2>x`: here, too, bash takes the digits for a descriptor's number.
        let is_number = written.plain && bytes.iter().all(u8::is_ascii_digit);
        let is_next = is_number && matches!(self.peek(), Some(b'<' | b'>'));
        if is_next || (bytes.is_empty() && operator != Operator::String) {
            return Err((Construct::RedirectTarget, span));
        }
        if bytes.starts_with(b"/dev/tcp/") || bytes.starts_with(b"/dev/udp/") {
            return Err((Construct::Network, span));
        }
        command.redirects.push(Redirect { target: target(word), span });
        Ok(())
    }

    /// `<<'END'`, `<<"END"` or `<<END`; the text comes with the end of the line.
    fn here_document(&mut self, command: &mut Simple, start: usize) -> Result<(), Stop> {
        if self.documents >= self.limits.here_documents_max {
            let max = self.limits.here_documents_max;
            return Err((Construct::TooManyHereDocuments { max }, start..self.at));
        }
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let quote = self.peek().filter(|it| matches!(it, b'\'' | b'"'));
        self.at += usize::from(quote.is_some());
        let length = name_length(self.rest());
        let delimiter = self.at..self.at + length;
        self.at += length;
        let closed = quote.is_none() || self.peek() == quote;
        self.at += usize::from(quote.is_some());
        let ends =
            matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b';' | b'|' | b'&' | b'<' | b'>'));
        if length == 0 || !closed || !ends {
            return Err((Construct::HereDocument, start..self.at.min(self.text.len())));
        }
        self.documents += 1;
        self.pending.push(Pending {
            step: self.steps.len(),
            redirect: command.redirects.len(),
            delimiter,
            quoted: quote.is_some(),
        });
        let span = start..self.at;
        command.redirects.push(Redirect { target: Target::Text(Vec::new()), span });
        Ok(())
    }

    /// One word, up to the next byte that ends words.
    fn word(&mut self, may_assign: bool) -> Result<Written, Stop> {
        let start = self.at;
        let mut bytes = Vec::new();
        let mut filled: Option<Filled> = None;
        let mut plain = true;
        let mut name = None;
        let mut braces = None;
        while let Some(byte) = self.peek() {
            let add = match byte {
                b' ' | b'\t' | b'\n' | b'|' | b'&' | b';' | b'<' | b'>' => break,
                b'(' | b')' => return Err(self.here(Construct::Group)),
                b'`' => return Err(self.here(Construct::Backtick)),
                b'\'' => {
                    plain = false;
                    Piece::Text(self.single_quoted()?)
                }
                b'"' => {
                    plain = false;
                    self.double_quoted()?
                }
                b'\\' => {
                    plain = false;
                    Piece::Text(self.escaped()?)
                }
                b'$' => self.dollar(false)?,
                b'*' | b'?' => {
                    self.at += 1;
                    Piece::Filled(Filled { by: Fill::Pattern, splits: true })
                }
                b'[' if may_assign && plain && is_name(&bytes) => {
                    return Err(self.here(Construct::Subscript));
                }
                b'[' => self.bracket(start),
                b'~' if self.is_home(start) => {
                    self.at += 1;
                    Piece::Filled(Filled { by: Fill::Home, splits: false })
                }
                b'{' => {
                    braces = Some(self.at);
                    Piece::Text(self.braces()?)
                }
                b'=' if may_assign && plain && name.is_none() && filled.is_none() => {
                    if is_name(&bytes) {
                        name = Some(bytes.len());
                    } else if bytes.strip_suffix(b"+").is_some_and(is_name) {
                        return Err(self.here(Construct::Appending));
                    }
                    self.at += 1;
                    Piece::Text(vec![byte])
                }
                _ => Piece::Text(self.run(is_ordinary)),
            };
            append(&mut bytes, &mut filled, add);
            if bytes.len() > self.limits.word_bytes_max {
                let max = self.limits.word_bytes_max;
                return Err((Construct::WordTooLong { max }, start..self.at));
            }
        }
        let span = start..self.at;
        let could_expand = |it: &[u8]| it.contains(&b',') || it.windows(2).any(|two| two == b"..");
        if let Some(place) = braces
            && (filled.is_some() || could_expand(&bytes))
        {
            return Err((Construct::Braces, place..place + 1));
        }
        if braces == Some(start) && matches!(self.peek(), Some(b'<' | b'>')) {
            return Err((Construct::RedirectForm, span)); // `{name}>file` opens a descriptor
        }
        self.words += 1;
        if self.words > self.limits.words_max {
            let max = self.limits.words_max;
            return Err((Construct::TooManyWords { max }, span));
        }
        let word = Word { start: arg(bytes, &span)?, filled, span };
        Ok(Written { word, plain, name })
    }

    /// The next byte, and those behind it that mean nothing to the shell.
    fn run(&mut self, is_ordinary: impl Fn(u8) -> bool) -> Vec<u8> {
        let more = self.rest().iter().skip(1).take_while(|it| is_ordinary(**it)).count();
        let text = self.rest().get(..=more).unwrap_or_default().to_vec();
        self.at += text.len();
        text
    }

    fn single_quoted(&mut self) -> Result<Vec<u8>, Stop> {
        let opens = self.at;
        self.at += 1;
        let Some(length) = self.rest().iter().position(|it| *it == b'\'') else {
            return Err((Construct::UnclosedQuote, opens..opens + 1));
        };
        let text = self.rest().get(..length).unwrap_or_default().to_vec();
        if text.contains(&b'\n') && !self.pending.is_empty() {
            return Err((Construct::HereDocument, opens..opens + 1));
        }
        self.at += length + 1;
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<Piece, Stop> {
        let opens = self.at;
        self.at += 1;
        if self.rest().starts_with(COPY_OPENS) {
            return self.copied(opens);
        }
        let mut bytes = Vec::new();
        let mut filled = None;
        loop {
            let add = match self.peek() {
                None => return Err((Construct::UnclosedQuote, opens..opens + 1)),
                Some(b'"') => break,
                Some(b'`') => return Err(self.here(Construct::Backtick)),
                Some(b'\n') if !self.pending.is_empty() => {
                    return Err(self.here(Construct::HereDocument));
                }
                Some(b'$') => self.dollar(true)?,
                Some(b'\\') => match self.peek_at(1) {
                    None => return Err(self.here(Construct::TrailingBackslash)),
                    Some(b'\n') => return Err(self.here(Construct::Continuation)),
                    Some(next @ (b'$' | b'`' | b'"' | b'\\')) => {
                        self.at += 2;
                        Piece::Text(vec![next])
                    }
                    Some(_) => {
                        self.at += 1;
                        Piece::Text(vec![b'\\'])
                    }
                },
                Some(_) => {
                    Piece::Text(self.run(|it| !matches!(it, b'"' | b'`' | b'$' | b'\\' | b'\n')))
                }
            };
            append(&mut bytes, &mut filled, add);
        }
        self.at += 1;
        Ok(match filled {
            None => Piece::Text(bytes),
            Some(filled) => Piece::Both(bytes, filled),
        })
    }

    /// `"$(cat <<'END'` up to `END` and `)"`: how a text of several lines is passed as one word.
    /// The shell takes the line breaks at its end away.
    fn copied(&mut self, opens: usize) -> Result<Piece, Stop> {
        let refuse = || (Construct::Substitution, opens..opens + 2);
        if !self.pending.is_empty() || self.documents >= self.limits.here_documents_max {
            return Err(refuse());
        }
        self.at += COPY_OPENS.len();
        let length = name_length(self.rest());
        let delimiter = self.at..self.at + length;
        self.at += length;
        if length == 0 || !self.rest().starts_with(b"'\n") {
            return Err(refuse());
        }
        self.at += 2;
        let body = self.body(delimiter, true)?;
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        if !self.rest().starts_with(b")\"") {
            return Err(refuse());
        }
        self.at += 2;
        self.documents += 1;
        self.copies += 1;
        let body = self.text.get(body).unwrap_or_default();
        let end = body.iter().rposition(|it| *it != b'\n').map_or(0, |it| it + 1);
        Ok(Piece::Text(body.get(..end).unwrap_or_default().to_vec()))
    }

    fn escaped(&mut self) -> Result<Vec<u8>, Stop> {
        match self.peek_at(1) {
            None => Err(self.here(Construct::TrailingBackslash)),
            Some(b'\n') => Err(self.here(Construct::Continuation)),
            Some(byte) => {
                self.at += 2;
                Ok(vec![byte])
            }
        }
    }

    fn dollar(&mut self, quoted: bool) -> Result<Piece, Stop> {
        let start = self.at;
        let stop = |construct| Err((construct, start..start + 2));
        let variable = Piece::Filled(Filled { by: Fill::Variable, splits: !quoted });
        match self.peek_at(1) {
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'_') => {
                self.at += 1;
                self.at += name_length(self.rest());
                Ok(variable)
            }
            Some(b'{') => {
                self.at += 2;
                let length = name_length(self.rest());
                self.at += length;
                if length == 0 || self.peek() != Some(b'}') {
                    return stop(Construct::Expansion);
                }
                self.at += 1;
                Ok(variable)
            }
            Some(b'?') => {
                self.at += 2;
                Ok(variable)
            }
            Some(b'(') if self.peek_at(2) == Some(b'(') => stop(Construct::Arithmetic),
            Some(b'[') => stop(Construct::Arithmetic),
            Some(b'(') => stop(Construct::Substitution),
            Some(b'\'') if !quoted => stop(Construct::AnsiQuote),
            Some(b'"') if !quoted => stop(Construct::TranslatedQuote),
            Some(b'0'..=b'9' | b'@' | b'*' | b'#' | b'-' | b'$' | b'!') => {
                stop(Construct::SpecialVariable)
            }
            // At the end of a word it stands for itself, as in `grep 'x$'` without its quotes.
            None | Some(b' ' | b'\t' | b'\n') if !quoted => self.literal_dollar(),
            Some(b'"' | b' ' | b'|' | b'/' | b'.' | b',' | b')' | b';' | b'%') if quoted => {
                self.literal_dollar()
            }
            _ => Err((Construct::Dollar, start..start + 1)),
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "an arm beside others that may fail")]
    fn literal_dollar(&mut self) -> Result<Piece, Stop> {
        self.at += 1;
        Ok(Piece::Text(b"$".to_vec()))
    }

    /// A word that is `[` and nothing else is the program; any other bracket begins a pattern.
    fn bracket(&mut self, start: usize) -> Piece {
        let alone = self.at == start
            && matches!(self.peek_at(1), None | Some(b' ' | b'\t' | b'\n' | b';' | b'&' | b'|'));
        self.at += 1;
        if alone {
            return Piece::Text(b"[".to_vec());
        }
        Piece::Filled(Filled { by: Fill::Pattern, splits: true })
    }

    /// Where bash could replace `~`: at the start of a word, and behind what could be an
    /// assignment in it.
    fn is_home(&self, start: usize) -> bool {
        let before = self.at.checked_sub(1).and_then(|it| self.text.get(it));
        self.at == start || matches!(before, Some(b'=' | b':' | b'\'' | b'"'))
    }

    /// `{}`, and `{1}` as in `HEAD@{1}`, stand for themselves.
    fn braces(&mut self) -> Result<Vec<u8>, Stop> {
        let inner =
            self.rest().iter().skip(1).take_while(|it| is_plain_inside_braces(**it)).count();
        if self.peek_at(1 + inner) != Some(b'}') {
            return Err(self.here(Construct::Braces));
        }
        let length = inner + 2;
        let text = self.rest().get(..length).unwrap_or_default().to_vec();
        self.at += length;
        Ok(text)
    }
}

/// What a part of a word adds to it.
enum Piece {
    Text(Vec<u8>),
    Filled(Filled),
    /// Text, and then what is filled in.
    Both(Vec<u8>, Filled),
}

/// Only what stands before the first thing that is filled in is certain.
fn append(bytes: &mut Vec<u8>, filled: &mut Option<Filled>, piece: Piece) {
    let (text, more) = match piece {
        Piece::Text(text) => (text, None),
        Piece::Filled(more) => (Vec::new(), Some(more)),
        Piece::Both(text, more) => (text, Some(more)),
    };
    if filled.is_none() {
        bytes.extend(text);
    }
    *filled = match (*filled, more) {
        (Some(first), Some(more)) => Some(Filled { splits: first.splits || more.splits, ..first }),
        (first, more) => first.or(more),
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Read,
    Write,
    ReadWrite,
    /// `>&`, `<&`
    Duplicate,
    /// `<<`
    Document,
    /// `<<<`
    String,
    Process,
    Unusual,
}

/// The redirection that the text begins with, and its length.
fn operator(text: &[u8]) -> (Operator, usize) {
    match text {
        [b'<', b'<', b'<', ..] => (Operator::String, 3),
        [b'<', b'<', b'-', ..] => (Operator::Unusual, 3),
        [b'<', b'<', ..] => (Operator::Document, 2),
        [b'<', b'>', ..] => (Operator::ReadWrite, 2),
        [b'<' | b'>', b'&', ..] => (Operator::Duplicate, 2),
        [b'<' | b'>', b'(', ..] => (Operator::Process, 2),
        [b'<', ..] => (Operator::Read, 1),
        [b'>', b'>' | b'|', ..] => (Operator::Write, 2),
        [b'>', ..] => (Operator::Write, 1),
        [b'&', b'>', b'>', ..] => (Operator::Write, 3),
        [b'&', b'>', ..] => (Operator::Write, 2),
        _ => (Operator::Unusual, 1),
    }
}

/// How many of the first bytes are a variable's name.
fn name_length(text: &[u8]) -> usize {
    let part = |it: &&u8| it.is_ascii_alphanumeric() || **it == b'_';
    match text.first() {
        Some(first) if first.is_ascii_digit() => 0,
        _ => text.iter().take_while(part).count(),
    }
}

fn is_name(bytes: &[u8]) -> bool {
    !bytes.is_empty() && name_length(bytes) == bytes.len()
}

/// Bytes of a word that need no second look.
fn is_ordinary(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'+' | b',' | b'%')
}

fn is_plain_inside_braces(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn arg(bytes: Vec<u8>, span: &Range<usize>) -> Result<Arg, Stop> {
    Arg::new(bytes).map_err(|_| (Construct::Invisible { letter: '\0' }, span.clone()))
}
