//! The plan in words: one sentence for people, then every entry with the line it comes from.

use std::fmt;
use std::path::Path;

use super::egress::{DestinationPlan, EgressPlan, Pool};
use super::{
    Absent, Access, Gate, Late, LayerLimits, Layers, Limited, MaskedName, MemoryBy, NoEffect,
    Origin, OutputPlan, PathKind, ProcessesBy, SandboxPlan, Table, ViewEntry, What,
};

/// The whole plan as text, for a terminal or a review.
pub fn explain(plan: &SandboxPlan) -> String {
    let mut text = format!(
        "Level {} ({}), profile `{}`, allowed by rule `{}`.\nStarts {} in {} as user {}{}.\n{}\n",
        plan.level,
        plan.level.title(),
        plan.profile,
        plan.rule,
        shown(&plan.command.program),
        shown(&plan.command.cwd),
        plan.identity.inner_uid,
        if plan.identity.outer_uid == 0 { ", which is root outside" } else { "" },
        sentence(plan)
    );
    section(&mut text, "Files", plan.view.iter().map(|it| (it.to_string(), it.because.as_slice())));
    section(&mut text, "Watched, and undone when the run ends", watched(plan).into_iter());
    let rules = plan.landlock.rules.iter();
    section(
        &mut text,
        &format!("Landlock, ABI {}", plan.landlock.abi),
        rules.map(|(path, it)| (format!("{} {}", shown(path), it.rights), it.because.as_slice())),
    );
    let variables = plan.command.environment.iter();
    section(
        &mut text,
        "Environment",
        variables.map(|(name, it)| (name.clone(), std::slice::from_ref(&it.because))),
    );
    section(&mut text, "Programs", std::iter::once(programs(plan)));
    section(&mut text, "Network and system calls", kernel(plan).into_iter());
    section(&mut text, "Limits", limits(plan).into_iter());
    section(
        &mut text,
        "Accepted gaps of this host",
        plan.gaps.iter().map(|gap| (gap.to_string(), [].as_slice())),
    );
    section(
        &mut text,
        "No effect here",
        plan.absent.iter().map(|it| (without_effect(it), std::slice::from_ref(&it.because))),
    );
    text
}

/// What this agent can do, in one sentence.
fn sentence(plan: &SandboxPlan) -> String {
    let bound = |wanted: Access| -> Vec<String> {
        plan.view
            .iter()
            .filter(|it| it.bound().is_some_and(|(access, _)| access == wanted))
            .map(|it| shown(&it.path))
            .collect()
    };
    let private: Vec<String> = plan
        .view
        .iter()
        .filter(|it| matches!(it.what, What::Private { .. }))
        .map(|it| shown(&it.path))
        .collect();
    let written = match bound(Access::Write) {
        places if places.is_empty() => {
            format!("write nothing of this machine, only its own empty {}", list(&private))
        }
        places => {
            let count =
                plan.view.iter().filter(|it| matches!(it.what, What::Protected { .. })).count()
                    + plan.watched.len();
            let except = match count {
                0 => String::new(),
                1 => " except 1 protected name".to_owned(),
                _ => format!(" except {count} protected names"),
            };
            format!("write {}{except} and its own empty {}", list(&places), list(&private))
        }
    };
    let hidden: Vec<String> = plan
        .view
        .iter()
        .filter(|it| matches!(it.what, What::Masked { .. }))
        .map(|it| shown(&it.path))
        .collect();
    let hidden = if hidden.is_empty() { String::new() } else { format!("{}, ", hidden.join(", ")) };
    let network = match (&plan.network.loopback, &plan.network.egress) {
        (Some(_), Some(_)) => "any network but a loopback of its own and the listed destinations",
        (None, Some(_)) => "any network but the listed destinations",
        (Some(_), None) => "any network but a loopback of its own",
        (None, None) => "any network",
    };
    format!(
        "This agent can read {}, {written}, cannot touch {hidden}the rest of the home directory, \
         {network}, other processes or terminals; anything else needs a person.",
        list(&bound(Access::Read)),
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Paths come from the file system and may hold anything that a terminal obeys.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) { format!("{text:?}") } else { format!("`{text}`") }
}

type Line<'a> = (String, &'a [Origin]);

fn section<'a, L: Iterator<Item = Line<'a>>>(text: &mut String, title: &str, lines: L) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    push(text, format_args!("\n{title}\n"));
    for (line, because) in lines {
        push(text, format_args!("  {line}\n"));
        for origin in because {
            push(text, format_args!("      {origin} because {}\n", origin.because));
        }
    }
}

