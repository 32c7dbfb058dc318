//! A profile as people read it: line by line with origins, as a difference, and at its worst.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::source::Layer;
use super::{Decision, Power};
use super::{
    Destination, Durable, Entry, Grant, Limit, Limits, Network, OnGap, Profile, Rule, Table,
    Toolchain, WhenFull, WorkspaceMode,
};
use crate::model::{Level, Origin};

/// One thing a profile says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `filesystem.read`
    pub key: &'static str,
    /// Which entry, where the key is a list: a path, a rule's id.
    pub entry: Option<String>,
    pub value: String,
    pub origin: Option<Origin>,
}

/// `filesystem.read  /usr, with programs  # level-1.toml:11: the system's programs`
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key)?;
        match &self.entry {
            None => write!(f, " = {}", self.value)?,
            Some(entry) if self.value.is_empty() => write!(f, "  {entry}")?,
            Some(entry) => write!(f, "  {entry}: {}", self.value)?,
        }
        match &self.origin {
            Some(origin) => write!(f, "  # {origin}: {}", origin.because),
            None => Ok(()),
        }
    }
}

/// What one line of a difference is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    Added { line: Line },
    Removed { line: Line },
    Changed { from: String, line: Line },
}

/// `+ filesystem.write  ...`, `- ...`, `~ limits.wall = 30 min (was 10 min)  # ...`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { line } => write!(f, "+ {line}"),
            Self::Removed { line } => write!(f, "- {line}"),
            Self::Changed { from, line } => {
                let value = format!("{} (was {from})", line.value);
                write!(f, "~ {}", Line { value, ..line.clone() })
            }
        }
    }
}

/// The files that have a say about a level, as they were written, each under its name.
pub fn show_authored(level: Level, layers: &[Layer]) -> String {
    let name = format!("level-{level}.toml");
    let sources = layers.iter().flat_map(|it| &it.sources);
    let of_level = sources.filter(|it| it.name.rsplit('/').next() == Some(name.as_str()));
    let texts: Vec<String> =
        of_level.map(|it| format!("# --- {}\n{}", it.name, it.text.trim_end())).collect();
    texts.join("\n\n") + "\n"
}

/// The whole profile, one line per thing, each with where it comes from and why.
pub fn show(profile: &Profile) -> String {
    let head = format!(
        "# {}, level {}: {}\n# made from {}\n# digest {}",
        profile.name,
        profile.level,
        profile.summary,
        profile.sources.join(", "),
        profile.digest
    );
    let lines = lines(profile).into_iter().map(|it| it.to_string());
    let all: Vec<String> = std::iter::once(head).chain(lines).collect();
    all.join("\n") + "\n"
}

/// What `b` says that `a` does not, and the reverse.
pub fn diff(a: &Profile, b: &Profile) -> Vec<Change> {
    let by_name = |profile: &Profile| -> BTreeMap<(&'static str, Option<String>), Line> {
        lines(profile).into_iter().map(|it| ((it.key, it.entry.clone()), it)).collect()
    };
    let (before, after) = (by_name(a), by_name(b));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let change = |name| match (before.get(name), after.get(name)) {
        (None, Some(line)) => Some(Change::Added { line: line.clone() }),
        (Some(line), None) => Some(Change::Removed { line: line.clone() }),
        (Some(old), Some(new)) if old.value != new.value => {
            Some(Change::Changed { from: old.value.clone(), line: new.clone() })
        }
        (Some(_), Some(_)) | (None, None) => None,
    };
    names.into_iter().filter_map(change).collect()
}

