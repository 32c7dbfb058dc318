//! What a compiled plan contains, one behaviour per test.

use super::fixture::{
    WORKSPACE, add, add_link, bare, entry, grant, host, line, lines, no_userns, old_kernel, origin,
    plan_of, profile, program, request,
};
use super::*;
use crate::model::{Cause, HostFacts, Mechanism, Ports, Probe, Request};
use crate::profile::{Credential, Decoy, OnGap, Profile, SecretSource, Setting, WorkspaceMode};

mod caches;
mod order;
mod refusals;

const LEVELS: [Level; 3] = [Level::ReadOnlyResearch, Level::LocalWrites, Level::TestExecution];

fn plan(level: Level) -> SandboxPlan {
    plan_of(&request(level), &profile(level), &host()).unwrap()
}

#[track_caller]
fn check(plan: &SandboxPlan, path: &str, expected: &str) {
    assert_eq!(line(plan, path), expected, "in\n{}", lines(plan).join("\n"));
}

#[test]
fn a_granted_link_stays_a_link_to_what_it_names() {
    let plan = plan(Level::ReadOnlyResearch);
    check(&plan, "/bin", "`/bin` -> `/usr/bin`");
    check(&plan, "/usr", "`/usr`: read, start programs");
    check(&plan, "/usr/bin", "");
}

#[test]
fn a_link_to_a_place_outside_the_view_brings_the_place_with_it() {
    let (mut profile, mut host) = (profile(Level::ReadOnlyResearch), host());
    add_link(&mut host, "/opt/sdk", "/data/sdk", "/data/sdk", PathKind::Directory);
    profile.filesystem.read = vec![grant("/opt/sdk", false), grant("/usr", true)];
    let plan = plan_of(&request(profile.level), &profile, &host);
    assert!(matches!(plan, Err(PlanError::ProgramNotInView { .. })), "/bin is not granted");
    let mut request = request(profile.level);
    request.program = program("/usr/bin/ls", "/usr/bin/ls");
    let plan = plan_of(&request, &profile, &host).unwrap();
    check(&plan, "/opt/sdk", "`/opt/sdk` -> `/data/sdk`");
    check(&plan, "/data/sdk", "`/data/sdk`: read");
}

#[test]
fn a_grant_below_one_that_says_the_same_is_dropped_and_its_line_kept() {
    let plan = plan(Level::ReadOnlyResearch);
    check(&plan, "/usr/share", "");
    let usr = plan.view.iter().find(|it| it.path == std::path::Path::new("/usr")).unwrap();
    let because: Vec<_> = usr.because.iter().map(|it| &*it.because).collect();
    assert_eq!(
        because,
        [
            "the test grants /usr",
            "the test grants /bin",
            "the test grants /lib64",
            "the test grants /usr/share"
        ]
    );
}

#[test]
fn the_deepest_grant_decides_about_its_own_tree() {
    let mut profile = profile(Level::ReadOnlyResearch);
    profile.filesystem.read.retain(|it| it.path != "/usr/share");
    profile.filesystem.read.push(grant("/usr/share", false));
    let plan = plan_of(&request(profile.level), &profile, &host()).unwrap();
    check(&plan, "/usr/share", "`/usr/share`: read");
}

#[test]
fn two_grants_of_one_place_add_up() {
    let mut profile = profile(Level::ReadOnlyResearch);
    profile.filesystem.read.push(grant("/etc", true));
    let plan = plan_of(&request(profile.level), &profile, &host()).unwrap();
    check(&plan, "/etc", "`/etc`: read, start programs");
}

#[test]
fn a_grant_that_finds_no_path_is_listed_and_opens_nothing() {
    let plan = plan(Level::ReadOnlyResearch);
    check(&plan, "/opt/sdk", "");
    let absent: Vec<_> = plan.absent.iter().map(|it| it.path.display().to_string()).collect();
    assert_eq!(absent, ["/opt/sdk"]);
}

#[test]
fn a_link_to_nowhere_opens_nothing_and_hides_nothing() {
    let mut host = host();
    for path in ["/opt/sdk", "/etc/shadow"] {
        add_link(&mut host, path, "nowhere", path, PathKind::SymbolicLink);
    }
    let level = Level::ReadOnlyResearch;
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    check(&plan, "/opt/sdk", "");
    check(&plan, "/etc/shadow", "");
    assert!(plan.absent.iter().any(|it| it.path.ends_with("sdk")));
}

