//! Credentials in a plan: where a secret comes from and the one place where it goes. The secret itself
//! is in no plan, and neither is the placeholder, which is new in every run.

use serde::{Deserialize, Serialize};

use super::{EgressPlan, To, Wanted};
use crate::model::{HostName, Level, Origin};
use crate::plan::PlanError;
use crate::profile::{Credential, Profile};
pub use crate::profile::{Decoy, SecretSource as Source};

/// One credential that is lent to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialPlan {
    pub name: String,
    pub host: HostName,
    /// Never empty.
    pub methods: Vec<String>,
    /// In lower case.
    pub header: String,
    /// Has `{}` in it, once.
    pub format: String,
    pub login: String,
    pub source: Source,
    pub variable: Option<String>,
    pub decoys: Vec<Decoy>,
    pub because: Origin,
}

impl CredentialPlan {
    pub fn is_for(&self, wanted: &Wanted) -> bool {
        matches!(wanted, Wanted::Name(name) if *name == self.host)
    }

    /// What stands for the placeholder in the texts of a plan.
    pub fn mark(&self) -> String {
        format!("{{placeholder of {}}}", self.name)
    }

    /// What the login of `gh` is kept under: not the host that answers its questions.
    fn forge(&self) -> &str {
        let host = self.host.as_str();
        let own = host.strip_prefix("api.");
        own.filter(|it| *it == "github.com" || it.ends_with(".ghe.com")).unwrap_or(host)
    }
}

/// What a file of this kind says, in the form of the programs that read it.
fn text(decoy: Decoy, all: &[(&CredentialPlan, Vec<u16>)]) -> String {
    match decoy {
        Decoy::Netrc => lines(all, |it, _| {
            format!("machine {} login {} password {}\n", it.host, it.login, it.mark())
        }),
        Decoy::Npmrc => lines(all, |it, ports| {
            let at = |port: &u16| format!("//{}/:_authToken={}\n", authority(it, *port), it.mark());
            ports.iter().map(at).collect()
        }),
        Decoy::GhHosts => lines(all, |it, _| {
            let (forge, login, mark) = (it.forge(), &it.login, it.mark());
            format!(
                "\"{forge}\":\n    git_protocol: https\n    users:\n        \"{login}\":\n            \
                 oauth_token: \"{mark}\"\n    oauth_token: \"{mark}\"\n    user: \"{login}\"\n"
            )
        }),
        Decoy::Kubeconfig => kubeconfig(all),
    }
}

fn lines(
    all: &[(&CredentialPlan, Vec<u16>)],
    one: impl Fn(&CredentialPlan, &[u16]) -> String,
) -> String {
    all.iter().map(|(it, ports)| one(it, ports)).collect()
}

/// The usual port is not written.
fn authority(credential: &CredentialPlan, port: u16) -> String {
    match port {
        443 => credential.host.to_string(),
        port => format!("{}:{port}", credential.host),
    }
}

/// A cluster, a user and both together for each; the first is the one in use.
fn kubeconfig(all: &[(&CredentialPlan, Vec<u16>)]) -> String {
    let server =
        |it: &CredentialPlan, ports: &[u16]| authority(it, ports.first().copied().unwrap_or(443));
    let clusters = lines(all, |it, ports| {
        format!(
            "- name: \"{}\"\n  cluster:\n    server: \"https://{}\"\n",
            it.name,
            server(it, ports)
        )
    });
    let users = lines(all, |it, _| {
        format!("- name: \"{}\"\n  user:\n    token: \"{}\"\n", it.name, it.mark())
    });
    let contexts = lines(all, |it, _| {
        let name = &it.name;
        format!("- name: \"{name}\"\n  context:\n    cluster: \"{name}\"\n    user: \"{name}\"\n")
    });
    let current = all.first().map_or("", |it| it.0.name.as_str());
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: \"{current}\"\nclusters:\n{clusters}\
         users:\n{users}contexts:\n{contexts}"
    )
}

impl EgressPlan {
    /// Whether a credential is for this, so that what goes over the connection is read.
    pub fn lends(&self, wanted: &Wanted) -> bool {
        self.credentials.iter().any(|it| it.is_for(wanted))
    }

    /// The files with placeholders that the home directory has, by their text.
    pub(super) fn decoys(&self) -> Vec<(&'static str, String, Vec<Origin>)> {
        let mut files = Vec::new();
        for decoy in Decoy::ALL {
            let all: Vec<_> =
                self.credentials.iter().filter(|it| it.decoys.contains(&decoy)).collect();
            if all.is_empty() {
                continue;
            }
            let because = all.iter().map(|it| it.because.clone()).collect();
            let all: Vec<_> = all.into_iter().map(|it| (it, self.ports_of(&it.host))).collect();
            files.push((decoy.file(), text(decoy, &all), because));
        }
        files
    }

    /// Those that are listed one by one: a file has no line for thousands.
    fn ports_of(&self, host: &HostName) -> Vec<u16> {
        let meant = self.destinations.iter().filter(|it| it.means_name(host));
        let mut ports: Vec<u16> =
            meant.flat_map(|it| &it.ports).filter_map(|it| it.single()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

pub(super) fn compile(
    profile: &Profile,
    plan: &EgressPlan,
) -> Result<Vec<CredentialPlan>, PlanError> {
    profile.credentials.iter().map(|it| one(it, profile.level, plan)).collect()
}

fn one(
    credential: &Credential,
    level: Level,
    plan: &EgressPlan,
) -> Result<CredentialPlan, PlanError> {
    let wrong = |why: String| PlanError::Entry {
        name: credential.name.clone(),
        because: credential.origin.clone(),
        why,
    };
    let host = HostName::parse(credential.host.as_bytes())
        .map_err(|error| wrong(format!("a credential is for one host: {error}")))?;
    let named = plan.destinations.iter().any(|it| match &it.to {
        To::Name(pattern) => pattern.matches(&host),
        To::Range(_) => false,
    });
    if !named {
        return Err(wrong(format!("no `network.destination` lists its host `{host}`")));
    }
    let reads = level == Level::ProductionAdjacent;
    let methods: Vec<String> = credential
        .methods
        .iter()
        .filter(|it| !reads || super::READING.contains(&it.as_str()))
        .cloned()
        .collect();
    if methods.is_empty() {
        return Err(wrong("it has no method with which it may be used at this level".to_owned()));
    }
    Ok(CredentialPlan {
        name: credential.name.clone(),
        host,
        methods,
        header: credential.header.clone(),
        format: credential.format.clone(),
        login: credential.login.clone(),
        source: credential.source.clone(),
        variable: credential.variable.clone(),
        decoys: credential.decoys.clone(),
        because: credential.origin.clone(),
    })
}
