//! A run from the outside: what goes in, what comes back, and what is left.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use rung::model::Status;

use crate::harness::{
    Ended, LEVELS, Place, make_program, processes_with, put, spawn, tree, within,
};

/// How long a sandbox may live on without its supervisor.
const ORPHAN_MAX: Duration = Duration::from_secs(1);

impl Place {
    /// Starts rung out of a probe that has brought itself into a state first.
    pub(crate) fn rung_from(&self, state: &str, level: u8, words: &[&str]) -> Ended {
        let mut run = self.outside_probe(&["caller", state, env!("CARGO_BIN_EXE_rung")]);
        run.command.args(["run", "--level", &level.to_string()]);
        run.probe(words).end()
    }
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let place = Place::new();
    for code in [0_u8, 1, 2, 75, 124, 125, 126, 127, 128, 137, 255] {
        let ended = place.rung(1).probe(&["exit", &code.to_string()]).end().exited(code);
        ended.recorded();
        assert_eq!(ended.err, "", "rung speaks of exit code {code}");
    }
}

#[test]
fn a_death_by_signal_is_told_as_shells_tell_it() {
    let place = Place::new();
    // The signals that end a process and that rung's own limits do not use.
    for signal in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 24, 26, 29, 30, 31, 34, 64] {
        let ended = place.rung(1).probe(&["raise", &signal.to_string()]).end();
        assert_eq!(ended.outcome().status, Status::Signaled { signal }, "{}", ended.err);
        assert_eq!(ended.code(), 128 + signal);
        ended.recorded();
    }
}

#[test]
fn every_byte_of_every_word_arrives() {
    let place = Place::new();
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let all: Vec<u8> = (1..=255).collect();
    let large = vec![b'x'; 100_000];
    let lists: [Vec<OsString>; 4] = [
        vec![bytes(b""), bytes(b" "), bytes(b"a\nb"), bytes(b"--"), bytes(b"-x"), bytes(b"")],
        vec![bytes(&all), bytes(b"\xff\xfe"), bytes("\u{202e}".as_bytes())],
        vec![bytes(b"$(id)"), bytes(b"`id`"), bytes(b"; id"), bytes(b"'"), bytes(b"\\")],
        // Nearly two mebibytes, which is what the kernel takes in all.
        std::iter::repeat_n(bytes(&large), 19).collect(),
    ];
    for words in lists {
        let told: Vec<&OsStr> = std::iter::once(OsStr::new("words"))
            .chain(words.iter().map(OsString::as_os_str))
            .collect();
        let outside = place.outside_probe(&told).end();
        let inside = place.rung(1).probe(&told).end().exited(0);
        assert_eq!(inside.text(), outside.text());
        inside.recorded();
    }
}

#[test]
fn a_program_that_does_not_exist_is_not_found() {
    let place = Place::new();
    let rules = place.profile(1, "").replace("\"probe\"", "[\"probe\", \"no-such-program\"]");
    place.set_profile(1, &rules);
    let ended = place.rung(1).words(&["no-such-program", "--", "x"]).end();
    assert_eq!((ended.code(), &ended.outcome().status), (127, &Status::NotFound), "{}", ended.err);
    ended.recorded();
}

#[test]
fn a_program_that_lends_its_owners_rights_is_refused() {
    let place = Place::new();
    let ended = place.rung(3).words(&["/usr/bin/su", "-c", "id"]).end();
    assert_eq!((ended.code(), &ended.outcome().status), (126, &Status::Refused), "{}", ended.err);
    ended.recorded();
}

#[test]
fn a_program_that_no_rule_names_is_refused() {
    let place = Place::new();
    for level in LEVELS {
        let ended = place.rung(level).words(&["curl", "https://example.org"]).end();
        assert!([126, 127].contains(&ended.code()), "{}", ended.err);
        assert!(ended.err.lines().count() <= 3, "more than three lines: {}", ended.err);
        assert!(ended.err.lines().all(|line| line.starts_with("rung: ")), "{}", ended.err);
        ended.recorded();
    }
}

