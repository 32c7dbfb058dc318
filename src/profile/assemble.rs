//! Makes the [`Profile`] of what is in force, and says what is still missing.

use std::collections::{BTreeMap, BTreeSet};

use super::commands;
use super::credential::{Credential, credential};
use super::library::Library;
use super::read::Node;
use super::resolve::{Force, Item, RuleInForce};
use super::rule::{Decision, Program, Rule};
use super::source::{Place, Report, did_you_mean};
use super::{
    Audit, Destination, Durable, Entry, Environment, Exec, Filesystem, Grant, Limit, Limits,
    Network, OnGap, Output, Profile, Setting, Syscalls, Table, Tmp, Toolchain, WhenFull, Workspace,
    WorkspaceMode,
};
use crate::model::{Bytes, Count, Digest, Level, Origin, Ports, Span};

/// Makes the profile. Absent if something is missing, which is reported.
pub(super) fn assemble(force: &Force, library: &Library, report: &mut Report) -> Option<Profile> {
    let mut maker = Maker { force, library, report, packs: Vec::new() };
    maker.packs = maker.packs_in_use();
    maker.profile()
}

struct Maker<'a> {
    force: &'a Force,
    library: &'a Library,
    report: &'a mut Report,
    /// Names, in the order in which they came.
    packs: Vec<String>,
}

