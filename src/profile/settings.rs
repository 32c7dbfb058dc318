//! The few settings that are about no single level: how high a run may climb, where it starts, and
//! who is asked for the addresses of names.
//!
//! They lie in `config.toml`, beside the profiles of the organisation and of the user. The one
//! idea: what the organisation says about the ceiling, the user can only lower. Where it says
//! nothing, the user's own word counts, because then nobody else answers for the machine.

use core::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::describe::{Key, Merge, Shape, Text};
use super::read::{Completeness, Node, read};
use super::source::{Findings, Report, Source};
use crate::model::Level;

/// What `config.toml` is called, in each place.
pub const SETTINGS_FILE: &str = "config.toml";

/// What holds for every run that this user starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The highest level that may be used at all.
    pub ceiling: Level,
    /// The level of a run that names none; never above the ceiling.
    pub default_level: Level,
    /// Whom the gateway asks for addresses; absent, whom the machine asks.
    pub resolver: Option<SocketAddr>,
    /// A file of certificates that the gateway believes beside the machine's.
    pub authorities: Option<String>,
}

impl Default for Settings {
    /// Where no file says anything: tests may be run, but the default is less.
    fn default() -> Self {
        Self {
            ceiling: Level::TestExecution,
            default_level: Level::LocalWrites,
            resolver: None,
            authorities: None,
        }
    }
}

static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let level = |name, doc| Key {
        name,
        doc,
        shape: Shape::Whole(1, 6),
        required: false,
        merge: Merge::File,
    };
    vec![
        level("ceiling", "The highest level that may be used."),
        level("default_level", "The level of a run that names none."),
        Key {
            name: "resolver",
            doc: "The address of the name server that the gateway of a run asks, with or without a port.",
            shape: Shape::Text(Text::Resolver),
            required: false,
            merge: Merge::File,
        },
        Key {
            name: "authorities",
            doc: "A file of certificates that the gateway of a run believes beside the machine's.",
            shape: Shape::Text(Text::ReadPath),
            required: false,
            merge: Merge::File,
        },
    ]
});

/// Reads the organisation's file, then the user's. Either may be absent.
pub fn settings(system: Option<&Source>, user: Option<&Source>) -> Result<Settings, Findings> {
    let mut report = Report::new();
    let mut settings = Settings::default();
    let system = system.map(|source| table(source, &mut report));
    let user = user.map(|source| table(source, &mut report));
    let said = |node: &Option<Node>, key: &str| Said::from(node.as_ref()?.get(key)?);

    let upper = said(&system, "ceiling");
    let lower = said(&user, "ceiling");
    if let (Some(upper), Some(lower)) = (&upper, &lower)
        && lower.level > upper.level
    {
        let message = format!(
            "`ceiling = {}` is higher than the organisation allows: {} says {}",
            lower.level,
            report.at(&upper.node.place),
            upper.level
        );
        let help = Some("a user may only lower the ceiling that the organisation sets".to_owned());
        report.error_with_help(&lower.node.place, message, help);
    }
    if let Some(said) = lower.or(upper) {
        settings.ceiling = said.level;
    }

    let default = said(&user, "default_level").or_else(|| said(&system, "default_level"));
    match default {
        Some(said) if said.level > settings.ceiling => {
            let message = format!(
                "`default_level = {}` is above the ceiling of level {}",
                said.level, settings.ceiling
            );
            report.error(&said.node.place, message);
        }
        Some(said) => settings.default_level = said.level,
        None => settings.default_level = settings.default_level.min(settings.ceiling),
    }
    // Who answers for names answers for where a run goes: the organisation first.
    let resolver = |node: &Option<Node>| resolver(node.as_ref()?.text_of("resolver")?);
    settings.resolver = resolver(&system).or_else(|| resolver(&user));
    let authorities = |node: &Option<Node>| Some(node.as_ref()?.text_of("authorities")?.to_owned());
    settings.authorities = authorities(&system).or_else(|| authorities(&user));
    match report.into_error() {
        Some(findings) => Err(findings),
        None => Ok(settings),
    }
}

