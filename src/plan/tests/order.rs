//! The ladder's order, and what the kernel is predicted to answer.

use super::*;

#[test]
fn each_local_level_is_within_the_next() {
    for pair in LEVELS.windows(2) {
        assert_eq!(within(&plan(pair[0]), &plan(pair[1])), Ok(()), "{} in {}", pair[0], pair[1]);
        assert!(within(&plan(pair[1]), &plan(pair[0])).is_err(), "{} adds something", pair[1]);
    }
}

/// One change at a time to a copy of the plan; each must be seen, with its name.
#[test]
fn every_dimension_is_compared() {
    fn check(says: &str, widen: fn(&mut Profile)) {
        let level = Level::LocalWrites;
        let (mut host, request) = (host(), request(level));
        add(&mut host, "/srv/data", PathKind::Directory);
        let mut profile = profile(level);
        let before = plan_of(&request, &profile, &host).unwrap();
        widen(&mut profile);
        let after = plan_of(&request, &profile, &host).unwrap();
        assert_eq!(within(&before, &before), Ok(()));
        let excess = within(&after, &before).unwrap_err().join("\n");
        assert!(excess.contains(says), "{says} is not in\n{excess}");
    }
    check("`/srv/data` shows something", |it| it.filesystem.read.push(grant("/srv/data", false)));
    check("`/etc` may start programs", |it| it.filesystem.read.push(grant("/etc", true)));
    check("Landlock allows {execute} more at `/etc`", |it| {
        it.filesystem.read.push(grant("/etc", true));
    });
    check("`/etc/shadow` shows something", |it| {
        it.filesystem.hidden.retain(|it| it.name != "/etc/shadow");
    });
    check("`/home/u/src/app/.git/hooks` may be written", |it| {
        it.filesystem.protected.retain(|it| it.name != ".git/hooks");
    });
    check("`/home/u/src/app/.git` may be moved away", |it| {
        it.filesystem.protected.retain(|it| !it.name.starts_with(".git"));
    });
    check("`/home/u/src/app/.envrc` is not watched", |it| {
        it.filesystem.protected.retain(|it| it.name != ".envrc");
    });
    check("larger private place", |it| it.filesystem.tmp.size.0 += 1);
    check("more shared memory", |it| it.filesystem.tmp.size.0 += 1);
    check("the variable `SECRET_TOKEN`", |it| it.environment.pass.push(entry("SECRET_TOKEN")));
    check("loopback", |it| it.network.loopback = Some(origin(1, "wider")));
    check("sockets or signals", |it| it.network.loopback = Some(origin(1, "wider")));
    check("system call table", |it| it.syscalls.table = Table::Standard);
    check("`memory` is higher", |it| it.limits.memory.max.0 += 1);
    check("`wall` is higher", |it| it.limits.wall.max.0 += 1);
}

#[test]
fn a_level_that_reads_is_within_a_level_that_writes_the_same_tree() {
    let mut reading = profile(Level::LocalWrites);
    reading.filesystem.workspace.mode = WorkspaceMode::ReadOnly;
    let request = request(reading.level);
    let reading = plan_of(&request, &reading, &host()).unwrap();
    assert_eq!(within(&reading, &plan(Level::LocalWrites)), Ok(()));
    let excess = within(&plan(Level::LocalWrites), &reading).unwrap_err().join("\n");
    assert!(excess.contains("`/home/u/src/app` may be written"), "{excess}");
}

#[track_caller]
fn check_answer(level: Level, operation: &Operation, answer: Answer) {
    assert_eq!(predict(&plan(level), operation).answer, answer, "{operation:?} at level {level}");
}

