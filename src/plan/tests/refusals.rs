//! What has no plan, and what the reader is told.

use super::*;
use crate::model::ProgramFact;

#[track_caller]
fn check_workspace(workspace: &str, says: &str) {
    let mut host = host();
    add(&mut host, "/opt/secret", PathKind::Directory);
    add(&mut host, workspace, PathKind::Directory);
    let mut request = request(Level::TestExecution);
    request.workspace = workspace.into();
    request.cwd = workspace.into();
    let error = refused(&request, &profile(request.level), &host);
    assert!(error.contains(says), "{workspace}: {error}");
}

#[test]
fn a_workspace_may_not_hold_what_other_promises_stand_on() {
    check_workspace("/", "other things than one project");
    check_workspace("/tmp", "other things than one project");
    check_workspace("/home", "other things than one project");
    check_workspace("/home/u", "holds the home directory");
    check_workspace("/usr/src/app", "system directory `/usr`");
    check_workspace("/etc", "system directory `/etc`");
    check_workspace("/proc/1/cwd", "system directory `/proc`");
    check_workspace("/run/user/1000/app", "system directory `/run`");
    check_workspace("/home/u/.cargo/registry", "trusts the programs in `/home/u/.cargo`");
    check_workspace("/home/u/.local", "rung keeps its own files");
    check_workspace("/home/u/.local/state/rung/x", "rung keeps its own files");
    check_workspace("/opt/secret/keys", "level.toml:20 hides `/opt/secret`");
    check_workspace("/home/u/.ssh/keys", "outside the hidden ones");
    check_workspace("/home/u/../v", "without `.` and `..`");
}

#[test]
fn the_home_of_the_user_database_counts_whatever_the_variable_says() {
    let mut host = host();
    host.user_home = Some("/home/real".into());
    for (workspace, says) in
        [("/home/real", "holds the home directory"), ("/home/real/.ssh", "outside the hidden ones")]
    {
        add(&mut host, workspace, PathKind::Directory);
        let mut request = request(Level::ReadOnlyResearch);
        request.workspace = workspace.into();
        request.cwd = workspace.into();
        let error = refused(&request, &profile(Level::ReadOnlyResearch), &host);
        assert!(error.contains(says), "{workspace}: {error}");
    }
}

#[test]
fn no_level_takes_a_hidden_directory_of_the_home_for_a_workspace() {
    for level in LEVELS {
        for workspace in ["/home/u/.aws", "/home/u/.config/app", "/data/u/.kube/cache"] {
            let mut host = host();
            add_link(&mut host, "/home/u", "/data/u", "/data/u", PathKind::Directory);
            add(&mut host, workspace, PathKind::Directory);
            let mut request = request(level);
            request.workspace = workspace.into();
            request.cwd = workspace.into();
            let error = refused(&request, &profile(level), &host);
            assert!(error.contains("work in a directory outside the hidden ones"), "{error}");
        }
    }
}

#[test]
fn a_writable_workspace_may_not_lie_behind_a_protected_name() {
    let plan = |level: Level, workspace: &str| {
        let (mut host, mut request, mut profile) = (host(), request(level), profile(level));
        add(&mut host, workspace, PathKind::Directory);
        add(&mut host, "/srv/repo/.git", PathKind::Directory);
        request.workspace = workspace.into();
        request.cwd = workspace.into();
        profile.filesystem.protected.push(entry("infra/**"));
        plan_of(&request, &profile, &host).map_err(|error| error.to_string())
    };
    let level = Level::LocalWrites;
    for (workspace, name, above) in [
        ("/srv/repo/.git", ".git/hooks", "/srv/repo"),
        ("/srv/repo/.git/refs", ".git/hooks", "/srv/repo"),
        ("/srv/repo/sub/.vscode", ".vscode/**", "/srv/repo/sub"),
        ("/srv/other/.cargo/x/y", ".cargo/config.toml", "/srv/other"),
        ("/srv/repo/infra/live", "infra/**", "/srv/repo"),
    ] {
        let error = plan(level, workspace).unwrap_err();
        let says = format!("`{name}` is protected in `{above}`");
        assert!(error.contains(&says), "{workspace}: {error}");
        assert!(error.ends_with(&format!("start rung in `{above}`")), "{error}");
    }
    // An ordinary name says nothing outside a checkout, and reading harms nothing.
    plan(level, "/srv/infra/app").unwrap();
    plan(level, "/srv/repo/src/.github").unwrap();
    plan(Level::ReadOnlyResearch, "/srv/repo/.vscode").unwrap();
}

#[test]
fn no_level_takes_a_git_directory_for_a_workspace() {
    for level in LEVELS {
        let mut host = host();
        add(&mut host, &format!("{WORKSPACE}/HEAD"), PathKind::File);
        add(&mut host, &format!("{WORKSPACE}/refs"), PathKind::Directory);
        plan_of(&request(level), &profile(level), &host).unwrap();
        add(&mut host, &format!("{WORKSPACE}/objects"), PathKind::Directory);
        let error = refused(&request(level), &profile(level), &host);
        assert!(error.contains("it is a git directory"), "{error}");
    }
}