/// Everything that could be reached if every command did its worst.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blast {
    pub level: Level,
    pub profile: String,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    /// Parts of `reads` and `writes` that stay closed.
    pub cannot_read: Vec<String>,
    pub cannot_write: Vec<String>,
    pub programs: Vec<String>,
    /// Who starts what, where only that program may: `git: git-upload-pack`.
    pub children: Vec<String>,
    /// Anything that lies in the workspace may run.
    pub workspace_programs: bool,
    /// Programs of which some use waits for a person.
    pub asks: Vec<String>,
    pub hosts: Vec<String>,
    /// Powers that some allow rule gives.
    pub powers: Vec<Power>,
    /// Powers that only an approval gives.
    pub powers_by_approval: Vec<Power>,
    /// Rules, allowing or asking, whose effect cannot be undone.
    pub irreversible: Vec<String>,
    /// `customer`, `money`, `infrastructure`, `production`, `identity`.
    pub touches: Vec<String>,
    /// Rules that no approval lifts.
    pub never: Vec<String>,
    /// For how long, and with how much of the machine.
    pub limits: Vec<String>,
    /// All of it together, in sentences.
    pub worst: Vec<String>,
}

pub fn blast(profile: &Profile) -> Blast {
    let filesystem = &profile.filesystem;
    let mut reads: Vec<String> = filesystem.read.iter().map(|it| it.path.clone()).collect();
    reads.extend(filesystem.toolchains.iter().flat_map(|it| it.directories.clone()));
    reads.extend(filesystem.all_caches().map(|(path, _)| path.clone()));
    let mut writes: Vec<String> = filesystem.write.iter().map(|it| it.path.clone()).collect();
    match filesystem.workspace.mode {
        WorkspaceMode::ReadOnly => reads.push("the workspace".to_owned()),
        WorkspaceMode::Direct => writes.push("the workspace".to_owned()),
        WorkspaceMode::Session => writes.push("the session's copy of the workspace".to_owned()),
    }
    let names = |entries: &[Entry]| entries.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    let mut cannot_read = names(&filesystem.hidden);
    cannot_read.extend(filesystem.toolchains.iter().flat_map(|it| it.credentials.clone()));
    let of = |decision| profile.exec.rules.iter().filter(move |it| it.decision == decision);
    let asked_for = |it: &&Rule| it.started_by.is_empty();
    let programs =
        |decision| sorted(of(decision).filter(asked_for).flat_map(|it| it.programs.clone()));
    let powers: Vec<Power> = sorted(of(Decision::Allow).map(|it| it.power));
    let asked = of(Decision::Confirm).map(|it| it.power).filter(|it| !powers.contains(it));
    let may = || of(Decision::Allow).chain(of(Decision::Confirm));
    let mut blast = Blast {
        level: profile.level,
        profile: profile.name.clone(),
        reads,
        writes,
        cannot_read,
        cannot_write: names(&filesystem.protected),
        programs: programs(Decision::Allow),
        children: children(&profile.exec.rules),
        workspace_programs: profile.exec.workspace_programs.is_some(),
        asks: programs(Decision::Confirm),
        hosts: profile.network.destinations.iter().map(destination_ends).collect(),
        powers_by_approval: sorted(asked),
        powers,
        irreversible: may().filter(|it| !it.reversible).map(|it| it.id.clone()).collect(),
        touches: sorted(may().flat_map(|it| it.touches.clone())),
        never: of(Decision::Never).map(|it| it.id.clone()).collect(),
        limits: limits_of(profile),
        worst: Vec::new(),
    };
    blast.worst = worst(&blast, profile);
    blast
}

fn limits_of(profile: &Profile) -> Vec<String> {
    let Limits { wall, grace: _, processes, open_files, memory, file, session, session_files } =
        &profile.limits;
    let tmp = &profile.filesystem.tmp;
    vec![
        format!("{} of time", wall.max),
        format!("{} of memory", memory.max),
        format!("{} processes with {} open files each", processes.max, open_files.max),
        format!("files of {}", file.max),
        format!("{} in {} files in a session", session.max, session_files.max),
        format!("{} of its own `/tmp`", tmp.size),
    ]
}

