//! Reads a TOML text by the description and reports everything that does not fit.
//!
//! What comes out holds only what the description knows, in the right shape: whoever takes a
//! value out later need not check it again, and a value that was wrong is simply absent.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::describe::{Key, Shape};
use super::source::{Place, Report, SOURCE_BYTES_MAX, did_you_mean, shown};
use super::text;
use crate::model::{Bytes, Count, Quantity, Span, parse_quantity};

/// A value that fits its description, with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// Sizes in bytes, times in milliseconds.
    Number(u64),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(table) => table.get(key),
            Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => None,
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        match &self.value {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        self.value == Value::Bool(true)
    }

    /// The entries of a list; nothing if it is none.
    pub(super) fn list(&self) -> &[Self] {
        match &self.value {
            Value::List(list) => list,
            Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::Table(_) => &[],
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let table = match &self.value {
            Value::Table(table) => Some(table),
            Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::List(_) => None,
        };
        table.into_iter().flatten().map(|(name, node)| (name.as_str(), node))
    }

    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    pub(super) fn list_of(&self, key: &str) -> &[Self] {
        self.get(key).map_or(&[], Self::list)
    }

    /// The strings of a list, or the one string that stands for it.
    pub(super) fn texts_of(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            None => Vec::new(),
            Some(node) => match node.text() {
                Some(text) => vec![text.to_owned()],
                None => node.list().iter().filter_map(|it| it.text()).map(str::to_owned).collect(),
            },
        }
    }
}

/// Whether a file must say what is marked as required, or only adds to one that has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completeness {
    Whole,
    /// An override: every key of the top level is optional.
    Partial,
}

/// Reads the file with this number.
pub(super) fn read(file: usize, keys: &[Key], whole: Completeness, report: &mut Report) -> Node {
    let text = report.source(file).map_or_else(String::new, |it| it.text.clone());
    let start = report.start(file);
    if text.len() > SOURCE_BYTES_MAX {
        let most = Bytes(SOURCE_BYTES_MAX as u64);
        report.error(&start, format!("the file is larger than {most}"));
        return Node { place: start, value: Value::Table(BTreeMap::new()) };
    }
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        report.error(&Place { file, span }, format!("this is no TOML: {}", shown(error.message())));
    }
    // Guessing on from what a broken line may have meant would only bury the mistake.
    if !errors.is_empty() {
        return Node { place: start, value: Value::Table(BTreeMap::new()) };
    }
    let mut reader = Reader { file, path: Vec::new(), report };
    let table = reader.table(document.get_ref(), keys, start.span.clone(), whole);
    Node { place: start, value: Value::Table(table) }
}

