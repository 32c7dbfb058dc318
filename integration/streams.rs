//! The three streams that a command gets from its caller: what lies behind them is no way out.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::pty::openpty;

use crate::harness::{LEVELS, Place, Run, has_by_chance, make_program, put, spawn};
use crate::session::session;

/// The probe's answer where a descriptor is no terminal.
const ENOTTY: i32 = 25;

/// Opens a hook through standard input, as if that were a directory.
const HOOK: [&str; 5] = ["do", "openat", "0", "s:.git/hooks/pre-push", "0x41"];

#[test]
fn a_directory_as_standard_input_does_not_lead_around_the_view() {
    let place = Place::new();
    let directory = || Stdio::from(File::open(&place.workspace).unwrap());
    let hook = place.workspace.join(".git/hooks/pre-push");
    // The control: outside, the descriptor leads to the hooks.
    assert_eq!(place.outside_probe(&HOOK).stdin(directory()).end().code(), 0);
    std::fs::remove_file(&hook).unwrap();
    for level in LEVELS {
        let ended = place.rung(level).stdin(directory()).probe(&HOOK).end();
        ended.failed("standard input is a directory").recorded();
        assert!(!hook.exists(), "at level {level}");
    }
}

#[test]
fn a_directory_as_an_output_stops_everything() {
    let place = Place::new();
    let directory = || Stdio::from(File::open(&place.workspace).unwrap());
    for number in [1, 2] {
        let mut run = place.rung(1).words(&["true"]);
        if number == 1 {
            run.command.stdout(directory());
        } else {
            run.command.stderr(directory());
        }
        let code = spawn(&mut run.command).wait().unwrap().code();
        assert_eq!(code, Some(125), "descriptor {number}");
    }
}

/// A terminal of the host: its user's side, and what programs are given.
fn terminal() -> (File, File) {
    let pair = openpty(None, None).unwrap();
    (pair.master.into(), pair.slave.into())
}

/// What the user of a terminal sees of a run whose outputs these are.
fn seen(mut run: Run<'_>, outputs: impl FnOnce(&mut Run<'_>, File)) -> String {
    let (mut user, program) = terminal();
    outputs(&mut run, program);
    spawn(&mut run.command).wait().unwrap();
    drop(run);
    let mut text = Vec::new();
    let mut bytes = [0; 1024];
    // With nobody left on the other side it ends in an error.
    while let Ok(count @ 1..) = user.read(&mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn what_one_stream_prints_to_a_terminal_does_nothing_to_it() {
    let place = Place::new();
    let words = ["do", "write", "1", "s:\x1b]52;c;eA==\x07text", "16"];
    let to_output = |run: &mut Run<'_>, terminal: File| {
        run.command.stdout(terminal).stderr(Stdio::null());
    };
    assert!(seen(place.outside_probe(&words), to_output).contains("]52;"), "the control");
    for level in LEVELS {
        assert_eq!(seen(place.rung(level).probe(&words), to_output), "text", "at level {level}");
    }
    let raw = place.rung(1).option(&["--tty", "raw"]).probe(&words);
    assert!(seen(raw, to_output).contains("]52;"), "what was asked for");
    let words = ["do", "write", "2", "s:\x1b[5ntext", "8"];
    let to_error = |run: &mut Run<'_>, terminal: File| {
        run.command.stdout(Stdio::null()).stderr(terminal);
    };
    assert!(seen(place.outside_probe(&words), to_error).contains("[5n"), "the control");
    assert_eq!(seen(place.rung(1).probe(&words), to_error), "text");
}

#[test]
fn no_command_holds_the_users_terminal() {
    let place = Place::new();
    let asks = |number: &str| ["do", "ioctl", number, "0x5401", "z:64"].map(str::to_owned);
    for level in LEVELS {
        let (_user, program) = terminal();
        let input = || Stdio::from(program.try_clone().unwrap());
        assert_eq!(place.outside_probe(&asks("0")).stdin(input()).end().code(), 0);
        let ended = place.rung(level).stdin(input()).probe(&asks("0")).end();
        assert_eq!(ended.code(), ENOTTY, "{}", ended.err);
        ended.recorded();
        for (number, output) in [("1", true), ("2", false)] {
            let mut run = place.rung(level).probe(&asks(number));
            if output {
                run.command.stdout(input()).stderr(Stdio::null());
            } else {
                run.command.stdout(Stdio::null()).stderr(input());
            }
            let code = spawn(&mut run.command).wait().unwrap().code();
            assert_eq!(code, Some(ENOTTY), "descriptor {number} at level {level}");
        }
    }
}

/// What somebody sees who types this on a terminal of the command's own.
fn typed(mut run: Run<'_>, keys: &str) -> String {
    let (mut user, program) = terminal();
    let mut command = Command::new("/usr/bin/setsid");
    // Who does not understand the keys waits for more.
    command.args(["--ctty", "--wait", "timeout", "--foreground", "20"]);
    command.arg(run.command.get_program()).args(run.command.get_args()).env_clear();
    command.envs(run.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(&run.place.workspace);
    let stream = || Stdio::from(program.try_clone().unwrap());
    run.command = command;
    run.command.stdin(stream()).stdout(stream()).stderr(stream());
    user.write_all(keys.as_bytes()).unwrap();
    let mut child = spawn(&mut run.command);
    drop((run, program));
    let mut text = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = user.read(&mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

/// A session's files are shown to a person by `less`, whatever they say, and whatever the caller's
/// variables name: an agent may have written both.
#[test]
fn a_diff_that_is_paged_on_a_terminal_does_nothing_to_it_and_starts_nothing() {
    if !has_by_chance("less", Path::new("/usr/bin/less").exists()) {
        return;
    }
    let place = Place::new();
    let hostile = "\x1b]52;c;eA==\x07\x1b[5n\x1b]0;title\x07 shown\n".repeat(200);
    put(&place.outside.join("text"), &hostile);
    assert_eq!(session(&place, &["start", "--name", "s", "--level", "2"]).code(), 0);
    put(&place.state().join("sessions/s/upper/text"), &hostile);
    let script = place.root().join("pager");
    put(&script, &format!("#!/bin/sh\n: > {}\n", place.root().join("made").display()));
    make_program(&script);
    let typed_by = |run: Run<'_>| {
        let opener = format!("|-{} %s", script.display());
        let run = run.env("LESSOPEN", opener).env("LESS", "-+FRX").env("TERM", "xterm");
        let named = ["PAGER", "GIT_PAGER", "LESSEDIT", "EDITOR", "VISUAL"];
        let run = named.iter().fold(run, |run, name| run.env(name, &script));
        // A command of a shell; an editor; the end.
        typed(run, "!:>m\n\nv\nqqq")
    };
    let made = || {
        let names = [place.root().join("made"), place.workspace.join("m")];
        names.map(|it| std::fs::remove_file(it).is_ok())
    };
    let text = place.outside.join("text");
    let control = place.outside_program("/usr/bin/less", &["-fr", text.to_str().unwrap()]);
    assert!(typed_by(control).contains("]52;"), "the control");
    assert_eq!(made(), [true, true], "the control");
    let shown = typed_by(place.rung_with(&["session", "diff", "s"]));
    assert!(shown.contains("shown"), "{shown}");
    for raw in ["\x1b]", "\x1b[5n"] {
        assert!(!shown.contains(raw), "{shown:?}");
    }
    assert_eq!(made(), [false, false]);
}