/// `127.0.0.53`, `127.0.0.1:5353`, `[::1]:5353`.
pub(super) fn resolver(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    let bare = text.parse::<IpAddr>().map(|it| SocketAddr::new(it, PORT));
    bare.ok().or_else(|| text.parse().ok())
}

fn table(source: &Source, report: &mut Report) -> Node {
    let file = report.add(source);
    read(file, &KEYS, Completeness::Whole, report)
}

/// A level, where it was written.
struct Said {
    node: Node,
    level: Level,
}

impl Said {
    fn from(node: &Node) -> Option<Self> {
        let number = u8::try_from(node.number()?).ok()?;
        Some(Self { node: node.clone(), level: Level::try_from(number).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The organisation's text, the user's, and `ceiling default` or what is wrong and where.
    #[track_caller]
    fn check(system: Option<&str>, user: Option<&str>, expected: &str) {
        let source = |name: &str, text: Option<&str>| {
            text.map(|it| Source { name: name.to_owned(), text: it.to_owned() })
        };
        let (system, user) = (source("system", system), source("user", user));
        let shown = match settings(system.as_ref(), user.as_ref()) {
            Ok(it) => format!("{} {}", it.ceiling, it.default_level),
            Err(findings) => findings
                .problems()
                .iter()
                .map(|it| format!("{}:{}:{} {}", it.file, it.line, it.column, it.message))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn without_files_tests_may_run_and_the_default_is_local_writes() {
        check(None, None, "3 2");
        check(Some(""), Some("# nothing\n"), "3 2");
    }

    #[test]
    fn a_user_alone_may_choose_any_ceiling() {
        check(None, Some("ceiling = 6\ndefault_level = 4"), "6 4");
        check(Some("default_level = 1"), Some("ceiling = 5"), "5 1");
    }

    #[test]
    fn a_user_may_only_lower_the_ceiling_of_the_organisation() {
        check(Some("ceiling = 2"), Some("ceiling = 1"), "1 1");
        check(Some("ceiling = 4"), Some("ceiling = 4\ndefault_level = 3"), "4 3");
        check(
            Some("ceiling = 2"),
            Some("\nceiling = 3"),
            "user:2:11 `ceiling = 3` is higher than the organisation allows: system:1 says 2",
        );
    }

    #[test]
    fn the_default_follows_the_ceiling_down_and_is_never_above_it() {
        check(Some("ceiling = 1"), None, "1 1");
        check(
            Some("ceiling = 2"),
            Some("default_level = 3"),
            "user:1:17 `default_level = 3` is above the ceiling of level 2",
        );
    }

    #[test]
    fn the_organisation_says_who_resolves_names_and_otherwise_the_user() {
        let read = |system: &str, user: &str| {
            let source = |text: &str| Source { name: "file".to_owned(), text: text.to_owned() };
            settings(Some(&source(system)), Some(&source(user))).unwrap().resolver
        };
        let at = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        assert_eq!(read("", ""), None);
        assert_eq!(read("", "resolver = \"127.0.0.1:5353\""), at("127.0.0.1:5353"));
        assert_eq!(read("", "resolver = \"::1\""), at("[::1]:53"));
        assert_eq!(read("resolver = \"10.0.0.1\"", "resolver = \"::1\""), at("10.0.0.1:53"));
        check(
            None,
            Some("resolver = \"dns.example.org\""),
            "user:1:12 resolver: `dns.example.org` is no address of a name server",
        );
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        check(None, Some("cieling = 3"), "user:1:1 unknown key `cieling`");
        check(
            Some("ceiling = 7"),
            Some("default_level = \"two\""),
            "system:1:11 ceiling: `7` is not a whole number from 1 to 6\n\
             user:1:17 `default_level` must be a whole number from 1 to 6, not a string",
        );
    }
}