#[test]
fn a_profile_without_grants_shows_nothing_of_the_host_but_the_workspace() {
    let mut host = host();
    add(&mut host, &format!("{WORKSPACE}/run"), PathKind::File);
    let mut profile = bare(Level::ReadOnlyResearch);
    profile.exec.workspace_programs = Some(origin(1, "something must start"));
    let mut request = request(profile.level);
    let path = format!("{WORKSPACE}/run");
    request.program = program(&path, &path);
    let plan = plan_of(&request, &profile, &host).unwrap();
    let bound: Vec<_> =
        plan.view.iter().filter(|it| it.bound().is_some()).map(ToString::to_string).collect();
    assert_eq!(
        bound,
        ["`/home/u/src/app`: read, start programs", "`/sys/devices/system/cpu`: read"]
    );
    assert_eq!(predict(&plan, &Operation::Read("/etc/passwd".into())).answer, Answer::NotInView);
}

#[test]
fn credentials_in_a_granted_directory_are_masked_and_the_rest_of_home_is_not_there() {
    let plan = plan(Level::TestExecution);
    check(
        &plan,
        "/home/u/.cargo/credentials.toml",
        "`/home/u/.cargo/credentials.toml`: hidden, an empty file",
    );
    check(&plan, "/etc/shadow", "`/etc/shadow`: hidden, an empty file");
    check(&plan, "/etc/ssh", "`/etc/ssh`: hidden, an empty directory");
    check(&plan, "/home/u/.ssh", "");
    assert_eq!(
        predict(&plan, &Operation::Read("/home/u/.ssh".into())).answer,
        Answer::Allowed,
        "the private home has nothing there"
    );
}

#[test]
fn rungs_own_directories_are_hidden_wherever_a_grant_would_show_them() {
    let mut profile = profile(Level::ReadOnlyResearch);
    profile.filesystem.read.push(grant("/home/u/.local", false));
    let mut host = host();
    add(&mut host, "/home/u/.local", PathKind::Directory);
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&plan, "/etc/rung", "`/etc/rung`: hidden, an empty directory");
    check(
        &plan,
        "/home/u/.local/state/rung",
        "`/home/u/.local/state/rung`: hidden, an empty directory",
    );
}

#[test]
fn a_hidden_link_hides_what_it_leads_to() {
    let mut host = host();
    add_link(&mut host, "/etc/ssh", "/usr/ssh", "/usr/ssh", PathKind::Directory);
    let level = Level::ReadOnlyResearch;
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    check(&plan, "/etc/ssh", "");
    check(&plan, "/usr/ssh", "`/usr/ssh`: hidden, an empty directory");
}

#[test]
fn no_grant_reaches_below_what_is_hidden() {
    let (mut profile, mut host) = (profile(Level::ReadOnlyResearch), host());
    add(&mut host, "/etc/ssh/known", PathKind::Directory);
    profile.filesystem.read.push(grant("/etc/ssh/known", true));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&plan, "/etc/ssh/known", "");
    assert!(plan.absent.iter().any(|it| it.path.ends_with("known")));
}

/// Renaming a directory above a mask would show what it hides.
#[test]
fn what_is_hidden_in_a_writable_tree_cannot_be_moved_from_under_its_mask() {
    let (mut profile, mut host) = (profile(Level::LocalWrites), host());
    let secret = format!("{WORKSPACE}/conf/secret");
    add(&mut host, &format!("{WORKSPACE}/conf"), PathKind::Directory);
    add(&mut host, &secret, PathKind::File);
    profile.filesystem.hidden.push(entry(&secret));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&plan, &secret, &format!("`{secret}`: hidden, an empty file"));
    let conf = format!("{WORKSPACE}/conf");
    check(&plan, &conf, &format!("`{conf}`: cannot be moved away"));
}

#[test]
fn a_protected_name_is_read_only_and_every_directory_above_it_is_pinned() {
    let plan = plan(Level::LocalWrites);
    let of = |name: &str| line(&plan, format!("{WORKSPACE}/{name}"));
    assert!(of(".git").ends_with("cannot be moved away"), "{}", of(".git"));
    assert!(of(".git/hooks").ends_with("read only, cannot be replaced"));
    assert!(of(".git/config").ends_with("read only, cannot be replaced"));
    let order: Vec<_> = lines(&plan).into_iter().filter(|it| it.contains("/app")).collect();
    assert_eq!(
        order,
        [
            "`/home/u/src/app`: read, write",
            "`/home/u/src/app/.git`: cannot be moved away",
            "`/home/u/src/app/.git/config`: read only, cannot be replaced",
            "`/home/u/src/app/.git/hooks`: read only, cannot be replaced",
        ]
    );
}