/// What a person has to reckon with who starts a run and looks away.
fn worst(blast: &Blast, profile: &Profile) -> Vec<String> {
    let mut worst = Vec::new();
    worst.push(match (blast.hosts.is_empty(), profile.network.loopback.is_some()) {
        (true, false) => "what it reads leaves only in what it prints".to_owned(),
        (true, true) => {
            "what it reads leaves only in what it prints; the loopback is its own".to_owned()
        }
        (false, _) => format!("what it reads can be sent to {}", blast.hosts.join(", ")),
    });
    worst.push(match profile.filesystem.workspace.mode {
        WorkspaceMode::ReadOnly if blast.writes.is_empty() => "nothing is changed".to_owned(),
        WorkspaceMode::ReadOnly => format!("{} can be lost", blast.writes.join(", ")),
        WorkspaceMode::Direct | WorkspaceMode::Session => format!(
            "everything in {} can be lost, its history in git included, but for {} protected names",
            blast.writes.join(", "),
            blast.cannot_write.len()
        ),
    });
    if blast.workspace_programs {
        worst.push(
            "any code can run, so no rule about arguments holds for what it does: the sandbox does"
                .to_owned(),
        );
    }
    worst.push(match (blast.asks.is_empty(), blast.irreversible.len()) {
        (true, _) => "nobody is asked for anything more".to_owned(),
        (false, 0) => "an approval given in haste can be taken back".to_owned(),
        (false, rules) => {
            format!("what {rules} of its rules let happen, some after an approval, has no way back")
        }
    });
    worst
}

/// Per caller, what it may start beyond what may be asked for.
fn children(rules: &[Rule]) -> Vec<String> {
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let rules = || rules.iter().filter(|it| it.decision == Decision::Allow);
    for rule in rules() {
        for caller in &rule.started_by {
            edges.entry(caller).or_default().extend(rule.programs.iter().map(String::as_str));
        }
    }
    // Callers with the same children share a line.
    let mut groups: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for (caller, programs) in edges {
        groups.entry(programs.into_iter().collect()).or_default().push(caller);
    }
    let line = |(programs, callers): (Vec<&str>, Vec<&str>)| {
        format!("{}: {}", callers.join(" "), programs.join(" "))
    };
    groups.into_iter().map(line).collect()
}

fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

impl fmt::Display for Blast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |words: &[String]| {
            if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
        };
        let powers =
            |powers: &[Power]| list(&powers.iter().map(|it| word(*it)).collect::<Vec<_>>());
        writeln!(f, "at worst, level {} ({}) can", self.level, self.profile)?;
        writeln!(f, "  read        {}", list(&self.reads))?;
        writeln!(f, "    but not   {}", list(&self.cannot_read))?;
        writeln!(f, "  write       {}", list(&self.writes))?;
        writeln!(f, "    but not   {}", list(&self.cannot_write))?;
        writeln!(f, "  start       {}", list(&self.programs))?;
        if self.workspace_programs {
            writeln!(f, "              any program that lies in the workspace")?;
        }
        for edge in &self.children {
            writeln!(f, "    through   {edge}")?;
        }
        writeln!(f, "  connect to  {}", list(&self.hosts))?;
        writeln!(f, "  powers      {}", powers(&self.powers))?;
        writeln!(f, "and after a person has agreed")?;
        writeln!(f, "  start       {}", list(&self.asks))?;
        writeln!(f, "  powers      {}", powers(&self.powers_by_approval))?;
        writeln!(f, "  without a way back: {}", list(&self.irreversible))?;
        writeln!(f, "  touching    {}", list(&self.touches))?;
        writeln!(f, "with at most  {}", list(&self.limits))?;
        writeln!(f, "and never, whoever agrees")?;
        writeln!(f, "              {}", list(&self.never))?;
        writeln!(f, "worst case")?;
        self.worst.iter().try_for_each(|it| writeln!(f, "  - {it}"))
    }
}