/// Writing to a string cannot fail.
fn push(text: &mut String, words: fmt::Arguments<'_>) {
    text.push_str(&words.to_string());
}

fn watched(plan: &SandboxPlan) -> Vec<Line<'_>> {
    plan.watched
        .iter()
        .map(|it| {
            let state = match &it.link {
                Some(target) => format!("a link to {}", shown(target)),
                None => "not there".to_owned(),
            };
            (format!("{}: {state}", shown(&it.path)), std::slice::from_ref(&it.because))
        })
        .collect()
}

fn programs(plan: &SandboxPlan) -> Line<'_> {
    let text = match (plan.exec.gate, plan.syscalls.table) {
        (Gate::With, Table::Strict | Table::Standard) => {
            "every program that is started is decided before its first instruction"
        }
        (Gate::With, Table::Debug) => {
            "every program that is started is decided before its first instruction; that of a task \
             which another one traces, before the call, because the tracer has it in hand anyway"
        }
        (Gate::Without, _) => "only the command itself is decided",
    };
    (text.to_owned(), std::slice::from_ref(&plan.exec.because))
}

fn kernel(plan: &SandboxPlan) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    if let Some(because) = &plan.network.loopback {
        lines.push(("a loopback interface of its own".to_owned(), std::slice::from_ref(because)));
    }
    match &plan.network.egress {
        Some(egress) => lines.extend(way_out(egress)),
        None if lines.is_empty() => lines.push(("no network at all".to_owned(), &[])),
        None => {}
    }
    let table = match plan.syscalls.table {
        Table::Strict => "strict",
        Table::Standard => "standard",
        Table::Debug => "debug",
    };
    let syscalls = format!("system call table `{table}` for {}", plan.syscalls.arch);
    lines.push((syscalls, std::slice::from_ref(&plan.syscalls.because)));
    lines
}

/// Every destination, then what all of them together may use.
fn way_out(egress: &EgressPlan) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = egress
        .destinations
        .iter()
        .map(|it| (it.to_string(), std::slice::from_ref(&it.because)))
        .collect();
    let budget = [("sent", egress.upload_max.as_ref()), ("received", egress.download_max.as_ref())];
    for (what, max) in budget {
        match max {
            Some(max) => lines.push(limit(what, max, "all destinations together")),
            None => lines.push((format!("{what} unlimited"), &[])),
        }
    }
    match &egress.connections_max {
        Some(max) => lines.push(limit("connections", max, "all destinations together")),
        None => lines.push(("connections unlimited".to_owned(), &[])),
    }
    for it in &egress.credentials {
        let seen = it.variable.iter().map(|name| format!("`${name}`"));
        let seen = seen.chain(it.decoys.iter().map(|it| format!("`~/{}`", it.file())));
        let text = format!(
            "credential `{}` for {} to {}, in the header `{}`; the command sees a placeholder in {}",
            it.name,
            list(&it.methods),
            it.host,
            it.header,
            list(&seen.collect::<Vec<_>>())
        );
        lines.push((text, std::slice::from_ref(&it.because)));
    }
    let (gateway, _) = egress.pool.gateway();
    let proxy = Pool::PROXY_PORT;
    lines.push((
        format!("names are answered by {gateway} alone; a proxy for those that want one is at {gateway}:{proxy}"),
        &[],
    ));
    lines
}

/// `*.example.org, port 443, at most 5 MiB sent`
impl fmt::Display for DestinationPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        write!(f, "{} at port {}", self.to, list(&ports))?;
        if !self.addresses.is_empty() {
            let ranges: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
            write!(f, ", also where that is in {}", list(&ranges))?;
        }
        if let Some(max) = self.upload_max {
            write!(f, ", at most {max} sent")?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", at most {rate} a second")?;
        }
        if self.is_inspected() {
            f.write_str(", only HTTP requests")?;
        }
        if !self.methods.is_empty() {
            write!(f, " with {}", list(&self.methods))?;
        }
        if !self.paths.is_empty() {
            let paths: Vec<String> = self.paths.iter().map(ToString::to_string).collect();
            write!(f, " for {}", list(&paths))?;
        }
        Ok(())
    }
}