struct Reader<'a> {
    file: usize,
    path: Vec<String>,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place { file: self.file, span }
    }

    fn error(&mut self, span: Range<usize>, message: String, help: Option<String>) {
        let place = self.place(span);
        self.report.error_with_help(&place, message, help);
    }

    /// `limits.wall`
    fn key_path(&self) -> String {
        self.path.join(".")
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        keys: &[Key],
        span: Range<usize>,
        whole: Completeness,
    ) -> BTreeMap<String, Node> {
        let mut read = BTreeMap::new();
        for (name, value) in table {
            let name_text: &str = name.get_ref();
            let Some(key) = keys.iter().find(|it| it.name == name_text) else {
                self.unknown(name_text, name.span(), keys);
                continue;
            };
            self.path.push(name_text.to_owned());
            if let Some(node) = self.value(value, &key.shape) {
                read.insert(name_text.to_owned(), node);
            }
            self.path.pop();
        }
        for key in keys.iter().filter(|it| it.required && whole == Completeness::Whole) {
            if !table.contains_key(key.name) {
                let inside = self.path.last().map(|it| format!(" of `{it}`")).unwrap_or_default();
                self.error(
                    span.clone(),
                    format!("`{}`{inside} is missing", key.name),
                    Some(key.doc.to_owned()),
                );
            }
        }
        read
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, keys: &[Key]) {
        let known: Vec<&str> = keys.iter().map(|it| it.name).collect();
        let help = did_you_mean(name, known.iter().copied())
            .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        let inside = self.path.last().map(|_| format!(" in `{}`", self.key_path()));
        let message = format!("unknown key `{}`{}", shown(name), inside.unwrap_or_default());
        self.error(span, message, Some(help));
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, shape: &Shape) -> Option<Node> {
        let span = value.span();
        let read = match (value.get_ref(), shape) {
            (_, Shape::Either(shapes)) => return self.either(value, shapes),
            (DeValue::String(text), Shape::Text(kind)) => match text::check(*kind, text) {
                Ok(text) => Value::Text(text),
                Err(wrong) => return self.wrong(span, &wrong.message, wrong.help),
            },
            (DeValue::String(text), Shape::Choice(words)) => {
                let word: &str = text;
                if !words.contains(&word) {
                    let help = did_you_mean(word, words.iter().copied());
                    let message = format!("`{}` is not {}", shown(word), choice(words));
                    return self.wrong(span, &message, help);
                }
                Value::Text(word.to_owned())
            }
            (DeValue::String(text), Shape::Size) => {
                self.quantity::<Bytes>(text, &span, |it| it.0)?
            }
            (DeValue::String(text), Shape::Count) => {
                self.quantity::<Count>(text, &span, |it| it.0)?
            }
            (DeValue::String(text), Shape::Time) => {
                self.quantity::<Span>(text, &span, |it| it.0)?
            }
            (DeValue::Integer(number), Shape::Whole(..) | Shape::Count) => {
                let (least, most) = match shape {
                    Shape::Whole(least, most) => (*least, *most),
                    _ => (0, u64::MAX),
                };
                let digits = number.as_str().replace('_', "");
                match u64::from_str_radix(&digits, number.radix()) {
                    Ok(number) if (least..=most).contains(&number) => Value::Number(number),
                    _ => {
                        let bounds = if most == u64::MAX {
                            String::new()
                        } else {
                            format!(" from {least} to {most}")
                        };
                        let message =
                            format!("`{}` is not a whole number{bounds}", number.as_str());
                        return self.wrong(span, &message, None);
                    }
                }
            }
            (DeValue::Boolean(yes), Shape::Bool) => Value::Bool(*yes),
            (DeValue::Array(items), Shape::List(of)) => {
                Value::List(items.iter().filter_map(|it| self.value(it, of)).collect())
            }
            (DeValue::Table(table), Shape::Table(keys)) => {
                Value::Table(self.table(table, keys, span.clone(), Completeness::Whole))
            }
            (DeValue::Table(table), Shape::Map(kind, of)) => {
                let mut read = BTreeMap::new();
                for (name, value) in table {
                    match text::check(*kind, name.get_ref()) {
                        Ok(name) => {
                            if let Some(node) = self.value(value, of) {
                                read.insert(name, node);
                            }
                        }
                        Err(wrong) => {
                            self.error(name.span(), self.about(&wrong.message), wrong.help);
                        }
                    }
                }
                Value::Table(read)
            }
            (found, _) => {
                let message =
                    format!("`{}` must be {}, not {}", self.key_path(), is(shape), kind_of(found));
                self.error(span, message, None);
                return None;
            }
        };
        Some(Node { place: self.place(span), value: read })
    }

    /// `filesystem.read: ...`
    fn about(&self, message: &str) -> String {
        format!("{}: {message}", self.key_path())
    }

    fn wrong(&mut self, span: Range<usize>, message: &str, help: Option<String>) -> Option<Node> {
        let message = self.about(message);
        self.error(span, message, help);
        None
    }

    fn quantity<Q: Quantity>(
        &mut self,
        text: &str,
        span: &Range<usize>,
        base: fn(Q) -> u64,
    ) -> Option<Value> {
        match parse_quantity::<Q>(text) {
            Ok(quantity) => Some(Value::Number(base(quantity))),
            Err(error) => {
                let message = self.about(&shown(&error.to_string()));
                self.error(span.clone(), message, None);
                None
            }
        }
    }

    fn either(&mut self, value: &Spanned<DeValue<'_>>, shapes: &[Shape]) -> Option<Node> {
        let flat = flatten(shapes);
        let mut fitting: Vec<&Shape> =
            flat.iter().copied().filter(|it| takes(it, value.get_ref())).collect();
        // Words that mean themselves come before values that need a unit.
        if let DeValue::String(text) = value.get_ref() {
            let named =
                |it: &&&Shape| matches!(it, Shape::Choice(words) if words.contains(&text.as_ref()));
            if let Some(shape) = fitting.iter().find(named).copied() {
                fitting = vec![shape];
            }
        }
        if let DeValue::Table(table) = value.get_ref() {
            let tagged = |it: &&&Shape| match it {
                Shape::Table(keys) => keys.first().is_some_and(|tag| table.contains_key(tag.name)),
                _ => false,
            };
            if let Some(shape) = fitting.iter().find(tagged).copied() {
                fitting = vec![shape];
            } else if fitting.len() > 1 {
                let tags = tags(&fitting);
                let message =
                    format!("`{}`: a table here has one of the keys {tags}", self.key_path());
                let known: Vec<&str> = fitting.iter().filter_map(|it| first_key(it)).collect();
                let help =
                    table.keys().find_map(|it| did_you_mean(it.get_ref(), known.iter().copied()));
                self.error(value.span(), message, help);
                return None;
            }
        }
        if let Some(shape) = fitting.last() {
            return self.value(value, shape);
        }
        let shapes: Vec<String> = flat.iter().map(|it| is(it)).collect();
        let found = kind_of(value.get_ref());
        let message = format!("`{}` must be {}, not {found}", self.key_path(), shapes.join(" or "));
        self.error(value.span(), message, None);
        None
    }
}