impl Maker<'_> {
    fn profile(&mut self) -> Option<Profile> {
        let exec = self.exec();
        let toolchains = self.toolchains();
        self.owner();
        // What is absent because it was wrong has been reported already.
        if self.report.has_errors() {
            return None;
        }
        self.oddities();
        let (sources, digest) = self.sources();
        Some(Profile {
            name: self.name().to_owned(),
            level: self.force.level,
            summary: self.word("summary")?,
            owner: self.force.values.get("owner").and_then(|it| it.node.text()).map(str::to_owned),
            digest,
            sources,
            on_gap: match self.word("on_gap")?.as_str() {
                "allow" => OnGap::Allow,
                _ => OnGap::Refuse,
            },
            filesystem: self.filesystem(toolchains)?,
            exec,
            environment: self.environment(),
            network: self.network(),
            credentials: self.credentials()?,
            syscalls: self.syscalls()?,
            limits: self.limits()?,
            output: self.output()?,
            audit: self.audit()?,
        })
    }

    fn name(&self) -> &str {
        let documents = self.library.levels.get(&self.force.level);
        documents.and_then(|it| it.first()?.node.text_of("name")).unwrap_or("")
    }

    /// Where to say that the level as a whole lacks something.
    fn place(&self) -> Place {
        let documents = self.library.levels.get(&self.force.level);
        let node =
            documents.and_then(|it| it.first()).map(|it| it.node.get("name").unwrap_or(&it.node));
        node.map_or(Place { file: 0, span: 0..0 }, |it| it.place.clone())
    }

    fn owner(&mut self) {
        if self.force.level >= Level::ApprovedIntegration
            && !self.force.values.contains_key("owner")
        {
            let message = format!("level {} needs an `owner`", self.force.level);
            let help = "from level 4 somebody answers for the profile: say who";
            self.report.error_with_help(&self.place(), message, Some(help.to_owned()));
        }
    }

    fn sources(&self) -> (Vec<String>, Digest) {
        let packs = self.packs.iter().filter_map(|it| self.library.packs.get(it)).map(|it| it.file);
        let files: Vec<_> = self
            .force
            .files
            .iter()
            .copied()
            .chain(packs)
            .filter_map(|it| self.report.source(it))
            .collect();
        let mut parts: Vec<&[u8]> = Vec::new();
        for source in &files {
            parts.extend([source.name.as_bytes(), b"\0", source.text.as_bytes(), b"\0"]);
        }
        (files.iter().map(|it| it.name.clone()).collect(), Digest::of("profile", &parts))
    }

    /// Packs whose rules or toolchain are used.
    fn packs_in_use(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for path in ["exec.packs", "filesystem.toolchains"] {
            for item in self.force.items(path) {
                let known = self.library.pack(&item.node, &item.name, self.report).is_some();
                if known && !names.contains(&item.name) {
                    names.push(item.name.clone());
                }
            }
        }
        names
    }

    /// Entries that change nothing.
    fn oddities(&mut self) {
        let grants: Vec<&Item> = ["filesystem.read", "filesystem.write"]
            .iter()
            .flat_map(|it| self.force.items(it))
            .collect();
        let inside = |path: &str, tree: &str| {
            path.strip_prefix(tree).is_some_and(|it| it.is_empty() || it.starts_with('/'))
        };
        let home = self.force.items("filesystem.toolchains").first();
        for item in self.force.items("filesystem.hidden") {
            // What a toolchain opens below the home is the pack's business.
            let opened = grants.iter().any(|it| inside(&item.name, &it.name))
                || (home.is_some() && item.name.starts_with('~'));
            if !opened {
                let message = format!(
                    "`{}` is hidden, but no entry of `filesystem.read` contains it",
                    item.name
                );
                self.report.warning(&item.node.place, message);
            }
        }
        let read = self.force.items("filesystem.read");
        for item in read {
            let programs = |it: &Item| it.node.get("programs").is_some_and(Node::is_true);
            let wider = read.iter().find(|it| {
                it.name != item.name
                    && inside(&item.name, &it.name)
                    && (programs(it) || !programs(item))
            });
            if let Some(wider) = wider {
                let message =
                    format!("`{}` is in the view already, by `{}`", item.name, wider.name);
                self.report.warning(&item.node.place, message);
            }
        }
    }

    // ---- values

    /// The value of a key that every profile must have.
    fn need(&mut self, path: &str) -> Option<(Node, Origin)> {
        let Some(setting) = self.force.values.get(path) else {
            let message = format!("`{path}` is not set, here or in a profile this one extends");
            let place = self.place();
            self.report.error(&place, message);
            return None;
        };
        let because = Self::because(setting.because.as_deref(), path);
        Some((setting.node.clone(), self.report.origin(&setting.node.place, &because)))
    }

    fn word(&mut self, path: &str) -> Option<String> {
        self.need(path).and_then(|(node, _)| node.text().map(str::to_owned))
    }

    fn limit<T>(&mut self, path: &str, of: fn(u64) -> T) -> Option<Limit<T>> {
        let (node, origin) = self.need(path)?;
        Some(Limit { max: of(node.number()?), origin })
    }

    /// A limit that need not be there.
    fn some_limit<T>(&mut self, path: &str, of: fn(u64) -> T) -> Option<Limit<T>> {
        self.force.values.get(path)?.node.number()?;
        self.limit(path, of)
    }

    /// Where a switch is turned on, if it is.
    fn on(&self, path: &str) -> Option<Origin> {
        let setting = self.force.values.get(path).filter(|it| it.node.is_true())?;
        Some(
            self.report
                .origin(&setting.node.place, &Self::because(setting.because.as_deref(), path)),
        )
    }

    /// The author's reason, or where the entry stands.
    fn because(own: Option<&str>, path: &str) -> String {
        own.map_or_else(|| format!("listed under `{path}`"), str::to_owned)
    }

    fn origin(&self, item: &Item, path: &str) -> Origin {
        self.report.origin(&item.node.place, &Self::because(item.because.as_deref(), path))
    }

    // ---- sections

    fn filesystem(&mut self, toolchains: Vec<Toolchain>) -> Option<Filesystem> {
        let (mode, origin) = self.need("filesystem.workspace")?;
        let mode = match mode.text()? {
            "direct" => WorkspaceMode::Direct,
            "session" => WorkspaceMode::Session,
            _ => WorkspaceMode::ReadOnly,
        };
        let (size, tmp_origin) = self.need("filesystem.tmp.size")?;
        let (files, _) = self.need("filesystem.tmp.files")?;
        Some(Filesystem {
            workspace: Workspace { mode, origin },
            read: self.grants("filesystem.read"),
            write: self.grants("filesystem.write"),
            hidden: self.entries("filesystem.hidden"),
            protected: self.entries("filesystem.protected"),
            toolchains,
            caches: self.entries("filesystem.caches"),
            tmp: Tmp {
                size: Bytes(size.number()?),
                files: Count(files.number()?),
                run_programs: self.on("filesystem.tmp.run_programs").is_some(),
                origin: tmp_origin,
            },
        })
    }

    fn grants(&self, path: &str) -> Vec<Grant> {
        let grant = |item: &Item| Grant {
            path: item.name.clone(),
            programs: item.node.get("programs").is_some_and(Node::is_true),
            origin: self.origin(item, path),
        };
        self.force.items(path).iter().map(grant).collect()
    }

    fn entries(&self, path: &str) -> Vec<Entry> {
        let entry =
            |item: &Item| Entry { name: item.name.clone(), origin: self.origin(item, path) };
        self.force.items(path).iter().map(entry).collect()
    }

    fn toolchains(&mut self) -> Vec<Toolchain> {
        let path = "filesystem.toolchains";
        let mut toolchains = Vec::new();
        for item in self.force.items(path) {
            let Some(pack) = self.library.packs.get(&item.name) else { continue };
            let Some(node) = pack.node.get("toolchain") else {
                let message = format!("pack `{}` describes no toolchain", item.name);
                self.report.error(&item.node.place, message);
                continue;
            };
            let because = item.because.as_deref().or(node.text_of("because"));
            let way = if self.force.is_offline() { "offline" } else { "listed" };
            let mut environment = commands::strings(node.get("environment"));
            environment.extend(commands::strings(node.get(&format!("{way}_environment"))));
            toolchains.push(Toolchain {
                name: item.name.clone(),
                directories: node.texts_of("directories"),
                search_path: node.texts_of("search_path"),
                credentials: node.texts_of("credentials"),
                caches: node.texts_of("caches"),
                environment,
                origin: self.report.origin(&item.node.place, &Self::because(because, path)),
            });
        }
        toolchains
    }

    fn environment(&self) -> Environment {
        let path = "environment.set";
        let setting = |item: &Item| {
            let value = item.node.get("value").unwrap_or(&item.node).text()?.to_owned();
            Some((item.name.clone(), Setting { value, origin: self.origin(item, path) }))
        };
        Environment {
            pass: self.entries("environment.pass"),
            workspace_sets: self.entries("environment.workspace_sets"),
            set: self.force.items(path).iter().filter_map(setting).collect(),
        }
    }

    fn network(&mut self) -> Network {
        let bytes = |node: &Node, key| node.get(key).and_then(Node::number).map(Bytes);
        let destination = |item: &Item| Destination {
            host: item.name.clone(),
            ports: item.node.list_of("ports").iter().filter_map(ports_of).collect(),
            addresses: item.node.texts_of("address"),
            methods: item.node.texts_of("methods"),
            paths: item.node.texts_of("paths"),
            rate: bytes(&item.node, "rate"),
            upload: bytes(&item.node, "upload"),
            origin: self.origin(item, "network.destination"),
        };
        Network {
            loopback: self.on("network.loopback"),
            destinations: self.force.items("network.destination").iter().map(destination).collect(),
            upload_max: self.some_limit("network.budget.upload", Bytes),
            download_max: self.some_limit("network.budget.download", Bytes),
            connections_max: self.some_limit("network.budget.connections", Count),
        }
    }

    fn credentials(&mut self) -> Option<Vec<Credential>> {
        let mut credentials: Vec<Credential> = Vec::new();
        for item in self.force.items("credential") {
            let origin = self.origin(item, "credential");
            let made = credential(&item.node, &item.name, origin, self.report)?;
            if credentials.iter().any(|it| it.name == made.name) {
                let message = format!("there are two credentials `{}`", made.name);
                self.report.error(&item.node.place, message);
                return None;
            }
            credentials.push(made);
        }
        Some(credentials)
    }

    fn syscalls(&mut self) -> Option<Syscalls> {
        let (table, origin) = self.need("syscalls.table")?;
        let table = match table.text()? {
            "debug" => Table::Debug,
            "standard" => Table::Standard,
            _ => Table::Strict,
        };
        Some(Syscalls { table, origin })
    }

    fn limits(&mut self) -> Option<Limits> {
        // All of them first, so that all that is missing is said at once.
        let wall = self.limit("limits.wall", Span);
        let grace = self.limit("limits.grace", Span);
        let processes = self.limit("limits.processes", Count);
        let open_files = self.limit("limits.open_files", Count);
        let memory = self.limit("limits.memory", Bytes);
        let file = self.limit("limits.file", Bytes);
        let session = self.limit("limits.session", Bytes);
        let session_files = self.limit("limits.session_files", Count);
        Some(Limits {
            wall: wall?,
            grace: grace?,
            processes: processes?,
            open_files: open_files?,
            memory: memory?,
            file: file?,
            session: session?,
            session_files: session_files?,
        })
    }

    fn output(&mut self) -> Option<Output> {
        self.need("output.max")?;
        let when_full = match self.word("output.when_full")?.as_str() {
            "stop" => WhenFull::Stop,
            _ => WhenFull::KeepHeadAndTail,
        };
        Some(Output { max: self.some_limit("output.max", Bytes), when_full })
    }

    fn audit(&mut self) -> Option<Audit> {
        let durable = match self.word("audit.durable")?.as_str() {
            "overlapped" => Durable::Overlapped,
            _ => Durable::BeforeExec,
        };
        Some(Audit { durable, record_output: self.on("audit.record_output").is_some() })
    }

    // ---- commands

    fn exec(&mut self) -> Exec {
        let programs = self.programs();
        let rules = self.rules(&programs);
        Exec {
            workspace_programs: self.on("exec.workspace_programs"),
            programs,
            rules,
            index: None,
        }
    }

    fn programs(&mut self) -> BTreeMap<String, Program> {
        let packs =
            self.force.items("exec.packs").iter().filter_map(|it| self.library.packs.get(&it.name));
        let mut nodes: Vec<(&Node, &str)> = Vec::new();
        for pack in packs {
            let summary = pack.node.text_of("summary").unwrap_or("");
            nodes.extend(pack.node.list_of("program").iter().map(|it| (it, summary)));
        }
        nodes.extend(
            self.force.items("exec.program").iter().map(|it| (&it.node, "named by the level")),
        );
        let mut programs: BTreeMap<String, Program> = BTreeMap::new();
        for (node, because) in nodes {
            for program in commands::programs(node, because, self.force.is_offline(), self.report) {
                match programs.get(&program.name) {
                    Some(first) => {
                        let message = format!(
                            "program `{}` is already described at {}",
                            program.name, first.origin
                        );
                        self.report.error(&node.place, message);
                    }
                    None => drop(programs.insert(program.name.clone(), program)),
                }
            }
        }
        programs
    }

    fn rules(&mut self, programs: &BTreeMap<String, Program>) -> Vec<Rule> {
        // A program that was not understood has been reported; its rules need not be.
        let understood = !self.report.has_errors();
        let mut ids = BTreeSet::new();
        let mut kept: Vec<Rule> = Vec::new();
        for RuleInForce { rule, place } in self.force.rules(self.library, self.report) {
            if !ids.insert(rule.id.clone()) {
                let first = kept.iter().find(|it| it.id == rule.id).map(|it| it.origin.to_string());
                let message =
                    format!("rule `{}` is already at {}", rule.id, first.unwrap_or_default());
                self.report.error(&place, message);
                continue;
            }
            if rule.decision == Decision::Allow && understood {
                for name in rule.programs.iter().filter(|it| !programs.contains_key(*it)) {
                    let help = did_you_mean(name, programs.keys().map(String::as_str));
                    let message = format!(
                        "rule `{}` allows `{name}`, which no pack in force describes",
                        rule.id
                    );
                    self.report.error_with_help(&place, message, help);
                }
            }
            kept.push(rule);
        }
        kept
    }
}

/// A number, or a range as text.
fn ports_of(node: &Node) -> Option<Ports> {
    match node.text() {
        Some(text) => Ports::parse(text).ok(),
        None => u16::try_from(node.number()?).ok().and_then(|it| Ports::new(it, it)),
    }
}
