//! Which changes a person should see before they reach the user's tree, and which never do.
//!
//! Pure: a name, what was there and what will be. The names are those that something outside acts
//! on by itself; the profile's protected names come on top and are refused.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// Why a change is more than text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// The profile says that nobody inside may write it.
    Protected,
    /// It would run as its owner, or as its group.
    SetId,
    /// A socket, a pipe or a device.
    Special,
    /// What no filter can be sure to print or to name again.
    OddName,
    /// Runs with the project's credentials.
    Ci,
    /// What agents obey.
    Agent,
    /// What editors start when the project is opened.
    Editor,
    /// What shells and version managers load on entering the directory.
    Shell,
    /// What is installed: manifests and lock files.
    Manifest,
    /// Runs when somebody builds, tests or installs.
    Build,
    /// A branch, a tag or what is checked out.
    Branch,
    /// May be started from now on.
    Executable,
    /// Shadows a program of the system for whoever has this directory in the search path.
    Path,
    /// Leads out of the tree.
    Leaves,
    Huge,
    Deletion,
    /// Extended attributes, which few tools show.
    Attributes,
}

/// A class of changes, as one answers for it.
pub type Class = Risk;

/// What becomes of a change when nobody says more about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    /// A person has to agree.
    Confirm,
    Deny,
}

impl Risk {
    pub const ALL: [Self; 17] = [
        Self::Protected,
        Self::SetId,
        Self::Special,
        Self::OddName,
        Self::Ci,
        Self::Agent,
        Self::Editor,
        Self::Shell,
        Self::Manifest,
        Self::Build,
        Self::Branch,
        Self::Executable,
        Self::Path,
        Self::Leaves,
        Self::Huge,
        Self::Deletion,
        Self::Attributes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::SetId => "set-id",
            Self::Special => "special",
            Self::OddName => "odd-name",
            Self::Ci => "ci",
            Self::Agent => "agent",
            Self::Editor => "editor",
            Self::Shell => "shell",
            Self::Manifest => "manifest",
            Self::Build => "build",
            Self::Branch => "branch",
            Self::Executable => "executable",
            Self::Path => "path",
            Self::Leaves => "leaves",
            Self::Huge => "huge",
            Self::Deletion => "deletion",
            Self::Attributes => "attributes",
        }
    }

    pub fn verdict(self) -> Verdict {
        match self {
            Self::Protected | Self::SetId | Self::Special => Verdict::Deny,
            Self::OddName
            | Self::Ci
            | Self::Agent
            | Self::Editor
            | Self::Shell
            | Self::Manifest
            | Self::Build
            | Self::Branch
            | Self::Executable
            | Self::Path
            | Self::Leaves
            | Self::Huge
            | Self::Deletion
            | Self::Attributes => Verdict::Confirm,
        }
    }
}

/// A file this long is worth a question.
pub(super) const HUGE_BYTES: u64 = 64 << 20;

