//! Apply and rollback, killed before each of their changes on disk, and on a disk that is full: the
//! tree is the one before or the one after, never another, and no file is lost.
//!
//! The process is the real one. It is followed from system call to system call and killed, with the
//! signal that nobody can catch, when it is about to make its n-th change; the next `rung session`
//! has to put right what that left.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::{Place, has_by_chance, put, spawn};
use crate::session::{contents, id_of, session};
use crate::worktree::{Checkouts, WHO};

/// More changes than any of these acts makes.
const CHANGES_MAX: usize = 1_000;

/// Calls that change something on disk, with the place of the descriptor if they only count for a
/// file that the process has opened itself.
#[cfg(target_arch = "x86_64")]
fn changes_disk(call: &libc::user_regs_struct) -> bool {
    let Ok(number) = libc::c_long::try_from(call.orig_rax) else { return false };
    match number {
        libc::SYS_openat => call.rdx & u64::from(libc::O_CREAT.unsigned_abs()) != 0,
        libc::SYS_open => call.rsi & u64::from(libc::O_CREAT.unsigned_abs()) != 0,
        libc::SYS_write | libc::SYS_pwrite64 => call.rdi > 2,
        libc::SYS_rename
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_unlink
        | libc::SYS_unlinkat
        | libc::SYS_rmdir
        | libc::SYS_mkdir
        | libc::SYS_mkdirat
        | libc::SYS_link
        | libc::SYS_linkat
        | libc::SYS_symlink
        | libc::SYS_symlinkat
        | libc::SYS_chmod
        | libc::SYS_fchmod
        | libc::SYS_fchmodat
        | libc::SYS_utimensat
        | libc::SYS_ftruncate
        | libc::SYS_setxattr
        | libc::SYS_removexattr
        | libc::SYS_copy_file_range
        | libc::SYS_sendfile
        | libc::SYS_splice => true,
        _ => false,
    }
}

/// Runs `rung session` with these words and kills it before its n-th change on disk. Says whether
/// there were so many.
#[cfg(target_arch = "x86_64")]
fn killed_before(place: &Place, words: &[&str], n: usize) -> bool {
    killed_in(&place.workspace, place, &[&["session"], words].concat(), n)
}

/// The same for any words of rung, in another directory.
#[cfg(target_arch = "x86_64")]
fn killed_in(directory: &Path, place: &Place, words: &[&str], n: usize) -> bool {
    let run = place.rung_with(&[]);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .arg(run.command.get_program())
        .args(words)
        .current_dir(directory)
        .env_clear()
        .envs(WHO)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let set = run.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(set);
    let mut child = spawn(&mut command);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_TRACEEXEC
        | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let (mut ours, mut entering, mut seen) = (false, true, 0);
    let killed = loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Exited(..) => break false,
            WaitStatus::Signaled(..) => panic!("it was killed by somebody else"),
            WaitStatus::PtraceEvent(_, _, event) if event == libc::PTRACE_EVENT_EXEC => {
                ours = true;
                // What follows is the end of the call of exec.
                entering = false;
            }
            WaitStatus::PtraceSyscall(_) => {
                if entering && ours && changes_disk(&ptrace::getregs(pid).unwrap()) {
                    seen += 1;
                    if seen == n {
                        kill(pid, Signal::SIGKILL).unwrap();
                        break true;
                    }
                }
                entering = !entering;
            }
            WaitStatus::Stopped(_, signal) if signal != Signal::SIGTRAP => {
                ptrace::syscall(pid, Some(signal)).unwrap();
                continue;
            }
            _ => {}
        }
        ptrace::syscall(pid, None).unwrap();
    };
    // One that has ended by itself was waited for already.
    let waited = child.wait();
    assert!(waited.is_ok() || !killed, "{waited:?}");
    killed
}

/// A tree, and what a session makes of it: something of every kind.
fn begin(place: &Place) {
    let at = |name: &str| place.workspace.join(name);
    put(&at("edited"), "before\n");
    put(&at("gone/deep/file"), "precious\n");
    put(&at("becomes-a-directory"), "a file\n");
    put(&at("program"), "#!/bin/sh\n");
    symlink("edited", at("link")).unwrap();
}