#[test]
fn a_protected_name_that_is_missing_or_a_link_is_watched() {
    let mut host = host();
    add_link(&mut host, &format!("{WORKSPACE}/.envrc"), "/srv/envrc", "/srv/envrc", PathKind::File);
    let level = Level::LocalWrites;
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    let watched: Vec<_> = plan
        .watched
        .iter()
        .map(|it| (it.path.strip_prefix(WORKSPACE).unwrap().display().to_string(), it.link.clone()))
        .collect();
    assert_eq!(
        watched,
        [
            (".cargo/config.toml".to_owned(), None),
            (".envrc".to_owned(), Some("/srv/envrc".into())),
            (".vscode".to_owned(), None),
        ]
    );
}

#[test]
fn what_a_protected_link_leads_to_in_the_workspace_is_protected_too() {
    let (level, mut host) = (Level::LocalWrites, host());
    let (link, target) = (format!("{WORKSPACE}/.envrc"), format!("{WORKSPACE}/env/local/rc"));
    add_link(&mut host, &link, "env/local/rc", &target, PathKind::File);
    let error = refused(&request(level), &profile(level), &host);
    assert!(error.contains("not there any more"), "nobody looked at the way to it: {error}");
    let more = wanted_behind_links(&profile(level), WORKSPACE.as_ref(), &host.paths);
    for path in more {
        add(&mut host, path.to_str().unwrap(), PathKind::Directory);
    }
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    let env: Vec<_> = lines(&plan).into_iter().filter(|it| it.contains("app/env")).collect();
    assert_eq!(
        env,
        [
            format!("`{WORKSPACE}/env`: cannot be moved away"),
            format!("`{WORKSPACE}/env/local`: cannot be moved away"),
            format!("`{target}`: read only, cannot be replaced"),
        ]
    );
    assert!(plan.watched.iter().any(|it| it.path == std::path::Path::new(&link)));
}

/// Whoever may make what the link names decides what the protected name holds.
#[test]
fn what_a_protected_link_to_nowhere_would_lead_to_is_watched() {
    let (level, mut host) = (Level::LocalWrites, host());
    let link = format!("{WORKSPACE}/.envrc");
    add_link(&mut host, &link, "env/local/rc", &link, PathKind::SymbolicLink);
    let wanted = wanted_behind_links(&profile(level), WORKSPACE.as_ref(), &host.paths);
    for name in ["env", "env/local", "env/local/rc"] {
        assert!(wanted.contains(&format!("{WORKSPACE}/{name}").into()), "{name}: {wanted:?}");
    }
    add(&mut host, &format!("{WORKSPACE}/env"), PathKind::Directory);
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    let env = format!("{WORKSPACE}/env");
    check(&plan, &env, &format!("`{env}`: cannot be moved away"));
    let watched: Vec<_> = plan.watched.iter().map(|it| it.path.display().to_string()).collect();
    assert!(watched.contains(&link), "{watched:?}");
    assert!(watched.contains(&format!("{env}/local/rc")), "{watched:?}");
}

