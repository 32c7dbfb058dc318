//! The files of all layers, read: which level or pack each is, and what is wrong with it.

use std::collections::BTreeMap;

use super::commands;
use super::describe::{LEVEL, PACK};
use super::read::{Completeness, Node, read};
use super::source::{Layer, Report, Source, did_you_mean, shown};
use crate::model::Level;

/// One file, read.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) file: usize,
    pub(super) node: Node,
    /// 0 is rung's own layer.
    pub(super) layer: usize,
}

/// Every file that could have a say.
#[derive(Debug)]
pub(super) struct Library {
    /// Highest authority first.
    pub(super) levels: BTreeMap<Level, Vec<Document>>,
    pub(super) packs: BTreeMap<String, Document>,
    pub(super) layers: Vec<String>,
}

/// What a file is, by its name.
enum Kind {
    Level(Level),
    Pack(String),
}

impl Library {
    /// Reads all files of all layers, so that all mistakes are reported at once.
    pub(super) fn open(layers: &[Layer], report: &mut Report) -> Self {
        let names = layers.iter().map(|it| it.name.clone()).collect();
        let mut library = Self { levels: BTreeMap::new(), packs: BTreeMap::new(), layers: names };
        for (layer, sources) in layers.iter().enumerate() {
            for source in &sources.sources {
                library.add(source, layer, report);
            }
        }
        library
    }

    fn add(&mut self, source: &Source, layer: usize, report: &mut Report) {
        let file = report.add(source);
        let start = report.start(file);
        match kind(&source.name) {
            None => report.error_with_help(
                &start,
                format!("`{}` is neither a level nor a pack", shown(&source.name)),
                Some(
                    "a level is called `level-1.toml` to `level-6.toml`, a pack `packs/NAME.toml`"
                        .to_owned(),
                ),
            ),
            Some(Kind::Level(level)) => {
                let whole = if layer == 0 { Completeness::Whole } else { Completeness::Partial };
                let node = read(file, &LEVEL, whole, report);
                let exec = node.get("exec");
                let of = |key| exec.map_or(&[] as &[Node], |it| it.list_of(key));
                commands::check_all(of("program"), of("rule"), false, report);
                let documents = self.levels.entry(level).or_default();
                let document = Document { file, node, layer };
                check_header(&document, documents.first(), level, report);
                documents.push(document);
            }
            Some(Kind::Pack(name)) => {
                let node = read(file, &PACK, Completeness::Whole, report);
                commands::check_all(node.list_of("program"), node.list_of("rule"), true, report);
                check_toolchain(&node, report);
                if let Some(said) =
                    node.get("pack").filter(|it| it.text().is_some_and(|it| it != name))
                {
                    report.error(
                        &said.place,
                        format!("the file is called `{name}.toml`, so the pack is `{name}`"),
                    );
                }
                if let Some(first) = self.packs.get(&name) {
                    let message =
                        format!("pack `{name}` is already {}", report.at(&first.node.place));
                    report.error(&start, message);
                    return;
                }
                self.packs.insert(name, Document { file, node, layer });
            }
        }
    }

    /// The level whose built-in profile has this name.
    pub(super) fn level_named(&self, name: &str) -> Option<Level> {
        self.levels.iter().find_map(|(level, documents)| {
            (documents.first()?.node.text_of("name")? == name).then_some(*level)
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.levels.values().filter_map(|it| it.first()?.node.text_of("name"))
    }

    pub(super) fn pack(&self, item: &Node, name: &str, report: &mut Report) -> Option<&Document> {
        let pack = self.packs.get(name);
        if pack.is_none() {
            let help = did_you_mean(name, self.packs.keys().map(String::as_str));
            report.error_with_help(&item.place, format!("there is no pack `{name}`"), help);
        }
        pack
    }
}

fn kind(name: &str) -> Option<Kind> {
    let mut parts = name.rsplit('/');
    let stem = parts.next()?.strip_suffix(".toml")?;
    if parts.next() == Some("packs") {
        return Some(Kind::Pack(stem.to_owned()));
    }
    let number: u8 = stem.strip_prefix("level-")?.parse().ok()?;
    Level::try_from(number).ok().map(Kind::Level)
}

/// What the file says about itself must agree with its name and with the layer above.
fn check_header(document: &Document, first: Option<&Document>, level: Level, report: &mut Report) {
    let node = &document.node;
    let number = u64::from(level.number());
    if let Some(said) = node.get("level").filter(|it| it.number().is_some_and(|it| it != number)) {
        report.error(
            &said.place,
            format!("the file is called `level-{level}.toml`, so its level is {level}"),
        );
    }
    let Some(first) = first else {
        if document.layer > 0 {
            let message =
                format!("there is no built-in `level-{level}.toml` that this could override");
            report.error(&node.place, message);
        }
        return;
    };
    if first.layer == document.layer {
        report.error(
            &node.place,
            format!("level {level} is already {}", report.at(&first.node.place)),
        );
    }
    for key in ["name", "extends"] {
        let Some(said) = node.get(key) else { continue };
        if said.text() != first.node.text_of(key) {
            let upper = first
                .node
                .get(key)
                .map_or_else(|| report.at(&first.node.place), |it| report.at(&it.place));
            report.error(&said.place, format!("`{key}` is decided by {upper} and stays as it is"));
        }
    }
}

/// What a toolchain names must lie in the directories it opens.
fn check_toolchain(node: &Node, report: &mut Report) {
    let Some(toolchain) = node.get("toolchain") else { return };
    let directories = toolchain.texts_of("directories");
    let inside = |path: &str| {
        let below = |it: &String| {
            path.strip_prefix(it.as_str()).is_some_and(|it| it.is_empty() || it.starts_with('/'))
        };
        directories.iter().any(below)
    };
    for key in ["search_path", "credentials"] {
        for entry in toolchain.list_of(key) {
            if entry.text().is_some_and(|it| !inside(it)) {
                let message = format!(
                    "`{}` lies in none of the toolchain's `directories`",
                    entry.text().unwrap_or("")
                );
                report.error(&entry.place, message);
            }
        }
    }
}
