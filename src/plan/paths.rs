//! Paths as text: what `~` means, which places contain which, and what must be looked up.
//!
//! Nothing here looks at a file system. [`wanted_paths`] says which paths the host has to be
//! asked about before a plan can be compiled, and [`wanted_behind_links`] what their answers add;
//! each is one look, and no tree is walked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::egress::STORES;
use crate::model::{PathFact, PathKind, PathMap, is_plain, lies_in, walk_order};
use crate::profile::{Entry, Profile, WorkspaceMode};

/// Names below `/proc` that are masked where the kernel has them: they show other users' or the
/// kernel's memory, addresses and timing, or act on the whole machine.
pub(super) const PROC_MASKED: [&str; 23] = [
    "acpi",
    "asound",
    "config.gz",
    "interrupts",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "pagetypeinfo",
    "sched_debug",
    "scsi",
    "slabinfo",
    "softirqs",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];

/// Of these, what a module may bring while the machine runs. The others come with the kernel.
const PROC_OF_MODULES: [&str; 4] = ["acpi", "asound", "config.gz", "scsi"];

/// How many processors there are, which allocators, runtimes and build tools ask.
pub(super) const PROCESSORS: &str = "/sys/devices/system/cpu";
pub(super) const VAR_TMP: &str = "/var/tmp";
/// Where programs look for the address of their resolver.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";
/// Where they look before they ask it.
pub(super) const HOSTS: &str = "/etc/hosts";

/// The directory of a repository, or the file that names it.
pub(super) const GIT: &str = ".git";

/// What a directory holds that git takes for a repository's data, whatever its name.
pub(super) const GIT_DIRECTORY: [&str; 3] = ["HEAD", "objects", "refs"];

/// Every host path whose facts [`compile`](super::compile()) needs, but for the [`lasting_paths`],
/// in the order of a walk and without doubles.
/// `own` are the directories that become [`HostFacts::state_directories`].
///
/// [`HostFacts::state_directories`]: crate::model::HostFacts::state_directories
pub fn wanted_paths(
    profile: &Profile,
    workspace: &Path,
    home: &Path,
    own: &[PathBuf],
) -> Vec<PathBuf> {
    let filesystem = &profile.filesystem;
    let mut wanted: Vec<PathBuf> = [workspace, home, Path::new(PROCESSORS), Path::new(VAR_TMP)]
        .into_iter()
        .map(Path::to_path_buf)
        .chain(own.iter().cloned())
        .collect();
    wanted.extend(PROC_OF_MODULES.map(in_proc));
    if !profile.network.destinations.is_empty() {
        wanted.extend([RESOLVER, HOSTS].map(PathBuf::from));
        wanted.extend(STORES.map(PathBuf::from));
    }
    wanted.extend(GIT_DIRECTORY.map(|name| workspace.join(name)));
    wanted.extend(lies_at_protected(profile, workspace).map(|(above, _)| above.join(".git")));

    let expanded = |text: &String| expand(text, home);
    let toolchain_paths = filesystem.toolchains.iter().flat_map(|toolchain| {
        toolchain.directories.iter().chain(&toolchain.search_path).filter_map(expanded)
    });
    let written: Vec<PathBuf> =
        filesystem.write.iter().filter_map(|grant| expanded(&grant.path)).collect();
    let nested: Vec<PathBuf> = filesystem
        .read
        .iter()
        .map(|grant| &grant.path)
        .chain(filesystem.hidden.iter().map(|entry| &entry.name))
        .chain(filesystem.toolchains.iter().flat_map(|it| &it.credentials))
        .chain(filesystem.all_caches().map(|(path, _)| path))
        .filter_map(expanded)
        .chain(toolchain_paths)
        .collect();
    // What lies inside a writable tree can only be kept in place by pinning what is above it.
    for root in written.iter().map(PathBuf::as_path).chain([workspace]) {
        let above = nested.iter().flat_map(|path| between(root, path));
        wanted.extend(above.map(Path::to_path_buf));
    }
    for name in filesystem.protected.iter().filter_map(Entry::protected_name) {
        let path = workspace.join(name);
        wanted.extend(between(workspace, &path).into_iter().map(Path::to_path_buf));
        wanted.push(path);
    }
    wanted.extend(written);
    wanted.extend(nested);
    in_order(wanted)
}