#[test]
fn pipes_files_and_sockets_are_inherited_as_they_are() {
    let place = Place::new();
    let streams = |inside: bool| {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let input = File::open(place.workspace.join("README.md")).unwrap();
        let mut run = if inside {
            place.rung(1).probe(&["streams"])
        } else {
            place.outside_probe(&["streams"])
        };
        let output = place.root().join("output");
        run.command.stdin(input).stdout(File::create(&output).unwrap());
        run.command.stderr(std::os::fd::OwnedFd::from(socket));
        assert!(spawn(&mut run.command).wait().unwrap().success());
        let text = fs::read_to_string(output).unwrap();
        // The socket is another one each time; its kind is what counts.
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let kind = lines.pop().unwrap().split(' ').next_back().unwrap().to_owned();
        (lines, kind)
    };
    assert_eq!(streams(true), streams(false));
}

#[test]
fn both_outputs_keep_their_order_in_one_file() {
    let place = Place::new();
    let mut file = tempfile::tempfile().unwrap();
    let mut run = place.rung(1).probe(&["print", "first ", "second"]);
    run.command.stdout(file.try_clone().unwrap()).stderr(file.try_clone().unwrap());
    assert!(spawn(&mut run.command).wait().unwrap().success());
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first second");
}

#[test]
fn input_reaches_the_command_to_its_end() {
    let place = Place::new();
    let input = place.root().join("input");
    fs::write(&input, vec![b'y'; 3 << 20]).unwrap();
    let ended = place.rung(1).probe(&["echo"]).stdin(File::open(&input).unwrap()).end().exited(0);
    assert_eq!(ended.out.len(), 3 << 20);
}

#[test]
fn rung_says_nothing_about_a_clean_run() {
    let place = Place::new();
    let ended = place.rung(3).probe(&["print", "out", "err"]).end().exited(0);
    assert_eq!((ended.text().as_str(), ended.err.as_str()), ("out", "err"));
}

#[test]
fn a_directory_that_has_vanished_is_named() {
    let place = Place::new();
    let gone = format!("has-no-directory={}", place.workspace.join("gone").display());
    place.rung_from(&gone, 1, &["exit", "0"]).failed("does not exist any more");
}

#[test]
fn a_directory_outside_the_workspace_is_refused() {
    let place = Place::new();
    let outside = place.outside.to_str().unwrap();
    let workspace = place.workspace.to_str().unwrap();
    let run = place.rung(1).option(&["--workspace", workspace, "--directory", outside]);
    run.probe(&["exit", "0"]).end().failed("is not in the workspace");
}

#[test]
fn a_workspace_by_another_name_is_the_same_workspace() {
    let place = Place::new();
    let link = place.root().join("link");
    symlink(&place.workspace, &link).unwrap();
    let run = place.rung(1).option(&["--workspace", link.to_str().unwrap()]);
    let ended = run.probe(&["directory"]).end().exited(0);
    assert_eq!(ended.text().trim_end(), place.workspace.to_str().unwrap());
}

#[test]
fn places_that_are_no_project_are_no_workspace() {
    let place = Place::new();
    for directory in ["/", "/etc", "/usr/bin", "/tmp", "/proc", place.home.to_str().unwrap()] {
        let ended = place.rung(2).option(&["--workspace", directory]).words(&["true"]).end();
        assert!([125, 126].contains(&ended.code()), "{directory}: {}", ended.err);
    }
}

#[test]
fn two_runs_share_a_workspace_without_knowing_of_each_other() {
    let place = Place::new();
    let mut first = place.rung(2).probe(&["wait"]).start();
    first.wait_for_line("ready");
    place.rung(2).probe(&["write", "made", "x"]).end().exited(0).recorded();
    place.rung(2).probe(&["signal-all", "15"]).end().exited(3);
    assert!(first.child.try_wait().unwrap().is_none(), "the first run has ended");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.end(&place).code(), 128 + 15);
}

#[test]
fn sixteen_runs_at_once_end_as_they_should_and_leave_one_chain() {
    let place = Place::new();
    let started: Vec<_> =
        (0..16).map(|code| place.rung(2).probe(&["exit", &code.to_string()]).start()).collect();
    for (code, started) in (0_u8..).zip(started) {
        started.end(&place).exited(code).recorded();
    }
    let records = place.records();
    let numbers: Vec<u64> = records.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
    let chained = records.windows(2).all(|pair| pair[0]["fp"] == pair[1]["prev"]);
    assert!(chained, "a record does not follow the one before it");
}