#[test]
fn a_protected_link_that_others_could_turn_ends_the_run() {
    let level = Level::LocalWrites;
    let link = format!("{WORKSPACE}/.envrc");
    let refused_link = |text: &str, canonical: &str, kind: PathKind| {
        let mut host = host();
        add_link(&mut host, &link, text, canonical, kind);
        let other = format!("{WORKSPACE}/other");
        add_link(&mut host, &other, "/nowhere", &other, PathKind::SymbolicLink);
        refused(&request(level), &profile(level), &host)
    };
    let real = format!("{WORKSPACE}/real");
    for (text, canonical, kind, says) in [
        ("other/rc", real.as_str(), PathKind::File, "leads through another link"),
        ("other/rc", "/srv/rc", PathKind::File, "leads through another link"),
        ("a/../real", &real, PathKind::File, "`..` after a name"),
        ("other", &link, PathKind::SymbolicLink, "a link to another link"),
        ("other/rc", &link, PathKind::SymbolicLink, "is a symbolic link"),
    ] {
        let error = refused_link(text, canonical, kind);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_protected_link_to_another_protected_name_needs_nothing_more() {
    let (level, mut host) = (Level::LocalWrites, host());
    let config = format!("{WORKSPACE}/.git/config");
    add_link(&mut host, &format!("{WORKSPACE}/.vscode"), ".git/config", &config, PathKind::File);
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    check(&plan, &config, &format!("`{config}`: read only, cannot be replaced"));
}

/// A linked worktree has a `.git` file that says where the repository is.
#[test]
fn a_file_in_place_of_a_protected_names_directory_is_protected_itself() {
    let mut host = host();
    host.paths.retain(|path, _| !path.starts_with(format!("{WORKSPACE}/.git")));
    add(&mut host, &format!("{WORKSPACE}/.git"), PathKind::File);
    let level = Level::LocalWrites;
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    let git = format!("{WORKSPACE}/.git");
    check(&plan, &git, &format!("`{git}`: read only, cannot be replaced"));
    assert_eq!(plan.view.iter().filter(|it| it.path.starts_with(&git)).count(), 1);
}

#[test]
fn what_lies_in_a_protected_directory_needs_no_entry_of_its_own() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.protected.push(entry(".git"));
    let plan = plan_of(&request(profile.level), &profile, &host()).unwrap();
    let git = format!("{WORKSPACE}/.git");
    let below: Vec<_> = lines(&plan).into_iter().filter(|it| it.contains("/.git")).collect();
    assert_eq!(below, [format!("`{git}`: read only, cannot be replaced")]);
}

/// A pin would be a writable mount inside the read-only one.
#[test]
fn nothing_is_pinned_inside_a_protected_directory() {
    let (mut profile, mut host) = (profile(Level::LocalWrites), host());
    let secret = format!("{WORKSPACE}/.git/keys/secret");
    add(&mut host, &format!("{WORKSPACE}/.git/keys"), PathKind::Directory);
    add(&mut host, &secret, PathKind::File);
    profile.filesystem.protected.push(entry(".git"));
    profile.filesystem.hidden.push(entry(&secret));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&plan, &secret, &format!("`{secret}`: hidden, an empty file"));
    assert!(!plan.view.iter().any(|it| matches!(it.what, What::Pinned { .. })));
}

#[test]
fn nothing_is_mounted_below_a_mask() {
    let (mut profile, host) = (profile(Level::LocalWrites), host());
    let git = format!("{WORKSPACE}/.git");
    profile.filesystem.hidden.push(entry(&git));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    let below: Vec<_> = lines(&plan).into_iter().filter(|it| it.contains("/.git")).collect();
    // A mask is a mount point, so it cannot be moved away either.
    assert_eq!(below, [format!("`{git}`: hidden, an empty directory")]);
}

#[test]
fn a_read_only_workspace_needs_no_protection() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.workspace.mode = WorkspaceMode::ReadOnly;
    let plan = plan_of(&request(profile.level), &profile, &host()).unwrap();
    assert!(plan.watched.is_empty());
    let laid = |it: &ViewEntry| matches!(it.what, What::Pinned { .. } | What::Protected { .. });
    assert!(!plan.view.iter().any(laid));
}

#[test]
fn a_workspace_in_a_private_place_lies_on_top_of_it() {
    for workspace in ["/home/u/src/app", "/tmp/app", "/var/tmp/app", "/srv/app"] {
        let mut host = host();
        add(&mut host, workspace, PathKind::Directory);
        let mut request = request(Level::LocalWrites);
        request.workspace = workspace.into();
        request.cwd = workspace.into();
        let plan = plan_of(&request, &profile(request.level), &host).unwrap();
        check(&plan, workspace, &format!("`{workspace}`: read, write"));
        let last = plan.view.iter().rev().find(|it| request.cwd.starts_with(&it.path)).unwrap();
        assert_eq!(last.path, request.workspace);
        let through_link = plan.view.iter().any(|it| {
            matches!(it.what, What::SymbolicLink { .. }) && request.workspace.starts_with(&it.path)
        });
        assert!(!through_link, "{workspace} is mounted through a link");
    }
}

#[test]
fn a_home_that_is_a_link_is_emptied_where_it_leads() {
    let mut host = host();
    add_link(&mut host, "/home/u", "/data/u", "/data/u", PathKind::Directory);
    let level = Level::ReadOnlyResearch;
    let plan = plan_of(&request(level), &profile(level), &host).unwrap();
    check(&plan, "/home/u", "");
    assert!(line(&plan, "/data/u").contains("private and empty"));
}