/// What a repository outside the workspace adds to them.
pub fn wanted_of_repository(common: &Path) -> Vec<PathBuf> {
    let objects = common.join("objects");
    vec![common.to_owned(), objects.join("info"), objects]
}

/// The paths that the host has to be asked about only once while its kernel runs.
pub fn lasting_paths() -> Vec<PathBuf> {
    let lasting = PROC_MASKED.into_iter().filter(|it| !PROC_OF_MODULES.contains(it));
    lasting.map(in_proc).collect()
}

pub(super) fn in_proc(name: &str) -> PathBuf {
    Path::new("/proc").join(name)
}

/// What a second look needs, once the [`wanted_paths`] have been `found`: the way to what protected
/// names lead to that are symbolic links. Empty in most workspaces.
pub fn wanted_behind_links(
    profile: &Profile,
    workspace: &Path,
    found: &PathMap<PathFact>,
) -> Vec<PathBuf> {
    let names = profile.filesystem.protected.iter();
    let links = names
        .filter_map(|entry| {
            let path = workspace.join(entry.protected_name()?);
            let fact = found.get(&path)?;
            Some((path, fact))
        })
        .filter(|(_, fact)| fact.kind == PathKind::SymbolicLink);
    let mut wanted = Vec::new();
    for (link, fact) in links {
        let mut targets = vec![fact.canonical.clone()];
        if fact.canonical_kind == PathKind::SymbolicLink {
            let spelled = fact.link.as_ref().and_then(|text| leads_to(&link, text));
            let spelled = spelled.filter(|it| lies_in(it, workspace));
            wanted.extend(spelled.clone());
            targets.extend(spelled);
        }
        let above = targets.iter().flat_map(|target| between(workspace, target));
        wanted.extend(above.map(Path::to_path_buf));
    }
    in_order(wanted)
}

/// What another look needs where the workspace's repository has others in its tree: the names that
/// are protected in those as they are in it.
pub fn wanted_in_repositories(profile: &Profile, repositories: &[PathBuf]) -> Vec<PathBuf> {
    let mut wanted = Vec::new();
    for top in repositories {
        wanted.push(top.join(GIT));
        for (name, _) in protected_git_names(profile) {
            let path = top.join(name);
            wanted.extend(between(top, &path).into_iter().map(Path::to_path_buf));
            wanted.push(path);
        }
    }
    wanted.extend(repositories.iter().cloned());
    in_order(wanted)
}

/// Whether a run of this profile can tie other repositories to the workspace's, and should not.
pub fn protects_repositories(profile: &Profile) -> bool {
    profile.filesystem.workspace.mode == WorkspaceMode::Direct
        && protected_git_names(profile).next().is_some()
}

/// The protected names that are git's own: what makes git start other programs, or believe other
/// things, in any repository.
pub(super) fn protected_git_names(profile: &Profile) -> impl Iterator<Item = (&Path, &Entry)> {
    let names = profile.filesystem.protected.iter();
    let names = names.filter_map(|it| Some((it.protected_name()?, it)));
    names.filter(|(name, _)| name.components().count() > 1 && name.starts_with(GIT))
}

fn in_order(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_unstable_by(|a, b| walk_order(a, b));
    paths.dedup();
    paths
}

/// The absolute path that a profile's spelling means; nothing for a relative path or one with
/// `..`, which would mean different places on different days.
pub fn expand(text: &str, home: &Path) -> Option<PathBuf> {
    if text.contains('\0') {
        return None;
    }
    let path = match text.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) => home.join(rest.strip_prefix('/')?.trim_start_matches('/')),
        None => PathBuf::from(text),
    };
    if is_plain(&path) {
        return Some(path);
    }
    let climbs = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && !climbs).then(|| path.components().collect())
}