#[test]
fn rung_inside_rung_is_refused() {
    let place = Place::new();
    let inner = place.probe.with_file_name("rung");
    place.copy_program(Path::new(env!("CARGO_BIN_EXE_rung")), &inner);
    for level in LEVELS {
        let words = ["run", "--level", "1", "--", "true"];
        let refused =
            place.rung(level).words(&[&[inner.to_str().unwrap()], &words[..]].concat()).end();
        assert_eq!(refused.code(), 126, "{}", refused.err);
        let list = format!("v:rung|{}", words.join("|"));
        let path = format!("s:{}", inner.display());
        let started = place.rung(level).probe(&["do", "execve", &path, &list, "0"]).end();
        started.exited(u8::try_from(libc::EACCES).unwrap()).recorded();
    }
}

#[test]
fn nothing_that_the_caller_left_open_is_passed_on() {
    let place = Place::new();
    let leaks = format!("leaks={}", place.outside.join("leaked").display());
    let outside =
        place.outside_probe(&["caller", &leaks, place.probe.to_str().unwrap(), "shout"]).end();
    assert_eq!(outside.code(), 0, "nothing leaks outside either");
    let before = tree(&place.outside);
    for level in LEVELS {
        let ended = place.rung_from(&leaks, level, &["descriptors"]).exited(0);
        assert_eq!(ended.text(), "0 1 2\n");
        place.rung_from(&leaks, level, &["shout"]).exited(u8::try_from(libc::EBADF).unwrap());
    }
    assert_eq!(tree(&place.outside), before);
}

#[test]
fn what_the_caller_did_to_signals_does_not_matter() {
    let place = Place::new();
    place.rung_from("ignores-children", 1, &["exit", "7"]).exited(7).recorded();
    for state in ["ignores-children", "blocks-signals"] {
        let text = place.rung_from(state, 1, &["signals"]).exited(0).text();
        assert!(text.contains("SigBlk:\t0000000000000000"), "{state}: {text}");
        // The probe's own runtime ignores SIGPIPE (13), and nothing else is.
        assert!(text.contains("SigIgn:\t0000000000001000"), "{state}: {text}");
    }
}

#[test]
fn closed_streams_are_no_other_file() {
    let place = Place::new();
    for level in LEVELS {
        place.rung_from("closes-streams", level, &["exit", "9"]).exited(9).recorded();
    }
}

#[test]
fn the_file_mask_is_the_callers() {
    let place = Place::new();
    for mask in ["027", "000", "077"] {
        let ended = place.rung_from(&format!("masks={mask}"), 1, &["mask"]).exited(0);
        assert_eq!(ended.text().trim_end(), mask);
    }
}

#[test]
fn no_variable_passes_that_is_not_listed() {
    let place = Place::new();
    let secret = "hunter2-not-to-be-seen";
    let mut run = place.rung(1).env("LANG", "C.UTF-8").env("PATH", "/tmp:.:/usr/bin");
    for name in [
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "BASH_ENV",
        "ENV",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "GIT_SSH_COMMAND",
        "GIT_EXTERNAL_DIFF",
        "SSH_AUTH_SOCK",
        "DBUS_SESSION_BUS_ADDRESS",
        "HTTP_PROXY",
        "RUNG_LEVEL",
        "RUNG_CEILING",
        "XDG_RUNTIME_DIR",
        "IFS",
        "PS4",
        "EDITOR",
        "BASH_FUNC_ls%%",
    ] {
        run = run.env(name, secret);
    }
    let text = run.probe(&["environment"]).end().exited(0).text();
    assert!(!text.contains(secret), "{text}");
    assert!(text.contains("LANG=C.UTF-8"), "{text}");
    let path = text.lines().find(|line| line.starts_with("PATH=")).unwrap();
    assert!(!path.contains("/tmp") && !path.contains('.'), "{path}");
}

#[test]
fn nothing_outlives_the_run() {
    for level in LEVELS {
        let place = Place::new();
        place.rung(level).probe(&["linger"]).end().exited(0).recorded();
        // The probe's path is of this test alone, and stands in every command line.
        assert_eq!(processes_with(place.root().to_str().unwrap()), Vec::<String>::new());
    }
}