#[test]
fn the_host_is_asked_what_decides_whether_a_directory_may_be_a_workspace() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.protected.push(entry("infra/**"));
    let wanted = wanted_paths(&profile, "/srv/a/infra/b".as_ref(), "/home/u".as_ref(), &[]);
    for name in ["HEAD", "objects", "refs"] {
        assert!(wanted.contains(&format!("/srv/a/infra/b/{name}").into()), "{wanted:?}");
    }
    assert!(wanted.contains(&"/srv/a/.git".into()), "{wanted:?}");
}

#[test]
fn a_workspace_must_be_a_directory_by_its_own_name() {
    let mut request = request(Level::LocalWrites);
    let profile = profile(request.level);
    request.workspace = "/srv/app".into();
    request.cwd = "/srv/app".into();
    let mut host = host();
    assert!(refused(&request, &profile, &host).contains("does not exist"));
    add(&mut host, "/srv/app", PathKind::File);
    assert!(refused(&request, &profile, &host).contains("not a directory"));
    add_link(&mut host, "/srv/app", "/srv/real", "/srv/real", PathKind::Directory);
    assert!(refused(&request, &profile, &host).contains("not a directory"));
    add(&mut host, "/srv/app", PathKind::Directory);
    host.paths.get_mut(std::path::Path::new("/srv/app")).unwrap().canonical = "/data/app".into();
    assert!(refused(&request, &profile, &host).contains("another name of `/data/app`"));
}

#[test]
fn a_working_directory_outside_the_workspace_is_refused() {
    let mut request = request(Level::LocalWrites);
    for cwd in ["/home/u/src", "/home/u/src/application", "/home/u/src/app/../x"] {
        request.cwd = cwd.into();
        let error = refused(&request, &profile(request.level), &host());
        assert!(error.contains("lies outside the workspace"), "{error}");
    }
}

#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut request = request(Level::LocalWrites);
    request.cwd = std::ffi::OsString::from_vec(b"/home/u/src/app/\xff".to_vec()).into();
    assert!(refused(&request, &profile(request.level), &host()).contains("not valid UTF-8"));
}

/// Nothing is created on the host, so a mount point in a bound tree must be there already.
#[test]
fn a_home_that_does_not_exist_inside_a_granted_tree_is_refused() {
    let (mut profile, mut host) = (profile(Level::LocalWrites), host());
    add(&mut host, "/home", PathKind::Directory);
    profile.filesystem.read.push(grant("/home", false));
    let request = request(profile.level);
    assert!(plan_of(&request, &profile, &host).is_ok());
    host.paths.remove(std::path::Path::new("/home/u"));
    let error = refused(&request, &profile, &host);
    assert!(error.contains("inside `/home` and does not exist there"), "{error}");
}

#[test]
fn a_home_in_a_place_of_rungs_own_is_refused() {
    let mut request = request(Level::LocalWrites);
    for home in ["/", "/proc/self", "/var", "/run", "home"] {
        request.home = home.into();
        let error = refused(&request, &profile(request.level), &host());
        assert!(error.contains("cannot be the home directory"), "{home}: {error}");
    }
}

#[test]
fn a_link_in_place_of_a_protected_names_directory_ends_the_run() {
    let mut host = host();
    let git = format!("{WORKSPACE}/.git");
    add_link(&mut host, &git, "elsewhere", "/home/u/src/app/elsewhere", PathKind::Directory);
    let level = Level::LocalWrites;
    let error = refused(&request(level), &profile(level), &host);
    assert_eq!(
        error,
        "`/home/u/src/app/.git` is a symbolic link, so level.toml:20 cannot protect what lies \
         below it"
    );
}

#[track_caller]
fn check_write(path: &str, says: &str) {
    let mut profile = profile(Level::LocalWrites);
    let mut host = host();
    add(&mut host, path, PathKind::Directory);
    profile.filesystem.write.push(grant(path, false));
    let error = refused(&request(profile.level), &profile, &host);
    assert!(error.contains(says), "{path}: {error}");
}

#[test]
fn a_write_grant_reaches_neither_rungs_files_nor_protected_names() {
    check_write("/home/u/.local/state/rung/x", "would let the command write `/home/u/.local");
    check_write("/home/u/.local", "would let the command write `/home/u/.local/state/rung`");
    check_write("/home/u/src", "it contains the workspace");
    check_write("/home/u/src/app/.git/hooks/more", "would let the command write");
}

#[test]
fn a_grant_names_an_absolute_place_that_is_not_rungs_own() {
    let mut profile = profile(Level::LocalWrites);
    for (path, says) in [
        ("usr", "write an absolute path"),
        ("/usr/../etc", "write an absolute path"),
        ("~other/x", "write an absolute path"),
        ("/", "rung's own"),
        ("/proc/sys", "rung's own"),
        ("/dev/kvm", "rung's own"),
        ("/tmp", "rung's own"),
        ("~", "rung's own"),
    ] {
        profile.filesystem.read = vec![grant(path, false)];
        let error = refused(&request(profile.level), &profile, &host());
        assert!(error.contains(says) && error.contains("level.toml:10"), "{path}: {error}");
    }
}

