//! The exec gate: what a run starts is decided, verified and recorded, however it is started.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use rung::model::Layer;
use serde_json::Value;

use crate::harness::{Ended, Place, has_by_chance, make_program, put, requires, within};

const EACCES: u8 = 13;

impl Place {
    /// Programs beside the probe: nothing names them, so no rule allows them.
    fn unlisted(&self, from: &str, name: &str) -> PathBuf {
        let path = self.probe.with_file_name(name);
        self.copy_program(Path::new(from), &path);
        path
    }
}

impl Ended {
    /// The records of programs that came to this end.
    pub(crate) fn execs(&self, became: &str) -> Vec<&Value> {
        let all = self.records.iter().filter(|it| it["kind"] == "exec");
        all.filter(|it| it["became"] == became).collect()
    }

    /// How many programs came to this end, those without a record each among them.
    pub(crate) fn exec_count(&self, became: &str) -> u64 {
        let more = self.records.iter().filter(|it| it["kind"] == "exec.count");
        let more = more.flat_map(|it| it["more"].as_array().unwrap().clone());
        let more = more.filter(|it| it["became"] == became);
        let counted: u64 = more.map(|it| it["count"].as_u64().unwrap()).sum();
        counted + u64::try_from(self.execs(became).len()).unwrap()
    }
}

#[test]
fn what_a_command_starts_is_recorded_with_who_started_it() {
    let place = Place::new();
    for how in ["fork", "spawn", "thread", "threads"] {
        let ended = place.rung(3).probe(&["start", how, "/usr/bin/true"]).end().exited(0);
        assert_eq!(ended.kinds(), ["decision", "exec.start", "exec", "exec.end"], "{how}");
        let record = ended.execs("started")[0];
        assert_eq!(record["program"], "/usr/bin/true", "{how}");
        assert_eq!(record["rule"], "core.true", "{how}");
        assert_eq!(record["argv"], serde_json::json!(["true"]), "{how}");
        assert_eq!(record["caller"][0], place.probe.to_str().unwrap(), "{how}");
        assert_eq!(record["caller_cut"], false, "{how}");
        let facts = fs::metadata("/usr/bin/true").unwrap();
        assert_eq!(record["inode"], std::os::unix::fs::MetadataExt::ino(&facts), "{how}");
    }
}

#[test]
fn a_program_that_no_rule_allows_is_refused_to_the_command_and_told_to_everybody_else() {
    let place = Place::new();
    let evil = place.unlisted("/usr/bin/true", "unlisted");
    let evil = evil.to_str().unwrap();
    let words = ["storm", "20", evil, "a word"];
    let outside = place.outside_probe(&words).end();
    assert_eq!(outside.text(), "started 20 refused 0\n");
    let ended = place.rung(3).probe(&words).end().exited(0);
    assert_eq!(ended.text(), "started 0 refused 20\n");
    assert_eq!(ended.outcome().denials.len(), 1, "the same thing is told once");
    let denial = ended.denial();
    assert_eq!((denial.layer, denial.count), (Layer::Exec, 20));
    assert!(denial.object.contains("a word"), "{denial:?}");
    assert!(ended.err.contains("rung: denied by exec (level 3)"), "{}", ended.err);
    assert_eq!(ended.execs("refused").len(), 20);
    ended.recorded();
}

/// The gate must not change how a program learns that something cannot be started.
#[test]
fn what_cannot_be_started_fails_as_it_does_outside() {
    let place = Place::new();
    put(&place.workspace.join("text"), "text\n");
    put(&place.workspace.join("nothing"), "neither a program nor a script\n");
    make_program(&place.workspace.join("nothing"));
    put(&place.workspace.join("headless"), "#!/no/such/interpreter\n");
    make_program(&place.workspace.join("headless"));
    symlink("loop", place.workspace.join("loop")).unwrap();
    symlink("nowhere", place.workspace.join("dangling")).unwrap();
    let long = "x".repeat(5000);
    let deep = format!("{}/true", "d/".repeat(2040));
    let cases = [
        "/usr/bin/no-such-program",
        "no-such-program",
        "text/program",
        "./text",
        "./nothing",
        "./headless",
        "./loop",
        "./dangling",
        &long,
        &deep,
    ];
    for path in cases {
        for how in ["fork", "spawn"] {
            let told = ["start", how, path];
            let outside = place.outside_probe(&told).end().code();
            let inside = place.rung(3).probe(&told).end();
            assert_ne!(outside, 0, "{how} {path}");
            assert_eq!(inside.code(), outside, "{how} {path}: {}", inside.err);
        }
    }
    // Addresses that lead nowhere cannot be read, and what cannot be read is refused.
    for call in
        ["do execve 8 0 0", "do execve s:/usr/bin/true 8 0", "do execve s:/usr/bin/true v:true 8"]
    {
        let words: Vec<&str> = call.split(' ').collect();
        assert_eq!(place.outside_probe(&words).end().code(), libc::EFAULT, "{call}");
        let ended = place.rung(3).probe(&words).end();
        assert_eq!(ended.code(), libc::EACCES, "{call}: {}", ended.err);
    }
}