#[test]
fn reading_and_listing_follow_the_view() {
    let level = Level::TestExecution;
    for (path, answer) in [
        ("/etc/passwd", Answer::Allowed),
        ("/bin/ls", Answer::Allowed),
        ("/etc/shadow", Answer::Hidden),
        ("/etc/ssh/key", Answer::NotInView),
        ("/opt/x", Answer::NotInView),
        ("/proc/self/maps", Answer::Allowed),
        ("/proc/kcore", Answer::Hidden),
        ("/dev/null", Answer::Allowed),
        ("/dev/zero", Answer::Allowed),
        ("/dev/sda", Answer::NotInView),
        ("/run/docker.sock", Answer::NotInView),
        ("/home/u/.cargo/bin/cargo", Answer::Allowed),
        ("/home/u/.cargo/credentials.toml", Answer::Hidden),
        ("/home/u/src/app/.git/config", Answer::Allowed),
    ] {
        check_answer(level, &Operation::Read(path.into()), answer);
    }
    for (path, answer) in [
        ("/", Answer::Allowed),
        ("/run", Answer::Allowed),
        ("/dev", Answer::Allowed),
        ("/etc", Answer::Allowed),
        ("/home", Answer::Allowed),
        ("/root", Answer::NotInView),
    ] {
        check_answer(level, &Operation::List(path.into()), answer);
    }
}

#[test]
fn writing_follows_mounts_pins_and_protections() {
    use Operation::{Create, Delete, Write};
    let level = Level::LocalWrites;
    for (operation, answer) in [
        (Write("/home/u/src/app/main.rs".into()), Answer::Allowed),
        (Create("/home/u/src/app/new".into()), Answer::Allowed),
        (Delete("/home/u/src/app/main.rs".into()), Answer::Allowed),
        (Write("/home/u/src/app/.git/config".into()), Answer::ReadOnly),
        (Delete("/home/u/src/app/.git/config".into()), Answer::MountPoint),
        (Create("/home/u/src/app/.git/hooks/x".into()), Answer::ReadOnly),
        (Create("/home/u/src/app/.git/x".into()), Answer::Allowed),
        (Write("/etc/passwd".into()), Answer::ReadOnly),
        (Write("/usr/bin/ls".into()), Answer::ReadOnly),
        (Create("/tmp/x".into()), Answer::Allowed),
        (Create("/var/tmp/x".into()), Answer::Allowed),
        (Create("/home/u/.cache".into()), Answer::Allowed),
        (Create("/x".into()), Answer::ReadOnly),
        (Create("/run/x".into()), Answer::ReadOnly),
        (Create("/opt/x".into()), Answer::NotInView),
        (Create("/dev/shm/x".into()), Answer::Allowed),
        (Write("/dev/null".into()), Answer::Allowed),
        (Write("/proc/self/oom_score_adj".into()), Answer::ReadOnly),
        (Delete("/bin".into()), Answer::ReadOnly),
    ] {
        check_answer(level, &operation, answer);
    }
    let write = Write("/home/u/src/app/main.rs".into());
    check_answer(Level::ReadOnlyResearch, &write, Answer::ReadOnly);
}

#[test]
fn a_name_moves_only_within_one_mount_and_never_a_mount_point() {
    let level = Level::LocalWrites;
    let inside = |name: &str| PathBuf::from(format!("{WORKSPACE}/{name}"));
    for (from, to, answer) in [
        (inside("a"), inside("b"), Answer::Allowed),
        (inside("d/a"), inside("e/a"), Answer::Allowed),
        (inside(".git"), inside(".git2"), Answer::MountPoint),
        (inside("x"), inside(".git"), Answer::MountPoint),
        (inside(".git/hooks"), inside("hooks"), Answer::MountPoint),
        (inside(".git/x"), inside("x"), Answer::OtherMount),
        (inside("a"), PathBuf::from("/tmp/a"), Answer::OtherMount),
        (inside("a"), PathBuf::from("/etc/a"), Answer::ReadOnly),
        (PathBuf::from("/etc/a"), inside("a"), Answer::ReadOnly),
    ] {
        check_answer(level, &Operation::Rename { from, to }, answer);
    }
}

#[test]
fn programs_start_only_where_the_profile_says() {
    let tool = |path: &str| Operation::Execute(path.into());
    check_answer(Level::LocalWrites, &tool("/bin/ls"), Answer::Allowed);
    check_answer(Level::LocalWrites, &tool("/etc/tool"), Answer::NoPrograms);
    check_answer(Level::LocalWrites, &tool("/tmp/tool"), Answer::NoPrograms);
    check_answer(Level::LocalWrites, &tool("/home/u/src/app/tool"), Answer::NoPrograms);
    check_answer(Level::TestExecution, &tool("/tmp/tool"), Answer::Allowed);
    check_answer(Level::TestExecution, &tool("/home/u/src/app/tool"), Answer::Allowed);
    check_answer(Level::TestExecution, &tool("/dev/shm/tool"), Answer::NoPrograms);
}