fn limits(plan: &SandboxPlan) -> Vec<Line<'_>> {
    let limits = &plan.limits;
    let memory = match &limits.memory_by {
        MemoryBy::Cgroup(_) => "kept by the kernel",
        MemoryBy::Polling => "looked at a few times a second, so a burst may pass it briefly",
    };
    let processes = match limits.processes_by {
        ProcessesBy::Kernel | ProcessesBy::Cgroup => "kept by the kernel",
        ProcessesBy::Polling => "looked at a few times a second, so a burst may pass it briefly",
    };
    let mut lines = vec![
        limit("wall", &limits.wall, ""),
        limit("grace", &limits.grace, ""),
        limit("processes", &limits.processes, processes),
        limit("open files", &limits.open_files, ""),
        limit("memory", &limits.memory, memory),
        limit("one file", &limits.file, ""),
    ];
    if let Some(LayerLimits { size, files }) = &limits.layer {
        let how = "of all runs, counted a few times a second, so a burst may pass it briefly";
        lines.push(limit("session layer", size, how));
        lines.push(limit("session files", files, how));
    }
    match &plan.output {
        OutputPlan { max: Some(max), .. } => lines.push(limit("output", max, "")),
        OutputPlan { max: None, .. } => {
            lines.push(("output unlimited, not read by rung".to_owned(), &[]));
        }
    }
    lines
}

fn limit<'a, T: fmt::Display>(name: &str, limit: &'a Limited<T>, how: &str) -> Line<'a> {
    let how = if how.is_empty() { String::new() } else { format!(", {how}") };
    (format!("{name} {}{how}", limit.max), std::slice::from_ref(&limit.because))
}

fn without_effect(it: &Absent) -> String {
    match it.why {
        NoEffect::NotShown => format!("{} does not exist or is hidden", shown(&it.path)),
        NoEffect::NoLayer => {
            format!(
                "{} is a cache that a run can have no layer of its own on here",
                shown(&it.path)
            )
        }
    }
}

/// `/usr: read, start programs`
impl fmt::Display for ViewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(&self.path))?;
        match &self.what {
            What::Directory => f.write_str(": empty"),
            What::Bind { source, kind, access, programs, .. } => {
                f.write_str(if *access == Access::Write { ": read, write" } else { ": read" })?;
                f.write_str(if *programs { ", start programs" } else { "" })?;
                f.write_str(if *kind == PathKind::Directory { "" } else { " (one file)" })?;
                if *source == self.path { Ok(()) } else { write!(f, " from {}", shown(source)) }
            }
            What::Overlay { access, programs, layers, .. } => {
                f.write_str(": read")?;
                match (access, layers) {
                    (Access::Read, _) => f.write_str(" with the session's own layer on top")?,
                    (_, Layers::Kept(_)) => f.write_str(", write into the session's own layer")?,
                    (_, Layers::Private { size, files }) => {
                        write!(f, ", write into a layer of the run's own")?;
                        write!(f, ", at most {size} in {files} files with the others of its kind")?;
                    }
                }
                f.write_str(if *programs { ", start programs" } else { "" })
            }
            What::Private { size, files, access, programs } => {
                f.write_str(": private and empty at first, read")?;
                f.write_str(if *access == Access::Write { ", write" } else { "" })?;
                f.write_str(if *programs { ", start programs" } else { "" })?;
                write!(f, ", at most {size} in {files} files")
            }
            What::SymbolicLink { target } => write!(f, " -> {}", shown(target)),
            What::Proc { masked } => {
                f.write_str(": the run's own processes")?;
                f.write_str(if masked.is_empty() { "" } else { ", without " })?;
                join(f, masked)
            }
            What::Devices { shm, files } => {
                write!(f, ": devices of its own, shared memory of {shm} in {files} files")
            }
            What::Text { late: None, .. } => f.write_str(": a file of the run's own, read"),
            What::Text { late: Some(Late::Placeholders), .. } => {
                f.write_str(": placeholders of credentials, read")
            }
            What::Text { late: Some(Late::Authorities), .. } => {
                f.write_str(": the host's authorities and one of the run's own, read")
            }
            What::Masked { kind: PathKind::Directory } => {
                f.write_str(": hidden, an empty directory")
            }
            What::Masked { .. } => f.write_str(": hidden, an empty file"),
            What::Pinned { .. } => f.write_str(": cannot be moved away"),
            What::Protected { .. } => f.write_str(": read only, cannot be replaced"),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, masked: &[MaskedName]) -> fmt::Result {
    for (index, it) in masked.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        f.write_str(&it.name)?;
    }
    Ok(())
}