// ---- the lines of a profile, in the order of the description

fn lines(profile: &Profile) -> Vec<Line> {
    let mut lines = Lines(Vec::new());
    lines.value("name", &profile.name, None);
    lines.value("owner", profile.owner.as_deref().unwrap_or("nobody"), None);
    lines.value(
        "on_gap",
        match profile.on_gap {
            OnGap::Refuse => "refuse",
            OnGap::Allow => "allow",
        },
        None,
    );
    filesystem(profile, &mut lines);
    exec(profile, &mut lines);
    for entry in &profile.environment.pass {
        lines.entry("environment.pass", &entry.name, String::new(), &entry.origin);
    }
    for entry in &profile.environment.workspace_sets {
        let key = "environment.workspace_sets";
        lines.entry(key, &entry.name, String::new(), &entry.origin);
    }
    for (name, setting) in &profile.environment.set {
        lines.entry("environment.set", name, setting.value.clone(), &setting.origin);
    }
    network(&profile.network, &mut lines);
    credentials(profile, &mut lines);
    let table = match profile.syscalls.table {
        Table::Strict => "strict",
        Table::Standard => "standard",
        Table::Debug => "debug",
    };
    lines.value("syscalls.table", table, Some(&profile.syscalls.origin));
    let limits = &profile.limits;
    lines.limit("limits.wall", &limits.wall);
    lines.limit("limits.grace", &limits.grace);
    lines.limit("limits.processes", &limits.processes);
    lines.limit("limits.open_files", &limits.open_files);
    lines.limit("limits.memory", &limits.memory);
    lines.limit("limits.file", &limits.file);
    lines.limit("limits.session", &limits.session);
    lines.limit("limits.session_files", &limits.session_files);
    match &profile.output.max {
        Some(limit) => lines.limit("output.max", limit),
        None => lines.value("output.max", "unlimited", None),
    }
    lines.value(
        "output.when_full",
        match profile.output.when_full {
            WhenFull::KeepHeadAndTail => "keep-head-and-tail",
            WhenFull::Stop => "stop",
        },
        None,
    );
    lines.value(
        "audit.durable",
        match profile.audit.durable {
            Durable::Overlapped => "overlapped",
            Durable::BeforeExec => "before-exec",
        },
        None,
    );
    lines.value("audit.record_output", &profile.audit.record_output.to_string(), None);
    lines.0
}

struct Lines(Vec<Line>);

impl Lines {
    fn value(&mut self, key: &'static str, value: &str, origin: Option<&Origin>) {
        self.0.push(Line { key, entry: None, value: value.to_owned(), origin: origin.cloned() });
    }

    fn entry(&mut self, key: &'static str, entry: &str, value: String, origin: &Origin) {
        self.0.push(Line {
            key,
            entry: Some(entry.to_owned()),
            value,
            origin: Some(origin.clone()),
        });
    }

    fn limit<T: fmt::Display>(&mut self, key: &'static str, limit: &Limit<T>) {
        self.value(key, &limit.max.to_string(), Some(&limit.origin));
    }

    fn switch(&mut self, key: &'static str, origin: Option<&Origin>) {
        self.value(key, &origin.is_some().to_string(), origin);
    }
}