#[test]
fn file_rules_refuse_what_the_mounts_alone_would_allow() {
    let mut plan = plan(Level::LocalWrites);
    plan.landlock.rules.remove(std::path::Path::new("/etc"));
    let prediction = predict(&plan, &Operation::Read("/etc/passwd".into()));
    assert_eq!(prediction.answer, Answer::FileRules);
    assert_eq!(prediction.because, [origin(10, "the test grants /etc")]);
}

#[test]
fn a_link_that_turns_in_a_circle_leads_nowhere() {
    let mut plan = plan(Level::LocalWrites);
    for entry in &mut plan.view {
        if let What::SymbolicLink { target } = &mut entry.what {
            *target = entry.path.clone();
        }
    }
    let answer = predict(&plan, &Operation::Read("/bin/ls".into())).answer;
    assert_eq!(answer, Answer::NotInView);
}

#[test]
fn a_connection_is_foreseen_by_table_loopback_and_destinations() {
    let connect = |host: &str, port| Operation::Connect { host: host.to_owned(), port };
    for host in ["a.example.org", "8.8.8.8", "localhost", "127.0.0.1"] {
        check_answer(Level::LocalWrites, &connect(host, 443), Answer::NoSockets);
    }
    for host in ["localhost", "x.localhost", "LOCALHOST.", "127.9.9.9", "::1", "0.0.0.0"] {
        check_answer(Level::TestExecution, &connect(host, 8080), Answer::Allowed);
    }
    for host in ["a.example.org", "8.8.8.8", "::ffff:8.8.8.8"] {
        check_answer(Level::TestExecution, &connect(host, 443), Answer::NoWayOut);
    }
    let mut profile = profile(Level::TestExecution);
    for (line, host) in [(60, "*.example.org"), (61, "10.1.0.0/16")] {
        profile.network.destinations.push(crate::profile::Destination {
            host: host.to_owned(),
            ports: Ports::new(443, 443).into_iter().collect(),
            addresses: Vec::new(),
            methods: Vec::new(),
            paths: Vec::new(),
            rate: None,
            upload: None,
            origin: origin(line, "listed"),
        });
    }
    let mut host = host();
    add(&mut host, "/etc/resolv.conf", PathKind::File);
    let mut plan = plan_of(&request(Level::TestExecution), &profile, &host).unwrap();
    let listed = |line| vec![origin(line, "listed")];
    let own = plan.network.loopback.clone().unwrap();
    for (host, port, answer, because) in [
        ("a.example.org", 443, Answer::Allowed, listed(60)),
        ("A.Example.ORG.", 443, Answer::Allowed, listed(60)),
        ("a.example.org", 80, Answer::PortClosed, listed(60)),
        ("example.org", 443, Answer::NotListed, Vec::new()),
        ("10.1.2.3", 443, Answer::Allowed, listed(61)),
        ("::ffff:10.1.2.3", 443, Answer::Allowed, listed(61)),
        ("10.2.2.3", 443, Answer::NotListed, Vec::new()),
        ("a\0.example.org", 443, Answer::NoHostName, Vec::new()),
        ("2130706433", 443, Answer::NoHostName, Vec::new()),
        ("127.0.0.1", 443, Answer::Allowed, vec![own]),
    ] {
        let found = predict(&plan, &connect(host, port));
        assert_eq!(found, Prediction { answer, because }, "{host}:{port}");
        assert!(!found.answer.words().is_empty());
    }
    plan.network.loopback = None;
    assert_eq!(predict(&plan, &connect("localhost", 1)).answer, Answer::NoWayOut);
    let spelled = serde_json::to_value(connect("a.example.org", 443)).unwrap();
    assert_eq!(spelled, serde_json::json!({"connect": {"host": "a.example.org", "port": 443}}));
    let answer = serde_json::to_value(predict(&plan, &connect("b.test", 1))).unwrap();
    assert_eq!(answer, serde_json::json!({"answer": "not-listed", "because": []}));
}