/// A task whose exec has failed is traced for a while.
#[test]
fn a_task_whose_exec_failed_lives_on_as_before() {
    let place = Place::new();
    put(&place.workspace.join("nothing"), "neither a program nor a script\n");
    make_program(&place.workspace.join("nothing"));
    let words = ["fail-then-live", "./nothing"];
    assert_eq!(place.outside_probe(&words).end().code(), libc::ENOEXEC);
    place.rung(3).probe(&words).end().exited(u8::try_from(libc::ENOEXEC).unwrap());
}

#[test]
fn a_script_is_decided_together_with_its_interpreter() {
    let place = Place::new();
    let evil = place.unlisted("/usr/bin/true", "unlisted");
    put(&place.workspace.join("script"), "#!/usr/bin/true\n");
    put(&place.workspace.join("evil-script"), &format!("#!{}\n", evil.display()));
    put(&place.workspace.join("second"), "#!./evil-script x\n");
    for name in ["script", "evil-script", "second"] {
        make_program(&place.workspace.join(name));
    }
    for (name, code) in [("./evil-script", EACCES), ("./second", EACCES)] {
        let words = ["start", "spawn", name];
        assert_eq!(place.outside_probe(&words).end().code(), 0, "{name}");
        let ended = place.rung(3).probe(&words).end().exited(code);
        let record = ended.execs("refused")[0];
        assert_eq!(record["program"], evil.to_str().unwrap(), "{name}");
        ended.recorded();
    }
}

#[test]
fn an_orphan_is_known_to_be_one() {
    let place = Place::new();
    let ended = place.rung(3).probe(&["start", "orphan", "/usr/bin/true"]).end().exited(0);
    for record in ended.execs("started").into_iter().chain(ended.execs("refused")) {
        assert_eq!(record["caller_cut"], true, "{record}");
    }
    assert_eq!(ended.exec_count("started") + ended.exec_count("refused"), 1);
}

#[test]
fn memory_becomes_code_and_never_a_program() {
    let place = Place::new();
    // Outside nobody seals it.
    assert_eq!(place.outside_probe(&["sealed"]).end().code(), 201);
    let seals = place.rung(3).probe(&["sealed"]).end();
    if requires("seal against programs in memory (Linux 6.3)", seals.code() != 201) {
        seals.exited(0);
    }
}

#[test]
fn a_storm_of_programs_is_counted_and_every_one_of_them_is_decided() {
    // More than get a record each; the whole storm is for the bench.
    let count = std::env::var("RUNG_STORM").map_or(1200, |it| it.parse().unwrap());
    let place = Place::new();
    let begin = std::time::Instant::now();
    let ended =
        place.rung(3).probe(&["storm", &count.to_string(), "/usr/bin/true"]).end().exited(0);
    println!("{count} programs in {:?}", begin.elapsed());
    assert_eq!(ended.text(), format!("started {count} refused 0\n"));
    assert_eq!(ended.exec_count("started"), count);
    assert_eq!(ended.execs("started").len(), 1000);
    ended.recorded();
}