fn filesystem(profile: &Profile, lines: &mut Lines) {
    let filesystem = &profile.filesystem;
    let mode = match filesystem.workspace.mode {
        WorkspaceMode::ReadOnly => "read-only",
        WorkspaceMode::Direct => "direct",
        WorkspaceMode::Session => "session",
    };
    lines.value("filesystem.workspace", mode, Some(&filesystem.workspace.origin));
    let with = |it: &Grant| if it.programs { "with programs".to_owned() } else { String::new() };
    for grant in &filesystem.read {
        lines.entry("filesystem.read", &grant.path, with(grant), &grant.origin);
    }
    for grant in &filesystem.write {
        lines.entry("filesystem.write", &grant.path, with(grant), &grant.origin);
    }
    for entry in &filesystem.hidden {
        lines.entry("filesystem.hidden", &entry.name, String::new(), &entry.origin);
    }
    for entry in &filesystem.protected {
        lines.entry("filesystem.protected", &entry.name, String::new(), &entry.origin);
    }
    for toolchain in &filesystem.toolchains {
        lines.entry("filesystem.toolchains", &toolchain.name, places(toolchain), &toolchain.origin);
    }
    for entry in &filesystem.caches {
        lines.entry("filesystem.caches", &entry.name, String::new(), &entry.origin);
    }
    let tmp = &filesystem.tmp;
    let programs = if tmp.run_programs { "programs may run" } else { "no programs" };
    let tmp_says = format!("{}, {} files, {programs}", tmp.size, tmp.files);
    lines.value("filesystem.tmp", &tmp_says, Some(&tmp.origin));
}

fn places(toolchain: &Toolchain) -> String {
    let mut places = toolchain.directories.join(", ");
    for (words, list) in [("without", &toolchain.credentials), ("caches", &toolchain.caches)] {
        if !list.is_empty() {
            places = format!("{places} {words} {}", list.join(", "));
        }
    }
    places
}

fn exec(profile: &Profile, lines: &mut Lines) {
    lines.switch("exec.workspace_programs", profile.exec.workspace_programs.as_ref());
    for rule in &profile.exec.rules {
        lines.entry("exec.rule", &rule.id, says(rule), &rule.origin);
    }
}

fn says(rule: &Rule) -> String {
    let decision = match rule.decision {
        Decision::Allow => "allow",
        Decision::Confirm => "confirm",
        Decision::Deny => "deny",
        Decision::Never => "never",
    };
    let undo = if rule.reversible { "" } else { ", without a way back" };
    let by = if rule.started_by.is_empty() {
        String::new()
    } else {
        format!(" started by {}", rule.started_by.join(" "))
    };
    format!("{decision} {}{by} ({}{undo})", rule.programs.join(" "), word(rule.power))
}

fn credentials(profile: &Profile, lines: &mut Lines) {
    for it in &profile.credentials {
        let ends = format!("{} for {} {}", it.name, it.methods.join(" "), it.host);
        lines.entry("credential", &it.name, ends, &it.origin);
    }
}

fn network(network: &Network, lines: &mut Lines) {
    lines.switch("network.loopback", network.loopback.as_ref());
    for destination in &network.destinations {
        let ends = destination_ends(destination);
        lines.entry("network.destination", &destination.host, ends, &destination.origin);
    }
    if let Some(limit) = &network.upload_max {
        lines.limit("network.budget.upload", limit);
    }
    if let Some(limit) = &network.download_max {
        lines.limit("network.budget.download", limit);
    }
    if let Some(limit) = &network.connections_max {
        lines.limit("network.budget.connections", limit);
    }
}

/// `packages.example.org:443 GET HEAD /api/*`
fn destination_ends(destination: &Destination) -> String {
    let ports: Vec<String> = destination.ports.iter().map(ToString::to_string).collect();
    let mut words = vec![format!("{}:{}", destination.host, ports.join(","))];
    if !destination.addresses.is_empty() {
        words.push(format!("also at {}", destination.addresses.join(", ")));
    }
    words.extend(destination.methods.iter().chain(&destination.paths).cloned());
    words.join(" ")
}

fn word(power: Power) -> String {
    match power {
        Power::Read => "read",
        Power::Write => "write",
        Power::Exec => "exec",
        Power::Net => "net",
        Power::Pr => "pr",
        Power::Merge => "merge",
        Power::Migrate => "migrate",
        Power::Deploy => "deploy",
        Power::Rollback => "rollback",
        Power::Secret => "secret",
        Power::Admin => "admin",
    }
    .to_owned()
}