/// Files with these names, in any directory.
const NAMES: &[(&str, Risk)] = &[
    (".gitlab-ci.yml", Risk::Ci),
    ("Jenkinsfile", Risk::Ci),
    ("azure-pipelines.yml", Risk::Ci),
    ("bitbucket-pipelines.yml", Risk::Ci),
    (".travis.yml", Risk::Ci),
    (".drone.yml", Risk::Ci),
    ("AGENTS.md", Risk::Agent),
    ("CLAUDE.md", Risk::Agent),
    ("CLAUDE.local.md", Risk::Agent),
    ("GEMINI.md", Risk::Agent),
    (".cursorrules", Risk::Agent),
    (".mcp.json", Risk::Agent),
    ("opencode.json", Risk::Agent),
    (".aider.conf.yml", Risk::Agent),
    (".exrc", Risk::Editor),
    (".nvim.lua", Risk::Editor),
    (".dir-locals.el", Risk::Editor),
    (".editorconfig", Risk::Editor),
    (".envrc", Risk::Shell),
    (".env", Risk::Shell),
    (".bashrc", Risk::Shell),
    (".profile", Risk::Shell),
    (".zshenv", Risk::Shell),
    (".zshrc", Risk::Shell),
    (".tool-versions", Risk::Shell),
    ("mise.toml", Risk::Shell),
    (".mise.toml", Risk::Shell),
    (".nvmrc", Risk::Shell),
    (".autoenv", Risk::Shell),
    ("Cargo.toml", Risk::Manifest),
    ("Cargo.lock", Risk::Manifest),
    ("package.json", Risk::Manifest),
    ("package-lock.json", Risk::Manifest),
    ("npm-shrinkwrap.json", Risk::Manifest),
    ("yarn.lock", Risk::Manifest),
    ("pnpm-lock.yaml", Risk::Manifest),
    ("pnpm-workspace.yaml", Risk::Manifest),
    ("bun.lock", Risk::Manifest),
    ("bun.lockb", Risk::Manifest),
    ("pyproject.toml", Risk::Manifest),
    ("poetry.lock", Risk::Manifest),
    ("uv.lock", Risk::Manifest),
    ("Pipfile", Risk::Manifest),
    ("Pipfile.lock", Risk::Manifest),
    ("requirements.txt", Risk::Manifest),
    ("go.mod", Risk::Manifest),
    ("go.sum", Risk::Manifest),
    ("go.work", Risk::Manifest),
    ("Gemfile", Risk::Manifest),
    ("Gemfile.lock", Risk::Manifest),
    ("composer.json", Risk::Manifest),
    ("composer.lock", Risk::Manifest),
    ("pom.xml", Risk::Manifest),
    (".gitmodules", Risk::Manifest),
    ("build.rs", Risk::Build),
    ("rust-toolchain", Risk::Build),
    ("rust-toolchain.toml", Risk::Build),
    ("setup.py", Risk::Build),
    ("setup.cfg", Risk::Build),
    ("conftest.py", Risk::Build),
    ("sitecustomize.py", Risk::Build),
    ("usercustomize.py", Risk::Build),
    ("tox.ini", Risk::Build),
    ("noxfile.py", Risk::Build),
    ("Makefile", Risk::Build),
    ("makefile", Risk::Build),
    ("GNUmakefile", Risk::Build),
    ("CMakeLists.txt", Risk::Build),
    ("Justfile", Risk::Build),
    ("justfile", Risk::Build),
    ("Taskfile.yml", Risk::Build),
    ("Dockerfile", Risk::Build),
    ("Containerfile", Risk::Build),
    ("docker-compose.yml", Risk::Build),
    ("compose.yaml", Risk::Build),
    ("Vagrantfile", Risk::Build),
    ("build.gradle", Risk::Build),
    ("build.gradle.kts", Risk::Build),
    ("settings.gradle", Risk::Build),
    ("settings.gradle.kts", Risk::Build),
    (".bazelrc", Risk::Build),
    (".npmrc", Risk::Build),
    (".yarnrc", Risk::Build),
    (".yarnrc.yml", Risk::Build),
    (".pnpmfile.cjs", Risk::Build),
    (".pnp.cjs", Risk::Build),
    (".pypirc", Risk::Build),
    (".gitattributes", Risk::Build),
    (".gitconfig", Risk::Build),
    (".pre-commit-config.yaml", Risk::Build),
    ("lefthook.yml", Risk::Build),
    ("lefthook.yaml", Risk::Build),
    (".lefthook.yml", Risk::Build),
    (".lintstagedrc", Risk::Build),
];

/// Whatever lies below a directory of this name.
const DIRECTORIES: &[(&str, Risk)] = &[
    (".github", Risk::Ci),
    (".gitlab", Risk::Ci),
    (".circleci", Risk::Ci),
    (".buildkite", Risk::Ci),
    (".woodpecker", Risk::Ci),
    (".forgejo", Risk::Ci),
    (".gitea", Risk::Ci),
    (".ci", Risk::Ci),
    (".claude", Risk::Agent),
    (".codex", Risk::Agent),
    (".cursor", Risk::Agent),
    (".gemini", Risk::Agent),
    (".windsurf", Risk::Agent),
    (".opencode", Risk::Agent),
    (".clinerules", Risk::Agent),
    (".roo", Risk::Agent),
    (".kiro", Risk::Agent),
    (".vscode", Risk::Editor),
    (".idea", Risk::Editor),
    (".zed", Risk::Editor),
    (".devcontainer", Risk::Editor),
    (".mise", Risk::Shell),
    (".cargo", Risk::Build),
    (".mvn", Risk::Build),
    (".yarn", Risk::Build),
    (".husky", Risk::Build),
    (".githooks", Risk::Build),
    ("gradle", Risk::Build),
];

/// Whatever lies right in a directory of this name may be found by the search path.
const PROGRAMS: &[&str] = &["bin", ".bin"];

/// Endings of names.
const ENDINGS: &[(&str, Risk)] =
    &[(".code-workspace", Risk::Editor), (".pth", Risk::Build), (".mk", Risk::Build)];