/// Fills the layer of a new session.
fn change(place: &Place) {
    let ended = session(place, &["start", "--name", "s"]);
    assert_eq!((ended.code(), ended.err.as_str()), (0, ""));
    let upper = place.state().join("sessions/s/upper");
    let at = |name: &str| upper.join(name);
    put(&at("edited"), "after\n");
    put(&at("new/deep/file"), "new\n");
    put(&at("becomes-a-directory/inner"), "inner\n");
    put(&at("program"), "#!/bin/sh\n");
    fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("program", at("link")).unwrap();
    let whiteout = CString::new(at("gone").to_str().unwrap()).unwrap();
    mknod(whiteout.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
}

fn acts(place: &Place) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.state().join("acts")) else { return Vec::new() };
    let mut ids: Vec<String> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    ids.sort();
    ids
}

type Contents = BTreeMap<PathBuf, String>;

/// What is before and what is after an apply, which is taken back again.
fn both(place: &Place) -> (Contents, Contents) {
    begin(place);
    let before = contents(&place.workspace);
    change(place);
    let applied = session(place, &["apply", "s", "--accept", "all"]);
    assert_eq!(applied.code(), 0, "{}", applied.err);
    let after = contents(&place.workspace);
    assert_ne!(before, after);
    assert_eq!(session(place, &["rollback", &id_of(&applied)]).code(), 0);
    assert_eq!(contents(&place.workspace), before);
    assert_eq!(session(place, &["discard", "s"]).code(), 0);
    (before, after)
}

#[track_caller]
fn one_of(place: &Place, before: &Contents, after: &Contents, n: usize) -> bool {
    let now = contents(&place.workspace);
    let is_after = now == *after;
    if !is_after {
        let all = now.keys().chain(before.keys());
        let differs: Vec<&PathBuf> = all.filter(|it| now.get(*it) != before.get(*it)).collect();
        assert!(differs.is_empty(), "killed before change {n}: {differs:?}");
    }
    is_after
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_apply_that_is_killed_at_any_step_is_finished_or_never_was() {
    let place = Place::new();
    let (before, after) = both(&place);
    let (mut forward, mut never) = (0, 0);
    for n in 1..CHANGES_MAX {
        change(&place);
        let known = acts(&place);
        let killed = killed_before(&place, &["apply", "s", "--accept", "all"], n);
        let tidied = session(&place, &["gc"]);
        assert_eq!(tidied.code(), 0, "killed before change {n}: {}", tidied.err);
        let is_after = one_of(&place, &before, &after, n);
        let new: Vec<String> = acts(&place).into_iter().filter(|it| !known.contains(it)).collect();
        if is_after {
            forward += 1;
            let back = session(&place, &["rollback", &new[0]]);
            assert_eq!(back.code(), 0, "{}", back.err);
            assert!(!one_of(&place, &before, &after, n));
        } else {
            never += 1;
            assert!(new.is_empty(), "an act that changed nothing is remembered");
            // Nothing of the session is lost either: it can be applied as if nothing had been.
            let again = session(&place, &["apply", "s", "--accept", "all"]);
            assert_eq!(again.code(), 0, "{}", again.err);
            assert!(one_of(&place, &before, &after, n));
            assert_eq!(session(&place, &["rollback", &id_of(&again)]).code(), 0);
        }
        assert_eq!(session(&place, &["discard", "s"]).code(), 0);
        if !killed {
            println!(
                "apply: {} steps tried, {forward} finished, {never} never were, 0 files lost",
                n - 1
            );
            assert!(n > 40 && forward > 10 && never > 10, "too few steps: {n}");
            return;
        }
    }
    panic!("it never ends");
}

/// What the host has changed in between is left alone, and its user is told.
#[cfg(target_arch = "x86_64")]
#[test]
fn what_the_host_changes_before_an_interrupted_apply_is_finished_is_left_alone_and_named() {
    let place = Place::new();
    begin(&place);
    change(&place);
    let file = place.workspace.join("edited");
    let unfinished = |id: &String| {
        let act = place.state().join("acts").join(id);
        act.join("act.json").exists() && !act.join("done").exists()
    };
    let interrupted = (1..CHANGES_MAX).any(|n| {
        killed_before(&place, &["apply", "s", "--accept", "all"], n);
        let found = acts(&place).iter().any(unfinished);
        found || session(&place, &["gc"]).code() != 0
    });
    assert!(interrupted && fs::read_to_string(&file).unwrap() == "before\n");
    put(&file, "by the host\n");
    let ended = session(&place, &["gc"]);
    assert_eq!(ended.code(), 0, "{}", ended.err);
    let says = "was finished, but for what somebody else has changed meanwhile: edited\n";
    assert!(ended.err.contains(says), "{}", ended.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), "by the host\n");
    assert_eq!(fs::read_to_string(place.workspace.join("new/deep/file")).unwrap(), "new\n");
    assert_eq!(session(&place, &["gc"]).err, "", "it is said once");
}

