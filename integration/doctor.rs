//! `rung doctor` and `rung run` on machines that are damaged on purpose: the right cause is named,
//! and nothing runs.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::spawn;

const RUNG: &str = env!("CARGO_BIN_EXE_rung");

/// The exit code, standard output and standard error.
fn output(command: &mut Command) -> (i32, String, String) {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(command).wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What doctor and run say where `start` has been done to the machine, in a throw-away home.
struct Examined {
    diagnosis: Value,
    doctor: i32,
    run: i32,
    ran: bool,
    complaint: String,
}

/// `around` starts the rest of its words in the damaged place, as `unshare` does.
fn examine(around: &[&str], damage: &str) -> Examined {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("app");
    fs::create_dir(&workspace).unwrap();
    let started = |line: &str| {
        let script = format!("{damage}; exec {RUNG} {line}");
        let mut command = Command::new(around[0]);
        command.args(&around[1..]).args(["sh", "-c", &script]);
        command.env("XDG_STATE_HOME", home.path().join("state"));
        command.env("XDG_CONFIG_HOME", home.path().join("config"));
        output(command.env("HOME", home.path()).current_dir(&workspace))
    };
    let (doctor, answer, complaint) = started("doctor --json");
    let diagnosis = serde_json::from_str(&answer)
        .unwrap_or_else(|error| panic!("{error}: {doctor} {answer} {complaint}"));
    let (run, answer, complaint) = started("run -- touch ran");
    assert_eq!(answer, "");
    let ran = workspace.join("ran").exists();
    Examined { diagnosis, doctor, run, ran, complaint }
}

impl Examined {
    #[track_caller]
    fn names(&self, mechanism: &str, cause: &str, detail: &str) {
        let mechanisms = self.diagnosis["mechanisms"].as_array().unwrap();
        let found = mechanisms.iter().find(|it| it["mechanism"] == mechanism).unwrap();
        let failed = &found["probe"]["fails"];
        assert_eq!(failed["cause"], cause, "{found}");
        assert!(failed["detail"].as_str().unwrap().contains(detail), "{found}");
        assert_eq!((self.doctor, self.run), (1, 125), "{}", self.complaint);
        assert!(!self.ran, "the command ran");
        assert!(self.complaint.contains(detail), "{}", self.complaint);
        let promises = self.diagnosis["levels"][0]["promises"].as_array().unwrap();
        let missing = promises.iter().find(|it| it["state"] == "missing").unwrap();
        assert!(missing["fix"].is_string(), "{missing}");
    }
}

#[test]
fn a_limit_of_no_user_namespaces_is_named() {
    let damage = "echo 0 > /proc/sys/user/max_user_namespaces";
    let found = examine(&["unshare", "-Ur"], damage);
    found.names("user-namespace", "namespace-limit", "`user.max_user_namespaces` is 0");
}

#[test]
fn a_limit_of_no_network_namespaces_is_named() {
    let damage = "echo 0 > /proc/sys/user/max_net_namespaces";
    let found = examine(&["unshare", "-Ur"], damage);
    found.names("user-namespace", "namespace-limit", "`user.max_net_namespaces` is 0");
}

#[test]
fn one_user_namespace_is_not_enough() {
    let damage = "echo 1 > /proc/sys/user/max_user_namespaces";
    let found = examine(&["unshare", "-Ur"], damage);
    found.names("nested-user-namespace", "namespace-limit", "creating a second user namespace");
}

#[test]
fn a_masked_proc_is_named_by_what_masks_it() {
    let found = examine(&["unshare", "-Urm"], "mount -t tmpfs none /proc/irq");
    found.names("proc", "masked-proc", "`/proc/irq` is mounted over");
}

/// Then not even the kernel's version can be read where it usually is.
#[test]
fn a_proc_without_its_settings_is_named_too() {
    let found = examine(&["unshare", "-Urm"], "mount -t tmpfs none /proc/sys");
    found.names("proc", "masked-proc", "`/proc/sys` is mounted over");
}

/// Loads a filter that refuses the calls with these numbers (x86-64), as a container's does, and
/// starts the rest of its words behind it.
const BEHIND_A_FILTER: &str = "
import ctypes, os, struct, sys
numbers = [int(it) for it in sys.argv[1].split(',')]
load, equal, answer = 0x20, 0x15, 0x06
steps = [(load, 0, 0, 0)]
steps += [(equal, len(numbers) - at, 0, it) for at, it in enumerate(numbers)]
steps += [(answer, 0, 0, 0x7fff0000), (answer, 0, 0, 0x00050001)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *it) for it in steps))
program = struct.pack('HxxxxxxP', len(steps), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[2], sys.argv[2:])
";

/// What Yama's highest setting does too, and no test may set, because only a restart undoes it.
#[test]
fn a_machine_that_forbids_tracing_is_named() {
    const PTRACE: &str = "101";
    const PROCESS_VM_READV: &str = "310";
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    for refused in [PTRACE.to_owned(), format!("{PTRACE},{PROCESS_VM_READV}")] {
        let found = examine(&["python3", "-c", BEHIND_A_FILTER, &refused], ":");
        found.names("ptrace", "outer-filter", "a seccomp filter is in force here");
    }
    // The control: a filter that refuses a number which no call has.
    let found = examine(&["python3", "-c", BEHIND_A_FILTER, "9999"], ":");
    assert_eq!((found.run, found.ran), (0, true), "{}", found.complaint);
}

#[test]
fn a_user_namespace_that_does_not_know_the_user_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["-U", RUNG, "doctor"]).env("XDG_STATE_HOME", home.path().join("state"));
    let (code, answer, complaint) = output(command.env("HOME", home.path()));
    assert_eq!(code, 1, "{answer}{complaint}");
    assert!(answer.contains("a user namespace that does not map its user"), "{answer}");
}

/// Rung's own filter is one that forbids namespaces, as a container's does.
#[test]
fn rung_inside_rung_names_the_filter_around_it() {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("app");
    fs::create_dir(&workspace).unwrap();
    // A process of its own, so that no other one has the copy open for writing.
    let copied = output(Command::new("cp").arg(RUNG).arg(&workspace));
    assert_eq!(copied.0, 0, "{copied:?}");
    let inside = |line: &str| {
        let mut command = Command::new(RUNG);
        command.args(["run", "--level", "3", "--", "./rung"]).args(line.split(' '));
        command.env("XDG_STATE_HOME", home.path().join("state"));
        output(command.env("HOME", home.path()).current_dir(&workspace))
    };
    let (code, answer, complaint) = inside("doctor");
    assert_eq!(code, 1, "{answer}{complaint}");
    assert!(answer.contains("because user namespace: a seccomp filter around rung"), "{answer}");
    assert!(answer.contains("missing   the command is isolated without root"), "{answer}");
    let (code, answer, complaint) = inside("run -- touch ran");
    assert_eq!((code, answer.as_str()), (125, ""), "{complaint}");
    assert!(complaint.contains("seccomp"), "{complaint}");
    assert!(!workspace.join("ran").exists());
}
