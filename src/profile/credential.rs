//! Credentials that are lent to a run without being shown to it.
//!
//! A profile says where the secret comes from, outside, and the one place where it goes: a host,
//! methods of requests, a header and its form. Everything else is a mistake, which is reported here.

use serde::{Deserialize, Serialize};

use super::read::Node;
use super::source::Report;
use crate::model::Origin;

/// What of a header stands for the secret.
const SECRET: &str = "{}";
/// As whom `.netrc` logs in, where nobody says otherwise.
const LOGIN: &str = "rung";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub name: String,
    /// An exact host name.
    pub host: String,
    pub methods: Vec<String>,
    pub header: String,
    /// Has [`SECRET`] in it, once.
    pub format: String,
    pub login: String,
    pub source: Source,
    /// In which the run finds a placeholder.
    pub variable: Option<String>,
    pub decoys: Vec<Decoy>,
    pub origin: Origin,
}

/// Where rung takes a secret from, outside of every sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file of the user's own that nobody else may read.
    File(String),
    /// A variable of whoever starts rung.
    Variable(String),
    /// What this program prints.
    Command(Vec<String>),
    /// The key with this description in the kernel's keyring of the user.
    Key(String),
}

/// A file in the run's home that has the placeholder where programs look for a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoy {
    Netrc,
    Npmrc,
    /// Of `gh`.
    GhHosts,
    /// Of `kubectl`.
    Kubeconfig,
}

impl Decoy {
    pub const ALL: [Self; 4] = [Self::Netrc, Self::Npmrc, Self::GhHosts, Self::Kubeconfig];
    /// In the order of `ALL`.
    pub(super) const NAMES: [&str; 4] = ["netrc", "npmrc", "gh-hosts", "kubeconfig"];

    fn named(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|it| *it == name)?;
        Self::ALL.get(at).copied()
    }

    /// Below the home directory.
    pub fn file(self) -> &'static str {
        match self {
            Self::Netrc => ".netrc",
            Self::Npmrc => ".npmrc",
            Self::GhHosts => ".config/gh/hosts.yml",
            Self::Kubeconfig => ".kube/config",
        }
    }
}

/// Reads one; what is wrong with it is reported.
pub(super) fn credential(
    node: &Node,
    name: &str,
    origin: Origin,
    report: &mut Report,
) -> Option<Credential> {
    let text = |key: &str| node.text_of(key).map(str::to_owned);
    let from = node.get("source");
    let said = |key: &str| from.and_then(|it| it.text_of(key)).map(str::to_owned);
    let command = from.map(|it| it.texts_of("command")).filter(|it| !it.is_empty());
    let mut sources = [
        said("file").map(Source::File),
        said("variable").map(Source::Variable),
        command.map(Source::Command),
        said("key").map(Source::Key),
    ]
    .into_iter()
    .flatten();
    let (Some(source), None) = (sources.next(), sources.next()) else {
        let message =
            format!("credential `{name}` needs one source: a file, a variable, a command or a key");
        report.error(&node.place, message);
        return None;
    };
    let format = text("format").unwrap_or_else(|| SECRET.to_owned());
    if format.matches(SECRET).count() != 1 {
        let message =
            format!("the format of credential `{name}` needs `{SECRET}` once, for the secret");
        report.error(&node.place, message);
        return None;
    }
    let header = text("header").unwrap_or_default();
    let token = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    if header.is_empty()
        || !header.bytes().all(token)
        || !format.bytes().all(|it| (b' '..=b'~').contains(&it))
    {
        let message =
            format!("credential `{name}` needs the name of a header, and plain text in `format`");
        report.error(&node.place, message);
        return None;
    }
    let decoys = node.texts_of("decoy");
    let decoys = decoys.iter().filter_map(|it| Decoy::named(it));
    Some(Credential {
        name: name.to_owned(),
        host: text("host")?,
        methods: node.texts_of("methods"),
        header: header.to_ascii_lowercase(),
        format,
        login: text("login").unwrap_or_else(|| LOGIN.to_owned()),
        source,
        variable: text("variable"),
        decoys: decoys.collect(),
        origin,
    })
}