#[test]
fn a_profile_may_say_again_what_every_view_has() {
    let mut profile = profile(Level::LocalWrites);
    let request = request(profile.level);
    let before = plan_of(&request, &profile, &host()).unwrap();
    profile.filesystem.read.push(grant("/sys/devices/system/cpu", false));
    let after = plan_of(&request, &profile, &host()).unwrap();
    assert_eq!(lines(&after), lines(&before));
}

#[test]
fn a_link_may_not_smuggle_a_reserved_place_into_the_view() {
    let (mut profile, mut host) = (profile(Level::LocalWrites), host());
    add_link(&mut host, "/opt/sdk", "/dev", "/dev", PathKind::Directory);
    profile.filesystem.read = vec![grant("/opt/sdk", false)];
    assert!(refused(&request(profile.level), &profile, &host).contains("`/dev` is rung's own"));
}

#[test]
fn hidden_and_protected_names_that_mean_nothing_are_refused() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.hidden = vec![entry("secrets")];
    assert!(refused(&request(profile.level), &profile, &host()).contains("`secrets`"));
    profile.filesystem.hidden.clear();
    for name in ["*.pem", "../x", "/etc/passwd", ""] {
        profile.filesystem.protected = vec![entry(name)];
        let error = refused(&request(profile.level), &profile, &host());
        assert!(error.contains("relative to the workspace"), "{name}: {error}");
    }
}

#[test]
fn a_variable_that_is_code_is_refused_by_name() {
    let mut profile = profile(Level::LocalWrites);
    for (name, says) in [
        ("LD_PRELOAD", "the caller chooses it"),
        ("LD_LIBRARY_PATH", "the caller chooses it"),
        ("GIT_SSH_COMMAND", "the caller chooses it"),
        ("BASH_ENV", "the caller chooses it"),
        ("PATH", "a value of its own"),
        ("A=B", "no name"),
        ("", "no name"),
        ("*", "no name"),
    ] {
        profile.environment.pass = vec![entry(name)];
        let error = refused(&request(profile.level), &profile, &host());
        assert!(error.contains(says), "{name}: {error}");
    }
    profile.environment.pass.clear();
    for (name, says) in [("LD_PRELOAD", "code into every program"), ("HOME", "of its own")] {
        let setting = Setting { value: "x".to_owned(), origin: origin(1, "why not") };
        profile.environment.set = [(name.to_owned(), setting)].into();
        let error = refused(&request(profile.level), &profile, &host());
        assert!(error.contains(says), "{name}: {error}");
    }
}

#[test]
fn a_program_must_be_startable_where_the_view_shows_it() {
    let mut request = request(Level::ReadOnlyResearch);
    let profile = profile(request.level);
    for (path, canonical, fine) in [
        ("/usr/bin/ls", "/usr/bin/ls", true),
        ("/bin/ls", "/usr/bin/ls", true),
        ("/etc/tool", "/etc/tool", false),
        ("/opt/tool", "/opt/tool", false),
        ("/usr/bin/tool", "/opt/tool", false),
        ("/home/u/bin/tool", "/usr/bin/tool", false),
        ("/home/u/src/app/tool", "/home/u/src/app/tool", false),
        ("/usr/../opt/tool", "/usr/bin/tool", false),
    ] {
        request.program = program(path, canonical);
        let plan = plan_of(&request, &profile, &host());
        assert_eq!(plan.is_ok(), fine, "{path}: {plan:?}");
    }
    request.program = ProgramFact::Missing { searched: Vec::new() };
    assert_eq!(refused(&request, &profile, &host()), "there is no program `ls`");
}

#[test]
fn a_session_only_level_says_so() {
    let mut profile = profile(Level::LocalWrites);
    profile.filesystem.workspace.mode = WorkspaceMode::Session;
    assert_eq!(
        refused(&request(profile.level), &profile, &host()),
        "level 2 writes only inside a session (level.toml:1), and this run has none"
    );
}

#[test]
fn a_profile_of_another_level_is_refused() {
    let error = refused(&request(Level::LocalWrites), &profile(Level::TestExecution), &host());
    assert_eq!(error, "the profile is for level 3 and the request for level 2");
}

#[test]
fn a_host_without_user_namespaces_gets_no_plan_even_if_gaps_are_accepted() {
    let mut profile = profile(Level::TestExecution);
    profile.on_gap = OnGap::Allow;
    let error = refused(&request(profile.level), &profile, &no_userns());
    assert!(
        error.contains("the limit of namespaces is 0 or used up (clone3: ENOSPC)")
            && error.contains("sysctl user.max_user_namespaces"),
        "{error}"
    );
}

#[test]
fn a_mechanism_that_was_never_tried_does_not_work() {
    let mut host = host();
    host.probes.remove(&Mechanism::Seccomp);
    let level = Level::LocalWrites;
    let error = refused(&request(level), &profile(level), &host);
    assert!(error.contains("seccomp filter") && error.contains("not tried"), "{error}");
    host.probes.insert(Mechanism::Seccomp, Probe::Works);
    assert!(plan_of(&request(level), &profile(level), &host).is_ok());
}