#[test]
fn what_the_command_prints_changes_nothing_in_the_report() {
    let place = Place::new();
    let forged = r#"{"status":{"kind":"exited","code":0}}"#;
    let ended = place.rung(1).probe(&["print", forged, "rung: all is well\n"]).end().exited(0);
    ended.recorded();
    place.rung(1).probe(&["trace-me"]).end().exited(1).recorded();
}

#[test]
fn a_killed_supervisor_takes_the_sandbox_with_it_and_leaves_nothing() {
    for level in LEVELS {
        let place = Place::new();
        place.rung(level).probe(&["exit", "0"]).end().exited(0);
        let before = (tree(&place.home), tree(&place.workspace), tree(&place.outside));
        let mut run = place.rung(level).probe(&["linger", "late-exit"]).start();
        run.wait_for_line("ready");
        run.signal(Signal::SIGKILL);
        let marker = place.root().to_str().unwrap();
        run.child.wait().unwrap();
        within(ORPHAN_MAX, "the sandbox ends", || processes_with(marker).is_empty());
        let after = (tree(&place.home), tree(&place.workspace), tree(&place.outside));
        assert_eq!(after, before);
        place.rung(level).probe(&["exit", "0"]).end().exited(0).recorded();
        // `records` has read every line of it; none is torn.
        assert!(place.records().len() >= 5);
    }
}

#[test]
fn what_a_killed_run_made_of_a_protected_name_is_put_right_by_the_next() {
    let place = Place::new();
    let name = place.workspace.join(".envrc");
    let steps = "do openat -100 s:.envrc 0x41 0o644 , execve";
    let list = "v:probe|--|linger|late-exit";
    let words: Vec<&str> = steps.split(' ').collect();
    let probe = format!("s:{}", place.probe.display());
    let mut run = place.rung(2).probe(&[&words[..], &[&probe, list, "0"]].concat()).start();
    run.wait_for_line("ready");
    assert!(name.exists(), "nothing was made");
    run.signal(Signal::SIGKILL);
    run.child.wait().unwrap();
    let marker = place.root().to_str().unwrap();
    within(ORPHAN_MAX, "the sandbox ends", || processes_with(marker).is_empty());
    place.rung(2).probe(&["exit", "0"]).end().exited(0).recorded();
    assert!(!name.exists(), "the protected name is still there");
    assert!(place.records().iter().any(|it| it["kind"] == "quarantine"), "nobody was told");
}

/// The processes of a run end a moment after its supervisor.
#[test]
fn what_a_killed_run_still_makes_of_a_protected_name_is_put_right_as_well() {
    let place = Place::new();
    let name = place.workspace.join(".envrc");
    let script = place.workspace.join("agent");
    put(&script, "#!/bin/sh\necho ready\nwhile :; do : > .envrc; sleep 0.01; done\n");
    make_program(&script);
    let marker = place.root().to_str().unwrap();
    for is_stopped in [false, true] {
        let mut run = place.rung(3).words(&["./agent"]).start();
        run.wait_for_line("ready");
        within(ORPHAN_MAX, "it is made", || name.exists());
        let mut unnoticed = Some(run.kill_unnoticed());
        let mut next = place.rung(2).probe(&["exit", "0"]).start();
        std::thread::sleep(Duration::from_millis(300));
        assert!(!next.has_ended(), "the next run did not wait");
        if !is_stopped {
            unnoticed.take();
        }
        let ended = next.end(&place);
        if is_stopped {
            assert_eq!(ended.code(), 125);
            assert!(ended.err.contains("processes of that run are still there"), "{}", ended.err);
            unnoticed.take();
            within(ORPHAN_MAX, "the sandbox ends", || processes_with(marker).is_empty());
            place.rung(2).probe(&["exit", "0"]).end().exited(0);
        } else {
            ended.exited(0);
        }
        assert!(processes_with(marker).is_empty(), "somebody is left");
        assert!(!name.exists(), "the protected name is still there");
    }
}