/// The directories above the workspace in which it lies at or below the first component of a
/// protected name, each with that component; outermost first.
///
/// The whole of the first component, because a workspace `.git` would hold `.git/hooks` under a
/// name that nothing protects.
pub(super) fn lies_at_protected<'a>(
    profile: &'a Profile,
    workspace: &'a Path,
) -> impl Iterator<Item = (&'a Path, &'a Entry)> {
    let names = profile.filesystem.protected.iter();
    let firsts: Vec<(&OsStr, &Entry)> =
        names.filter_map(|it| Some((it.protected_name()?.iter().next()?, it))).collect();
    let components = workspace.ancestors().filter_map(|it| Some((it.parent()?, it.file_name()?)));
    let at = |(parent, component): (&'a Path, &OsStr)| {
        firsts.iter().find(|(first, _)| *first == component).map(|(_, entry)| (parent, *entry))
    };
    let above: Vec<(&Path, &Entry)> = components.filter_map(at).collect();
    above.into_iter().rev()
}

/// Where the `text` of a symbolic link leads if nothing on the way is a link. Nothing where `..`
/// follows a name: what it means depends on what is there.
pub(super) fn leads_to(link: &Path, text: &Path) -> Option<PathBuf> {
    let mut path = link.parent()?.to_path_buf();
    let mut named = false;
    for part in text.components() {
        match part {
            Component::ParentDir if named => return None,
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir => path.push(part),
            Component::Normal(name) => {
                named = true;
                path.push(name);
            }
        }
    }
    Some(path)
}

/// The directories strictly between `root` and `path`, outermost first; none if `path` does not
/// lie below `root`.
pub(super) fn between<'a>(root: &Path, path: &'a Path) -> Vec<&'a Path> {
    if path == root || !lies_in(path, root) {
        return Vec::new();
    }
    let bytes = path.as_os_str().as_bytes();
    // A slash that ends `root` is the root's own.
    let below = root.as_os_str().len().max(1) + usize::from(root != Path::new("/"));
    let ends = bytes.iter().enumerate().skip(below).filter(|(_, byte)| **byte == b'/');
    ends.filter_map(|(end, _)| Some(Path::new(OsStr::from_bytes(bytes.get(..end)?)))).collect()
}

/// Whether one of the two lies at or below the other.
pub(super) fn overlap(a: &Path, b: &Path) -> bool {
    lies_in(a, b) || lies_in(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::entry;

    #[test]
    fn a_tilde_is_the_home_directory_and_nothing_else_is_guessed() {
        let home = Path::new("/home/u");
        for (text, path) in [
            ("~", Some("/home/u")),
            ("~/.cargo/", Some("/home/u/.cargo")),
            ("~//x", Some("/home/u/x")),
            ("/usr/./lib//x", Some("/usr/lib/x")),
            ("~root/x", None),
            ("usr", None),
            ("/usr/../etc", None),
            ("", None),
        ] {
            assert_eq!(expand(text, home), path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn a_protected_name_is_relative_and_holds_no_pattern() {
        for (text, name) in [
            (".git/hooks", Some(".git/hooks")),
            ("infra/**", Some("infra")),
            (".git/", Some(".git")),
            ("../x", None),
            ("/etc", None),
            ("*.pem", None),
            ("a/./b", None),
            ("a//b", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(entry(text).protected_name(), name.map(Path::new), "{text}");
        }
    }

    #[test]
    fn a_link_leads_where_its_words_say_from_where_it_lies() {
        for (text, path) in [
            ("a/./b", Some("/w/d/a/b")),
            ("../a", Some("/w/a")),
            ("../../../../a", Some("/a")),
            ("/a/b", Some("/a/b")),
            ("a/../b", None),
            ("/a/../b", None),
        ] {
            let found = leads_to(Path::new("/w/d/link"), Path::new(text));
            assert_eq!(found, path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn between_names_the_directories_that_a_rename_could_move_away() {
        let names = |root, path| -> Vec<String> {
            between(Path::new(root), Path::new(path))
                .iter()
                .map(|it| it.display().to_string())
                .collect()
        };
        assert_eq!(names("/w", "/w/a/b/c"), ["/w/a", "/w/a/b"]);
        assert!(names("/w", "/w/a").is_empty());
        assert_eq!(names("/", "/a/b/c"), ["/a", "/a/b"]);
        assert!(names("/w", "/elsewhere/a/b").is_empty());
        assert!(names("/w", "/w").is_empty());
    }
}