#[test]
fn only_names_that_this_kernel_has_are_masked_in_proc() {
    check(
        &plan(Level::ReadOnlyResearch),
        "/proc",
        "`/proc`: the run's own processes, without acpi, kcore, keys",
    );
}

#[test]
fn var_tmp_is_tmp_unless_the_hosts_would_show() {
    let mut profile = profile(Level::ReadOnlyResearch);
    check(&plan(profile.level), "/var/tmp", "`/var/tmp` -> `/tmp`");
    let mut host = host();
    add(&mut host, "/var", PathKind::Directory);
    profile.filesystem.read.push(grant("/var", false));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    assert!(line(&plan, "/var/tmp").contains("private and empty"));
}

#[test]
fn real_root_becomes_nobody_and_says_that_its_processes_are_counted_by_looking() {
    let mut host = HostFacts { uid: 0, gid: 0, ..host() };
    let profile = profile(Level::LocalWrites);
    let request = request(profile.level);
    let plan = plan_of(&request, &profile, &host).unwrap();
    let identity = plan.identity;
    assert_eq!((identity.outer_uid, identity.inner_uid, identity.inner_gid), (0, 65534, 65534));
    assert_eq!(plan.limits.processes_by, ProcessesBy::Polling);
    assert_eq!(plan.command.environment["USER"].value, fixture::arg("nobody"));
    host.cgroup = Some("/sys/fs/cgroup/rung".into());
    let plan = plan_of(&request, &profile, &host).unwrap();
    assert!(plan.gaps.is_empty());
    assert_eq!(plan.limits.memory_by, MemoryBy::Cgroup("/sys/fs/cgroup/rung".into()));
    assert_eq!(plan.limits.processes_by, ProcessesBy::Cgroup);
}

#[test]
fn an_ordinary_user_stays_who_they_are() {
    let identity = plan(Level::LocalWrites).identity;
    assert_eq!((identity.inner_uid, identity.inner_gid), (1000, 1000));
}

#[test]
fn the_environment_is_what_the_profile_passes_and_sets_and_nothing_else() {
    let plan = plan(Level::TestExecution);
    let names: Vec<_> = plan.command.environment.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "CARGO_NET_OFFLINE",
            "GIT_PAGER",
            "HOME",
            "LANG",
            "LC_ALL",
            "LOGNAME",
            "NO_PAGER",
            "PATH",
            "PWD",
            "RUNG_LEVEL",
            "RUNG_RUN",
            "SHELL",
            "TERM",
            "TMPDIR",
            "USER",
        ]
    );
    let value = |name: &str| plan.command.environment[name].value.to_string();
    assert_eq!(value("GIT_PAGER"), "cat", "the pack's own");
    assert_eq!(
        value("PATH"),
        "/home/u/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "a search path that does not exist is left out"
    );
    assert_eq!(value("PWD"), WORKSPACE);
    assert_eq!(value("TERM"), "dumb");
}

#[test]
fn a_pattern_never_passes_a_variable_that_is_code() {
    let mut profile = profile(Level::ReadOnlyResearch);
    profile.environment.pass = ["L*", "S*", "T*"].map(entry).to_vec();
    let mut request = request(profile.level);
    for name in ["SSH_AUTH_SOCK", "TERM", "SHELL", "TMPDIR"] {
        request.environment.insert(name.to_owned(), fixture::arg("from the caller"));
    }
    let plan = plan_of(&request, &profile, &host()).unwrap();
    let variables = &plan.command.environment;
    assert!(!variables.contains_key("LD_PRELOAD") && !variables.contains_key("SSH_AUTH_SOCK"));
    assert!(variables.contains_key("SECRET_TOKEN"), "the profile asked for it");
    assert_eq!(variables["SHELL"].value, fixture::arg("/bin/sh"));
    assert_eq!(variables["TMPDIR"].value, fixture::arg("/tmp"));
    assert_eq!(variables["TERM"].value, fixture::arg("from the caller"));
}

#[test]
fn every_landlock_right_of_the_kernel_is_handled_and_none_is_granted_beyond_it() {
    for abi in [2, 3, 5, 7] {
        let host = HostFacts { landlock_abi: abi, ..host() };
        let level = Level::TestExecution;
        let plan = plan_of(&request(level), &profile(level), &host).unwrap().landlock;
        assert_eq!(plan.handled, FsRights::handled_by(abi), "abi {abi}");
        assert!(
            plan.rules.iter().map(|it| it.1).all(|it| plan.handled.contains(it.rights)),
            "abi {abi}"
        );
        assert!(
            plan.rules
                .iter()
                .map(|it| it.1)
                .all(|it| !it.rights.is_empty() && !it.because.is_empty())
        );
        assert_eq!(plan.scoped, if abi >= 6 { 3 } else { 0 }, "abi {abi}");
    }
}