/// Of the steps of these two, which are long, only every so-many-th is tried.
#[cfg(target_arch = "x86_64")]
const STRIDE: usize = 7;

#[cfg(target_arch = "x86_64")]
#[test]
fn a_run_in_a_linked_worktree_that_is_killed_at_any_step_loses_no_commit() {
    let it = Checkouts::new();
    let (place, linked) = (&it.place, &it.linked);
    let tip = || it.git(linked, &["rev-parse", "feature"]);
    let (mut kept, mut never) = (0, 0);
    for n in (1..CHANGES_MAX).step_by(STRIDE) {
        let (before, message) = (tip(), format!("commit {n}"));
        put(&linked.join("old"), &message);
        let words = ["run", "--level", "2", "--", "git", "commit", "-q", "-a", "-m", &message];
        let killed = killed_in(linked, place, &words, n);
        // What git has told the run, where it got that far.
        let layers = fs::read_dir(place.state().join("sessions"));
        let layers = layers.into_iter().flatten().map(|it| it.unwrap().path());
        let promised = layers
            .map(|it| it.join("upper/refs/heads/feature"))
            .find_map(|it| fs::read_to_string(it).ok());
        assert_eq!(session(place, &["gc"]).code(), 0);
        let now = tip();
        if let Some(promised) = promised {
            assert_eq!(now, promised, "killed before change {n}");
        }
        it.git(linked, &["fsck", "--strict"]);
        if now == before {
            never += 1;
            assert_eq!(it.git(linked, &["diff", "--name-only", "HEAD"]), "old\n");
        } else {
            kept += 1;
            assert_eq!(it.git(linked, &["log", "-1", "--format=%s"]), message + "\n");
            assert_eq!(it.git(linked, &["rev-parse", "feature^"]), before);
            assert_eq!(it.git(linked, &["--no-optional-locks", "status", "--porcelain"]), "");
        }
        if !killed {
            let tried = kept + never - 1;
            println!("run: {tried} steps tried, {kept} kept, {never} never were, 0 commits lost");
            assert!(kept > 3 && never > 1, "too few steps: {n}");
            return;
        }
    }
    panic!("it never ends");
}

/// The tree and the branch of a linked worktree are two acts, the tree first. What a kill leaves between them is
/// still in the session, and the next apply brings it.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_apply_in_a_linked_worktree_that_is_killed_at_any_step_is_finished_by_the_next() {
    let it = Checkouts::new();
    let (place, linked) = (&it.place, &it.linked);
    let apply = ["session", "apply", "s", "--accept", "all"];
    let (mut steps, mut between) = (0, 0);
    for n in (1..CHANGES_MAX).step_by(STRIDE) {
        let message = format!("commit {n}");
        let mut start = place.rung_with(&["session", "start", "--name", "s", "--level", "2"]);
        start.command.current_dir(linked);
        assert_eq!(start.end().code(), 0);
        let inside = |words: &[&str]| {
            let mut run = place.rung_with(&["run", "--session", "s"]);
            run.command.envs(WHO);
            run.words(words).end().exited(0)
        };
        inside(&["cp", "docs/guide", &format!("file{n}")]);
        inside(&["git", "add", "-A"]);
        inside(&["git", "commit", "-q", "-m", &message]);
        let before = it.git(linked, &["rev-parse", "feature"]);
        let killed = killed_in(linked, place, &apply, n);
        assert_eq!(session(place, &["gc"]).code(), 0);
        let (moved, there) =
            (it.git(linked, &["rev-parse", "feature"]) != before, linked.join(format!("file{n}")));
        between += usize::from(moved != there.exists());
        assert!(!moved || there.exists(), "killed before change {n}: a commit without its files");
        let again = session(place, &apply[1..]);
        assert_eq!(again.code(), 0, "killed before change {n}: {}", again.err);
        assert_eq!(it.git(linked, &["log", "-1", "--format=%s"]), message + "\n");
        assert_eq!(it.git(linked, &["--no-optional-locks", "status", "--porcelain"]), "");
        assert!(there.exists());
        it.git(linked, &["fsck", "--strict"]);
        assert_eq!(session(place, &["status", "s"]).text(), "nothing has changed\n");
        assert_eq!(session(place, &["discard", "s"]).code(), 0);
        if !killed {
            println!(
                "apply beside: {steps} steps tried, {between} of them between the acts, 0 lost"
            );
            assert!(steps > 5 && between > 0, "too few steps: {n}");
            return;
        }
        steps += 1;
    }
    panic!("it never ends");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_rollback_that_is_killed_at_any_step_is_finished_or_never_was() {
    let place = Place::new();
    let (before, after) = both(&place);
    let (mut forward, mut never) = (0, 0);
    for n in 1..CHANGES_MAX {
        change(&place);
        let id = id_of(&session(&place, &["apply", "s", "--accept", "all"]));
        assert!(one_of(&place, &before, &after, n));
        let killed = killed_before(&place, &["rollback", &id], n);
        let tidied = session(&place, &["gc"]);
        assert_eq!(tidied.code(), 0, "killed before change {n}: {}", tidied.err);
        if one_of(&place, &before, &after, n) {
            never += 1;
            let back = session(&place, &["rollback", &id]);
            assert_eq!(back.code(), 0, "{}", back.err);
            assert!(!one_of(&place, &before, &after, n));
        } else {
            forward += 1;
        }
        assert_eq!(session(&place, &["discard", "s"]).code(), 0);
        if !killed {
            println!(
                "rollback: {} steps tried, {forward} finished, {never} never were, 0 files lost",
                n - 1
            );
            assert!(n > 30 && forward > 10 && never > 10, "too few steps: {n}");
            return;
        }
    }
    panic!("it never ends");
}