#[test]
fn refusals_of_many_different_programs_are_bounded_and_counted() {
    let place = Place::new();
    let evil = place.unlisted("/usr/bin/true", "unlisted");
    put(
        &place.workspace.join("many.sh"),
        "i=0\nwhile [ $i -lt 300 ]; do \"$1\" $i 2>/dev/null; i=$((i+1)); done\nexit 0\n",
    );
    let rules = place.profile(3, SHELL_RULE);
    place.set_profile(3, &rules);
    let ended = place.rung(3).words(&["sh", "./many.sh", evil.to_str().unwrap()]).end().exited(0);
    assert_eq!(ended.exec_count("refused"), 300);
    assert_eq!(ended.execs("refused").len(), 200);
    assert!(ended.outcome().denials.len() <= 33, "{}", ended.outcome().denials.len());
    let told: u32 = ended.outcome().denials.iter().map(|it| it.count).sum();
    assert_eq!(told, 300);
    ended.recorded();
}

/// Lets the tests write what they start as text.
const SHELL_RULE: &str = r#"
[[exec.rule]]
id        = "test.shell"
program   = "sh"
arguments = [{ operands = "text", min = 1 }]
decision  = "allow"
power     = "exec"
because   = "the tests try things with it"
match     = ["sh ./x"]
not_match = ["sh -c x"]
"#;

#[test]
fn nothing_starts_while_the_supervisor_stands_still_and_all_goes_on_after_it() {
    let place = Place::new();
    let mut started = place.rung(3).probe(&["storm", "200", "/usr/bin/true"]).start();
    let children = || {
        let path = format!("/proc/{}/task/{}/children", started.pid(), started.pid());
        fs::read_to_string(path).unwrap_or_default()
    };
    within(Duration::from_secs(20), "a sandbox", || !children().is_empty());
    started.signal(Signal::SIGSTOP);
    let stat = format!("/proc/{}/stat", started.pid());
    within(Duration::from_secs(20), "it stands still", || {
        fs::read_to_string(&stat).is_ok_and(|it| it.contains(") T "))
    });
    assert!(started.child.try_wait().unwrap().is_none(), "it ran on by itself");
    started.signal(Signal::SIGCONT);
    let ended = started.end(&place).exited(0);
    assert_eq!(ended.text(), "started 200 refused 0\n");
}

#[test]
fn a_run_ends_with_its_supervisor_in_the_middle_of_a_storm() {
    let place = Place::new();
    let marker = format!("gate-{}", std::process::id());
    let started = place.rung(3).probe(&["storm", "1000000", "/usr/bin/true", &marker]).start();
    within(Duration::from_secs(20), "a storm", || {
        !crate::harness::processes_with(&marker).is_empty()
    });
    started.signal(Signal::SIGKILL);
    drop(started.child.wait_with_output());
    within(Duration::from_secs(5), "nothing is left", || {
        crate::harness::processes_with(&marker).is_empty()
    });
}

/// One task has one supervisor of its programs, so a second one would decide nothing.
#[test]
fn rung_below_another_supervisor_says_so_and_runs_nothing() {
    let place = Place::new();
    place.set_profile(3, &place.profile(3, "on_gap = \"refuse\""));
    let rung = env!("CARGO_BIN_EXE_rung");
    let nested = || {
        let words = ["listened-to", rung, "run", "--level", "3", "--", "ls"];
        place.outside_probe(&words).end()
    };
    let unknown = nested();
    assert_eq!(unknown.code(), 125, "{}", unknown.err);
    assert!(unknown.err.contains("only the command itself is decided"), "{}", unknown.err);
    // What is known of the host by now is true everywhere but there.
    place.rung(3).words(&["ls"]).end().exited(0);
    let known = nested();
    assert_eq!(known.code(), 125, "{}", known.err);
    assert!(known.err.contains("another supervisor"), "{}", known.err);
    assert_eq!(known.text(), "", "something ran");
}