#[test]
fn sockets_are_handled_by_landlock_where_the_sandbox_has_no_loopback() {
    assert_eq!(plan(Level::LocalWrites).landlock.handled_net, 3);
    assert_eq!(plan(Level::TestExecution).landlock.handled_net, 0);
}

#[test]
fn rights_follow_the_view() {
    let plan = plan(Level::TestExecution).landlock;
    let check = |path: &str, rights: FsRights| {
        assert_eq!(plan.rules.get(path.as_ref()).unwrap().rights, rights & plan.handled, "{path}");
    };
    check("/", FsRights::READ_DIR);
    check("/usr", FsRights::of(Access::Read, true));
    check("/etc", FsRights::of(Access::Read, false));
    check("/proc", FsRights::of(Access::Read, false));
    check(WORKSPACE, FsRights::of(Access::Write, true));
    check("/tmp", FsRights::of(Access::Write, true));
    check("/dev/shm", FsRights::of(Access::Write, false));
    assert!(!plan.rules.contains("/bin".as_ref()), "a link has no rule");
}

#[test]
fn a_granted_file_gets_no_directory_rights() {
    let (mut profile, mut host) = (profile(Level::ReadOnlyResearch), host());
    add(&mut host, "/opt/licence", PathKind::File);
    profile.filesystem.read.push(grant("/opt/licence", false));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    let rule = plan.landlock.rules.get("/opt/licence".as_ref()).unwrap();
    assert_eq!(rule.rights.to_string(), "{read_file}");
}

/// ABI 1 refuses every rename between directories, which would break git in the workspace; a
/// level that writes nothing loses nothing by it.
#[test]
fn an_old_landlock_is_used_only_where_nothing_is_written() {
    let level = Level::ReadOnlyResearch;
    let reading = plan_of(&request(level), &profile(level), &old_kernel()).unwrap();
    assert_eq!(reading.landlock.abi, 1);
    let level = Level::LocalWrites;
    let mut profile = profile(level);
    let error = plan_of(&request(level), &profile, &old_kernel()).unwrap_err().to_string();
    assert!(error.contains("Landlock ABI 1 of Linux 5.15.0"), "{error}");
    profile.on_gap = OnGap::Allow;
    let writing = plan_of(&request(level), &profile, &old_kernel()).unwrap();
    assert_eq!((writing.landlock.handled, writing.gaps.len()), (FsRights::NONE, 1));
    assert!(writing.landlock.rules.is_empty());
}

fn asked_with(host: &str, methods: &[&str]) -> crate::profile::Destination {
    crate::profile::Destination {
        host: host.to_owned(),
        ports: Ports::new(443, 443).into_iter().collect(),
        addresses: Vec::new(),
        methods: methods.iter().map(|it| (*it).to_owned()).collect(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: origin(60, "mirror"),
    }
}

/// A host whose names can be replaced.
fn with_names() -> HostFacts {
    let mut host = host();
    add(&mut host, "/etc/resolv.conf", PathKind::File);
    host
}

#[test]
fn a_destination_says_with_which_methods_it_may_be_asked() {
    let mut profile = profile(Level::TestExecution);
    profile.network.destinations.push(asked_with("packages.example.org", &["GET", "PURGE"]));
    let mut host = with_names();
    let store = "/etc/ssl/certs/ca-certificates.crt";
    add(&mut host, store, PathKind::File);
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    let text = explain(&plan);
    assert!(
        text.contains("packages.example.org at port 443, only HTTP requests with GET and PURGE"),
        "{text}"
    );
    for path in [store, "/run/authorities.pem"] {
        let own = format!("`{path}`: the host's authorities and one of the run's own, read");
        check(&plan, path, &own);
    }
    assert!(plan.command.environment.contains_key("SSL_CERT_FILE"));
    profile.network.destinations.clear();
    profile.network.destinations.push(asked_with("packages.example.org", &[]));
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    assert!(!plan.command.environment.contains_key("SSL_CERT_FILE"), "nothing is read");
    check(&plan, "/run/authorities.pem", "");
}

/// Nobody asks for what is listed by itself, and no address of the host's own file leads astray.
#[test]
fn names_that_are_listed_stand_in_the_runs_own_hosts_file() {
    let mut profile = profile(Level::TestExecution);
    for host in ["*.example.org", "b.example.org", "a.example.org", "b.example.org"] {
        profile.network.destinations.push(asked_with(host, &[]));
    }
    let mut host = with_names();
    let without = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&without, "/etc/hosts", "");
    add(&mut host, "/etc/hosts", PathKind::File);
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    check(&plan, "/etc/hosts", "`/etc/hosts`: a file of the run's own, read");
    let entry = plan.view.iter().find(|it| it.path.as_os_str() == "/etc/hosts");
    let Some(What::Text { text, .. }) = entry.map(|it| &it.what) else { panic!("no text") };
    assert_eq!(
        text,
        "127.0.0.1 localhost rung\n::1 localhost rung\n\
         198.18.1.0 b.example.org\nfd00:5a::100 b.example.org\n\
         198.18.1.1 a.example.org\nfd00:5a::101 a.example.org\n"
    );
}