/// The limit on the size of a file stands in for a disk that is full: the write fails in the middle.
#[test]
fn a_disk_that_is_full_leaves_the_tree_as_it_was() {
    let place = Place::new();
    let (before, after) = both(&place);
    change(&place);
    let upper = place.state().join("sessions/s/upper");
    put(&upper.join("large"), &"x".repeat(200_000));
    let run = place.rung_with(&["session", "apply", "s", "--accept", "all"]);
    let mut limited = Command::new("/bin/sh");
    let set = run.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    limited
        .args(["-c", "ulimit -f 200; exec \"$@\"", "sh"])
        .arg(run.command.get_program())
        .args(run.command.get_args())
        .env_clear()
        .envs(set)
        .current_dir(&place.workspace);
    let output = limited.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{words}");
    assert!(words.contains("large"), "it does not say which file: {words}");
    assert_eq!(contents(&place.workspace), before);
    // The control: with room, it is applied.
    fs::remove_file(upper.join("large")).unwrap();
    assert_eq!(session(&place, &["apply", "s", "--accept", "all"]).code(), 0);
    assert_eq!(contents(&place.workspace), after);
}

/// A file system of a few blocks, on which the tree lies: there is no room for what is to be put there.
#[test]
fn a_tree_on_a_full_file_system_is_as_it_was() {
    let root = nix::unistd::geteuid().is_root();
    if !has_by_chance("only root mounts a small file system", root) {
        return;
    }
    let place = Place::new();
    begin(&place);
    let words = format!(
        "set -e; mount -t tmpfs -o size=256k,mode=755 small {work}; cd {work}; mkdir src; \
         echo one > src/a; \
         {rung} session start --name s --base {work} >/dev/null; \
         U={state}/sessions/s; U=$([ -d $U/upper ] && echo $U/upper || echo $U/tree); \
         head -c 150000 /dev/zero > $U/first; head -c 150000 /dev/zero > $U/second; mkdir -p $U/src; echo two > $U/src/a; \
         {rung} session apply s --accept all && exit 9; \
         [ \"$(cat src/a)\" = one ]; [ ! -e first ]; [ ! -e second ]; [ \"$(ls -A)\" = src ]; \
         rm $U/second; {rung} session apply s --accept all >/dev/null; [ \"$(cat src/a)\" = two ]",
        work = place.workspace.display(),
        rung = env!("CARGO_BIN_EXE_rung"),
        state = place.state().display(),
    );
    let run = place.rung_with(&[]);
    let set = run.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = Command::new("unshare")
        .args(["-m", "/bin/sh", "-c", &words])
        .env_clear()
        .envs(set)
        .current_dir(Path::new("/"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{:?}: {said}", output.status);
    assert!(said.contains("No space left"), "{said}");
}