#[test]
fn a_script_that_cannot_work_is_refused_before_it_begins() {
    if !requires("make", Path::new("/usr/bin/make").exists()) {
        return;
    }
    let place = Place::new();
    let makefile = |recipe: &str| {
        put(&place.workspace.join("Makefile"), &format!("test:\n\t@touch began; {recipe}\n"));
    };
    makefile("true");
    place.rung(3).words(&["make", "test"]).end().exited(0);
    fs::remove_file(place.workspace.join("began")).unwrap();

    makefile("curl https://example.org/");
    let ended = place.rung(3).words(&["make", "test"]).end();
    assert_eq!(ended.code(), 126, "{}", ended.err);
    let denial = ended.denial();
    assert_eq!((denial.layer, denial.object.as_str()), (Layer::Policy, "make test"));
    let begin = "`test` of Makefile runs `curl https://example.org/`: ";
    assert!(denial.reason.starts_with(begin), "{denial}");
    assert_eq!(ended.kinds(), ["decision", "denial"]);
    assert!(!place.workspace.join("began").exists());

    // What is not certain is for the gate to refuse, when it comes to it.
    makefile("for i in curl; do $$i https://example.org/; done");
    let ended = place.rung(3).words(&["make", "test"]).end();
    assert!(place.workspace.join("began").exists(), "{}", ended.err);
    assert_eq!(ended.denial().layer, Layer::Exec);

    // A link could lead to a file that says something else by then.
    fs::rename(place.workspace.join("Makefile"), place.outside.join("Makefile")).unwrap();
    symlink(place.outside.join("Makefile"), place.workspace.join("Makefile")).unwrap();
    let ended = place.rung(3).words(&["make", "test"]).end();
    assert_ne!(ended.code(), 126, "{}", ended.err);
}

#[test]
fn a_refused_text_is_shown_as_it_was_typed() {
    let place = Place::new();
    let text = "ls; rm -rf src";
    for typed in [["-c", text].as_slice(), &["--", "sh", "-c", text]] {
        let ended = place.rung(1).option(&["--report", "/dev/null"]).option(typed).end();
        assert_eq!(ended.code(), 126, "{}", ended.err);
        assert!(ended.err.contains("bash -c 'ls; rm -rf src'"), "{}", ended.err);
        assert!(!ended.err.contains("--norc"), "{}", ended.err);
    }
}

/// Capabilities of a file are not lent either, although no bit of its mode shows them.
#[test]
fn a_program_with_capabilities_of_its_own_is_not_started() {
    let place = Place::new();
    let program = place.unlisted(place.probe.to_str().unwrap(), "raised");
    let rule = "[[exec.program]]\nname = \"raised\"\nclass = \"plain\"\nstyle = \"gnu\"\n\
                [[exec.rule]]\nid = \"test.raised\"\nprogram = \"raised\"\n\
                arguments = [{ after = \"--\", any = true }]\ndecision = \"allow\"\npower = \"exec\"\n\
                because = \"the test says so\"\nmatch = [\"raised -- x\"]\nnot_match = [\"raised x\"]\n";
    place.set_profile(3, &place.profile(3, rule));
    let program = program.to_str().unwrap();
    let own = [program, "--", "exit", "0"];
    let below = [place.probe.to_str().unwrap(), "--", "start", "fork", program, "--", "exit", "0"];
    place.rung(3).words(&own).end().exited(0);
    place.rung(3).words(&below).end().exited(0);

    // Version 2 of `vfs_cap_data`: CAP_NET_BIND_SERVICE, permitted and effective.
    let set = format!(
        "import os; os.setxattr({program:?}, 'security.capability', \
         bytes([1, 0, 0, 2, 0, 4, 0, 0]) + bytes(12))"
    );
    let mut python = std::process::Command::new("python3");
    let python = python.args(["-c", &set]).stderr(std::process::Stdio::null()).status();
    if !has_by_chance("only root gives a file capabilities", python.is_ok_and(|it| it.success())) {
        return;
    }
    let ended = place.rung(3).words(&own).end();
    assert_eq!(ended.code(), 126, "{}", ended.err);
    assert_eq!(ended.denial().rule, "exec.set-id");
    let ended = place.rung(3).words(&below).end().exited(EACCES);
    assert_eq!(ended.denial().rule, "exec.set-id");
}

/// What a person adds to level 3 for debugging, in the profile of the place.
const DEBUGGERS: &str = r#"
[syscalls]
table = { value = "debug", because = "debugging" }

[[exec.program]]
name    = "strace"
class   = "plain"
style   = "posix"
because = "a tracer"

[[exec.program]]
name    = "gdb"
class   = "plain"
style   = "single-dash-long"
because = "a debugger"