#[test]
fn an_empty_list_allows_nothing() {
    let place = Place::new();
    place.rung(1).probe(&["exit", "0"]).end().exited(0);
    place.set_profile(1, "schema = 1\nlevel = 1\n[filesystem]\nread = []\n[exec]\nrule = []\n");
    let ended = place.rung(1).probe(&["exit", "0"]).end();
    assert_eq!(ended.code(), 126, "{}", ended.err);
}

#[test]
fn a_profile_that_cannot_be_read_stops_everything() {
    let place = Place::new();
    for (text, says) in [
        ("schema = 1\nlevel = 1\n[filesystem\n", "level-1.toml:3"),
        ("schema = 1\nlevel = 1\nlevle = 2\n", "level-1.toml:3"),
        ("schema = 1\nlevel = 1\n[filesystem]\nreed = []\n", "level-1.toml:4"),
        ("schema = 1\nlevel = 1\n[limits]\nwall = \"5\"\n", "level-1.toml:4"),
        ("schema = 1\nlevel = 1\n[limits]\nwall = \"100 h\"\n", "level-1.toml:4"),
        ("schema = 9\nlevel = 1\n", "level-1.toml:1"),
        ("\u{0}", "level-1.toml"),
    ] {
        place.set_profile(1, text);
        let ended = place.rung(1).probe(&["write", "marker", "x"]).end();
        assert_eq!(ended.code(), 125, "{text:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{text:?}: {}", ended.err);
    }
    assert!(!place.workspace.join("marker").exists(), "it ran");
}

#[test]
fn nothing_runs_that_cannot_be_recorded() {
    let place = Place::new();
    for _ in 0..3 {
        place.rung(2).probe(&["exit", "0"]).end().exited(0);
    }
    // The chain is longer than that by now.
    let ended = place.rung_from("limits-files=1024", 2, &["write", "marker", "x"]);
    assert_eq!(ended.code(), 125, "{}", ended.err);
    assert!(!place.workspace.join("marker").exists(), "it ran");
    place.rung(2).probe(&["exit", "0"]).end().exited(0).recorded();
}

#[test]
fn a_place_for_records_that_is_none_stops_everything() {
    let place = Place::new();
    // A file stands where the directory would be, which stops root too.
    put(&place.state().join("ledger"), "");
    let ended = place.rung(2).probe(&["write", "marker", "x"]).end();
    assert_eq!(ended.code(), 125, "{}", ended.err);
    assert!(!place.workspace.join("marker").exists(), "it ran");
}

#[test]
fn a_command_line_that_means_nothing_is_told_so() {
    let place = Place::new();
    for words in [
        &["run"][..],
        &["run", "--level", "7", "--", "true"],
        &["run", "--levle", "1", "--", "true"],
        &["run", "--level"],
        &["run", "--timeout", "5", "--", "true"],
    ] {
        let ended = place.rung_with(words).end();
        assert_eq!(ended.code(), 2, "{words:?}: {}", ended.err);
        assert!(ended.err.starts_with("rung: "), "{}", ended.err);
    }
}

#[test]
fn a_level_above_the_ceiling_is_refused() {
    let place = Place::new();
    for level in [4, 5, 6] {
        let ended = place.rung(level).words(&["true"]).end();
        assert_eq!(ended.code(), 126, "{}", ended.err);
        ended.recorded();
    }
}

#[test]
fn a_name_in_the_workspace_does_not_stand_for_a_program_of_the_system() {
    let place = Place::new();
    put(&place.workspace.join("true"), "#!/bin/sh\necho evil\n");
    make_program(&place.workspace.join("true"));
    let path = format!("{}:/usr/bin", place.workspace.display());
    let ended = place.rung(1).env("PATH", path).words(&["true"]).end();
    assert!(!ended.text().contains("evil"));
    let ended = place.rung(1).words(&["./true"]).end();
    assert_eq!(ended.code(), 126, "{}", ended.err);
}

#[test]
fn a_report_that_cannot_be_written_stops_everything() {
    let place = Place::new();
    let mut run = place.rung(2).option(&["--report", "/nowhere/report.json"]);
    run.command.args(["--", place.probe.to_str().unwrap(), "--", "write", "marker", "x"]);
    let ended = run.stdin(Stdio::null()).end();
    assert_eq!(ended.code(), 125, "{}", ended.err);
    assert!(!place.workspace.join("marker").exists(), "it ran");
}