fn flatten(shapes: &[Shape]) -> Vec<&Shape> {
    shapes
        .iter()
        .flat_map(|it| match it {
            Shape::Either(inner) => flatten(inner),
            other => vec![other],
        })
        .collect()
}

fn first_key(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Table(keys) => keys.first().map(|it| it.name),
        _ => None,
    }
}

fn tags(shapes: &[&Shape]) -> String {
    let names: Vec<String> =
        shapes.iter().filter_map(|it| first_key(it)).map(|it| format!("`{it}`")).collect();
    names.join(", ")
}

fn takes(shape: &Shape, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(_) => {
            matches!(
                shape,
                Shape::Text(_) | Shape::Choice(_) | Shape::Size | Shape::Count | Shape::Time
            )
        }
        DeValue::Integer(_) => matches!(shape, Shape::Whole(..) | Shape::Count),
        DeValue::Boolean(_) => matches!(shape, Shape::Bool),
        DeValue::Array(_) => matches!(shape, Shape::List(_)),
        DeValue::Table(_) => matches!(shape, Shape::Table(_) | Shape::Map(..)),
        DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}

fn choice(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|it| format!("`{it}`")).collect();
    match words.as_slice() {
        [only] => only.clone(),
        _ => format!("one of {}", words.join(", ")),
    }
}

/// What a value should be, for messages.
fn is(shape: &Shape) -> String {
    match shape {
        Shape::Text(_) => "a string".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Whole(least, most) => format!("a whole number from {least} to {most}"),
        Shape::Choice(words) => choice(words),
        Shape::Size => Bytes::IS.to_owned(),
        Shape::Count => Count::IS.to_owned(),
        Shape::Time => Span::IS.to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Table(keys) => match keys.first() {
            Some(key) => format!("a table with `{}`", key.name),
            None => "a table".to_owned(),
        },
        Shape::Map(..) => "a table of names".to_owned(),
        Shape::Either(shapes) => shapes.iter().map(is).collect::<Vec<_>>().join(" or "),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