[[exec.rule]]
id        = "test.strace"
program   = "strace"
arguments = [{ flags = ["-f"] }, { option = "-o", value = "text" }, { rest = "any" }]
decision  = "allow"
power     = "exec"
because   = "debugging"
match     = ["strace -f -o trace true"]
not_match = ["strace -p 1"]

[[exec.rule]]
id        = "test.gdb"
program   = "gdb"
arguments = [{ flags = ["-batch", "-nx"] }, { option = "-ex", value = "text" }, { after = "--args", any = true }]
decision  = "allow"
power     = "exec"
because   = "debugging"
match     = ["gdb -batch --args true"]
not_match = ["gdb -p 1"]
"#;

#[test]
fn a_tracer_works_where_the_profile_has_one_and_its_tracees_are_decided_all_the_same() {
    if !requires("strace", Path::new("/usr/bin/strace").exists()) {
        return;
    }
    let place = Place::new();
    place.set_profile(3, &place.profile(3, DEBUGGERS));
    let traced = ["strace", "-f", "-o", "trace", "/usr/bin/env", "true"];
    let ended = place.rung(3).words(&traced).end().exited(0);
    let text = fs::read_to_string(place.workspace.join("trace")).unwrap();
    assert!(text.contains("execve(\"/usr/bin/true\""), "{text}");
    let programs: Vec<&Value> = ended.execs("unverified").iter().map(|it| &it["program"]).collect();
    assert_eq!(programs, ["/usr/bin/env", "/usr/bin/true"]);
    // The control of the refusal: outside it runs, and says so by its status.
    let unlisted = place.unlisted("/usr/bin/true", "unlisted");
    let path = unlisted.to_str().unwrap();
    assert!(std::process::Command::new(&unlisted).status().unwrap().success());
    let ended = place.rung(3).words(&["strace", "-f", "-o", "trace", path]).end();
    assert_ne!(ended.code(), 0);
    assert_eq!(ended.exec_count("refused"), 1);
    let text = fs::read_to_string(place.workspace.join("trace")).unwrap();
    assert!(text.contains("EACCES"), "{text}");
    // Without the table nothing is traced.
    let without = DEBUGGERS.replace("\"debug\"", "\"standard\"");
    place.set_profile(3, &place.profile(3, &without));
    assert_ne!(place.rung(3).words(&traced).end().code(), 0);
}

#[test]
fn a_debugger_runs_a_program_to_its_end() {
    if !has_by_chance("gdb", Path::new("/usr/bin/gdb").exists()) {
        return;
    }
    let place = Place::new();
    place.set_profile(3, &place.profile(3, DEBUGGERS));
    let off = "set startup-with-shell off";
    let words = ["gdb", "-batch", "-nx", "-ex", off, "-ex", "run", "--args", "/usr/bin/true"];
    let ended = place.rung(3).words(&words).end().exited(0);
    assert!(ended.text().contains("exited normally"), "{} {}", ended.text(), ended.err);
    let programs: Vec<&Value> = ended.execs("unverified").iter().map(|it| &it["program"]).collect();
    assert_eq!(programs, ["/usr/bin/true"]);
}

#[test]
fn a_supervisor_without_descriptors_refuses_and_says_so() {
    // The control: with enough of them the program starts.
    let place = Place::new();
    let start = ["start", "fork", "/usr/bin/true"];
    place.rung(3).probe(&start).end().exited(0);
    let mut outcomes = Vec::new();
    for most in (8..256).step_by(8) {
        let mut run = place.rung(3).probe(&start);
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("/bin/sh");
        command.arg("-c").arg(limited).arg(run.command.get_program()).args(run.command.get_args());
        for (name, value) in run.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_clear().envs(run.command.get_envs().filter_map(|it| Some((it.0, it.1?))));
        command.current_dir(&place.workspace).stdin(std::process::Stdio::null());
        run.command = command;
        let ended = run.end();
        // Nothing starts, or it is refused, or all of it works: never something in between.
        let started = ended.exec_count("started");
        outcomes.push((ended.code(), started));
        assert_eq!(ended.code() == 0, started == 1, "{most}: {} {}", ended.code(), ended.err);
        assert!(!ended.err.contains("panicked"), "{}", ended.err);
    }
    assert!(outcomes.iter().any(|it| it.0 == 0) && outcomes.iter().any(|it| it.0 == 125));
}