/// What levels below list for more, production-adjacent work may only read.
#[test]
fn level_5_only_reads() {
    let mut profile = profile(Level::ProductionAdjacent);
    let listed = [
        asked_with("registry.example.org", &[]),
        asked_with("telemetry.example.org", &["GET", "POST"]),
    ];
    profile.network.destinations.extend(listed);
    let host = with_names();
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    let egress = plan.network.egress.unwrap();
    let methods: Vec<_> = egress.destinations.iter().map(|it| it.methods.join(" ")).collect();
    assert_eq!(methods, ["GET HEAD", "GET"]);
    profile.network.destinations.push(asked_with("orders.example.org", &["POST"]));
    let error = plan_of(&request(profile.level), &profile, &host).unwrap_err().to_string();
    assert!(error.contains("level 5 only reads"), "{error}");
}

/// The plan says where the secret comes from and where it goes, and has neither it nor what stands
/// for it.
#[test]
fn a_credential_is_a_mark_in_the_plan() {
    let mut profile = profile(Level::TestExecution);
    profile.network.destinations.push(asked_with("*.example.org", &[]));
    profile.credentials.push(Credential {
        name: "telemetry".to_owned(),
        host: "a.example.org".to_owned(),
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        header: "authorization".to_owned(),
        format: "Bearer {}".to_owned(),
        login: "rung".to_owned(),
        source: SecretSource::Variable("OUTSIDE".to_owned()),
        variable: Some("TOKEN".to_owned()),
        decoys: Decoy::ALL.to_vec(),
        origin: origin(70, "reading"),
    });
    let host = with_names();
    let plan = plan_of(&request(profile.level), &profile, &host).unwrap();
    let mark = "{placeholder of telemetry}";
    assert_eq!(plan.command.environment["TOKEN"].value.to_string(), mark);
    check(&plan, "/home/u/.netrc", "`/home/u/.netrc`: placeholders of credentials, read");
    let text = |path: &str| {
        let found = plan.view.iter().find(|it| it.path == std::path::Path::new(path)).unwrap();
        let What::Text { text, .. } = &found.what else { panic!("{found:?}") };
        text.clone()
    };
    assert_eq!(
        text("/home/u/.netrc"),
        format!("machine a.example.org login rung password {mark}\n")
    );
    assert_eq!(text("/home/u/.npmrc"), format!("//a.example.org/:_authToken={mark}\n"));
    assert_eq!(
        text("/home/u/.config/gh/hosts.yml"),
        format!(
            "\"a.example.org\":\n    git_protocol: https\n    users:\n        \"rung\":\n            \
             oauth_token: \"{mark}\"\n    oauth_token: \"{mark}\"\n    user: \"rung\"\n"
        )
    );
    assert_eq!(
        text("/home/u/.kube/config"),
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: \"telemetry\"\n\
             clusters:\n- name: \"telemetry\"\n  cluster:\n    server: \"https://a.example.org\"\n\
             users:\n- name: \"telemetry\"\n  user:\n    token: \"{mark}\"\n\
             contexts:\n- name: \"telemetry\"\n  context:\n    cluster: \"telemetry\"\n    \
             user: \"telemetry\"\n"
        )
    );
    assert!(explain(&plan).contains("credential `telemetry` for GET and POST to a.example.org"));
    let egress = plan.network.egress.as_ref().unwrap();
    assert!(egress.reads() && plan.command.environment.contains_key("SSL_CERT_FILE"));
    let without =
        SandboxPlan { network: NetworkPlan { loopback: None, egress: None }, ..plan.clone() };
    let excess = within(&plan, &without).unwrap_err();
    assert!(
        excess.iter().any(|it| it.contains("the credential `telemetry` is lent")),
        "{excess:?}"
    );

    profile.credentials[0].host = "b.example.net".to_owned();
    let error = plan_of(&request(profile.level), &profile, &host).unwrap_err().to_string();
    assert!(error.contains("lists its host `b.example.net`"), "{error}");
}