/// What the name alone says.
pub(super) fn of_name(path: &Path) -> Vec<Risk> {
    let mut risks = Vec::new();
    let mut add = |risk: Risk| {
        if !risks.contains(&risk) {
            risks.push(risk);
        }
    };
    let names: Vec<&[u8]> = path
        .components()
        .filter_map(|it| match it {
            Component::Normal(name) => Some(name.as_bytes()),
            _ => None,
        })
        .collect();
    let Some((last, above)) = names.split_last() else { return risks };
    // A tree may lie on a file system that takes capital letters for small ones.
    let is = |name: &[u8], known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    for (known, risk) in NAMES {
        if is(last, known) {
            add(*risk);
        }
    }
    for (known, risk) in DIRECTORIES {
        if names.iter().any(|name| is(name, known)) {
            add(*risk);
        }
    }
    for (ending, risk) in ENDINGS {
        if last.to_ascii_lowercase().ends_with(ending.as_bytes()) {
            add(*risk);
        }
    }
    if above.last().is_some_and(|name| PROGRAMS.iter().any(|it| is(name, it))) {
        add(Risk::Path);
    }
    if is_of_git(path) && !path.starts_with(".git/objects") && !path.starts_with(".git/logs") {
        match names.get(1) {
            Some(name) if is(name, "index") || is(name, "COMMIT_EDITMSG") => {}
            Some(_) => add(Risk::Branch),
            None => {}
        }
    }
    // A checkout in the tree brings its own hooks and settings.
    if names.iter().skip(1).any(|name| is(name, ".git")) {
        add(Risk::Protected);
    }
    // The one file without which git takes no directory for a repository.
    if !is_of_git(path) && is(last, "HEAD") {
        add(Risk::Branch);
    }
    if names.iter().any(|name| is_odd(name)) {
        add(Risk::OddName);
    }
    risks
}

/// The repository's own data, which belongs together.
pub(super) fn is_of_git(path: &Path) -> bool {
    path.components().next().is_some_and(|it| it.as_os_str().as_bytes() == b".git")
}

/// A name that a terminal obeys, that looks like an option, or that is no text.
fn is_odd(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else { return true };
    let escaped = crate::model::Arg::new(name).map(|it| it.to_string());
    text.starts_with('-') || escaped.is_ok_and(|it| it.replace("\\\\", "\\") != text)
}

/// Whether a link at `path` leads out of the tree.
pub(super) fn leaves(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
        }
    }
    // Into the repository's own data is out of what is worked on.
    target.components().any(|it| it.as_os_str() == ".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_acts_on_it() {
        for (path, risks) in [
            ("src/lib.rs", &[][..]),
            ("Cargo.toml", &[Risk::Manifest]),
            ("crates/x/build.rs", &[Risk::Build]),
            (".GITHUB/workflows/ci.yml", &[Risk::Ci]),
            ("sub/.vscode/tasks.json", &[Risk::Editor]),
            ("sub/claude.md", &[Risk::Agent]),
            ("tools/bin/git", &[Risk::Path]),
            ("node_modules/.bin/tsc", &[Risk::Path]),
            ("x.code-workspace", &[Risk::Editor]),
            (".git/refs/heads/main", &[Risk::Branch]),
            (".git/HEAD", &[Risk::Branch]),
            (".git/index", &[]),
            (".git/objects/ab/cd", &[]),
            ("sub/.git/hooks/pre-commit", &[Risk::Protected]),
            ("sub/HEAD", &[Risk::Branch]),
            ("-rf", &[Risk::OddName]),
            ("a\u{1b}[2Jb", &[Risk::OddName]),
            ("a\nb", &[Risk::OddName]),
            ("a\u{202e}b", &[Risk::OddName]),
            ("a\\b", &[]),
            ("ärger", &[]),
        ] {
            assert_eq!(of_name(Path::new(path)), risks, "{path:?}");
        }
        let bytes = std::ffi::OsStr::from_bytes(b"\xff");
        assert_eq!(of_name(Path::new(bytes)), [Risk::OddName]);
    }

    #[test]
    fn a_link_leaves_by_climbing_or_by_the_root() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a", "../b", true),
            ("d/a", "../b", false),
            ("d/a", "../../b", true),
            ("d/a", "x/../../../b", true),
            ("a", "/etc/passwd", true),
            ("a", ".git/hooks", true),
        ] {
            assert_eq!(leaves(Path::new(path), Path::new(target)), out, "{path} -> {target}");
        }
    }

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Risk::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Risk::ALL.len());
        for risk in Risk::ALL {
            assert_eq!(serde_json::to_string(&risk).unwrap(), format!("\"{}\"", risk.name()));
        }
    }
}