#[test]
fn asking_the_host_about_the_wanted_paths_is_enough() {
    for level in LEVELS {
        let (request, profile, all) = (request(level), profile(level), host());
        let mut asked = all.clone();
        let own = &all.state_directories;
        let mut wanted = wanted_paths(&profile, &request.workspace, &request.home, own);
        wanted.extend(lasting_paths());
        asked.paths.retain(|path, _| wanted.iter().any(|it| it == path));
        assert!(asked.paths.len() < all.paths.len(), "the fixture has more than is needed");
        assert_eq!(plan_of(&request, &profile, &asked), plan_of(&request, &profile, &all));
    }
}

/// A directory between a writable tree and something hidden in it has to be pinned.
#[test]
fn the_directories_above_what_is_hidden_in_a_writable_tree_are_wanted() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.hidden = vec![entry("~/src/app/a/b/secret"), entry("~/data/c/secret")];
    profile.filesystem.write = vec![grant("~/data", false)];
    let wanted = wanted_paths(&profile, "/home/u/src/app".as_ref(), "/home/u".as_ref(), &[]);
    for path in ["/home/u/src/app/a", "/home/u/src/app/a/b", "/home/u/data/c", "/home/u/data"] {
        assert!(wanted.contains(&path.into()), "{path} is not in {wanted:?}");
    }
}

#[test]
fn a_plan_reads_back_and_its_digest_follows_every_change() {
    let plan = plan(Level::TestExecution);
    let json = serde_json::to_string(&plan).unwrap();
    let back: SandboxPlan = serde_json::from_str(&json).unwrap();
    assert_eq!(back, plan);
    assert_eq!(back.digest().unwrap(), plan.digest().unwrap());
    let mut other = plan.clone();
    other.limits.file.max = Bytes(other.limits.file.max.0 + 1);
    assert_ne!(other.digest().unwrap(), plan.digest().unwrap());
}

#[test]
fn no_secret_value_is_in_the_explanation() {
    let mut profile = profile(Level::LocalWrites);
    profile.environment.pass.push(entry("SECRET_TOKEN"));
    let text = explain(&plan_of(&request(profile.level), &profile, &host()).unwrap());
    assert!(text.contains("SECRET_TOKEN") && !text.contains("hunter2"), "{text}");
}

fn refused(request: &Request, profile: &Profile, host: &HostFacts) -> String {
    plan_of(request, profile, host).unwrap_err().to_string()
}

/// Without a gate nobody hears of a connection, so every port has to be open before the command
/// starts.
#[test]
fn a_range_of_ports_needs_the_gate_and_listed_ports_do_not() {
    let mut profile = profile(Level::TestExecution);
    profile.on_gap = OnGap::Allow;
    let destination = |ports: &str| crate::profile::Destination {
        host: "packages.example.org".to_owned(),
        ports: vec![Ports::parse(ports).unwrap()],
        addresses: Vec::new(),
        methods: Vec::new(),
        paths: Vec::new(),
        rate: None,
        upload: None,
        origin: origin(60, "mirror"),
    };
    let mut host = host();
    add(&mut host, "/etc/resolv.conf", PathKind::File);
    let mut gateless = host.clone();
    let fails = Probe::Fails { cause: Cause::OuterFilter, detail: "EBUSY".to_owned() };
    gateless.probes.insert(Mechanism::SeccompNotify, fails);
    let request = request(profile.level);
    profile.network.destinations = vec![destination("443")];
    assert!(plan_of(&request, &profile, &gateless).unwrap().network.egress.is_some());
    profile.network.destinations = vec![destination("8000-8999")];
    assert!(plan_of(&request, &profile, &host).unwrap().network.egress.is_some());
    let error = plan_of(&request, &profile, &gateless).unwrap_err().to_string();
    assert!(error.contains("list each port"), "{error}");
}
