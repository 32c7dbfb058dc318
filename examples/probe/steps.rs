//! A list of system calls, as words: `openat -100 s:/etc/shadow 0 , read %1 z:64 64`.
//!
//! The first word of a step is the call's name, or `#` and its number; a `?` before it means that
//! its failure does not matter. The words after it are numbers, or
//!
//! - `%N`: what step N returned;
//! - `s:TEXT`, `h:HEX`, `z:N`: the address of a C string, of bytes, of N zero bytes;
//! - `v:A|B`: the address of a list of C strings, ended by a null, as `execve(2)` takes it;
//! - `in:ADDRESS:PORT`, `un:PATH`, `un:@NAME`: a socket address, which is two words, the address
//!   in memory and its length.
//!
//! `fork` goes on in a child, and this process ends as the child does.

use std::net::SocketAddr;

use crate::system::{ask, call, fork, keep, keep_text, wait_for, word};
use crate::{Refused, Tried, Unclear};

/// Makes the calls until one fails.
pub(crate) fn run(words: &[String]) -> Tried {
    let mut results = Vec::new();
    for step in words.split(|word| word == ",") {
        let (name, rest) = step.split_first().ok_or(Refused::Not(Unclear::Usage))?;
        let (name, may_fail) = match name.strip_prefix('?') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        match one(name, rest, &results) {
            Ok(result) => results.push(result),
            Err(Refused::By(_)) if may_fail => results.push(0),
            Err(refused) => return Err(refused),
        }
    }
    Ok(())
}

fn one(name: &str, rest: &[String], results: &[usize]) -> Result<usize, Refused> {
    if name == "fork" {
        return match fork()? {
            0 => Ok(0),
            child => ended(wait_for(child)?),
        };
    }
    let number = number_of(name).ok_or(Refused::Not(Unclear::Usage))?;
    let mut six = [0; 6];
    let mut slots = six.iter_mut();
    for word in rest {
        for value in values(word, results).ok_or(Refused::Not(Unclear::Usage))? {
            *slots.next().ok_or(Refused::Not(Unclear::Usage))? = value;
        }
    }
    Ok(call(number, six)?)
}

/// Ends this process as the child ended.
fn ended(status: i32) -> Result<usize, Refused> {
    if libc::WIFEXITED(status) {
        _ = ask(libc::SYS_exit_group, &[word(libc::WEXITSTATUS(status))]);
    }
    Err(Refused::Not(Unclear::NoEffect))
}

fn values(word: &str, results: &[usize]) -> Option<Vec<usize>> {
    if let Some(step) = word.strip_prefix('%') {
        let step: usize = step.parse().ok()?;
        return Some(vec![*results.get(step.checked_sub(1)?)?]);
    }
    let value = match word.split_once(':') {
        Some(("s", text)) => keep_text(text.as_bytes()),
        Some(("h", text)) => keep(bytes_of(text)?),
        Some(("z", count)) => keep(vec![0; number(count)?]),
        Some(("v", text)) => list(text),
        Some(("own", "environment")) => {
            let own = std::env::vars().map(|(name, value)| format!("{name}={value}"));
            list(&own.collect::<Vec<_>>().join("|"))
        }
        Some(("in", text)) => return internet(text.parse().ok()?),
        Some(("un", path)) => return local(path),
        _ => number(word)?,
    };
    Some(vec![value])
}

/// Decimal, hexadecimal or octal, negative as the kernel reads it.
fn number(text: &str) -> Option<usize> {
    if let Some(digits) = text.strip_prefix("0x") {
        return usize::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return usize::from_str_radix(digits, 8).ok();
    }
    match text.strip_prefix('-') {
        Some(_) => text.parse::<isize>().ok().map(isize::cast_unsigned),
        None => text.parse().ok(),
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|it| it.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    Some(
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + digit)).collect(),
    )
}

fn list(text: &str) -> usize {
    let pointers = text.split('|').map(|it| keep_text(it.as_bytes())).chain([0]);
    keep(pointers.flat_map(usize::to_ne_bytes).collect())
}

/// `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
fn internet(address: SocketAddr) -> Option<Vec<usize>> {
    let mut bytes = Vec::new();
    match address {
        SocketAddr::V4(it) => {
            bytes.extend(u16::try_from(libc::AF_INET).ok()?.to_ne_bytes());
            bytes.extend(it.port().to_be_bytes());
            bytes.extend(it.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(it) => {
            bytes.extend(u16::try_from(libc::AF_INET6).ok()?.to_ne_bytes());
            bytes.extend(it.port().to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(it.ip().octets());
            bytes.extend([0; 4]);
        }
    }
    let length = bytes.len();
    Some(vec![keep(bytes), length])
}

/// `struct sockaddr_un` (unix(7)); `@` stands for the NUL byte of an abstract name, of which the
/// length is part.
fn local(path: &str) -> Option<Vec<usize>> {
    let mut bytes = u16::try_from(libc::AF_UNIX).ok()?.to_ne_bytes().to_vec();
    if let Some(name) = path.strip_prefix('@') {
        bytes.push(0);
        bytes.extend(name.as_bytes());
    } else {
        bytes.extend(path.as_bytes());
        bytes.push(0);
    }
    let length = bytes.len();
    Some(vec![keep(bytes), length])
}

fn number_of(name: &str) -> Option<usize> {
    if let Some(digits) = name.strip_prefix('#') {
        return number(digits);
    }
    let found = NAMES.iter().find(|it| it.0 == name)?;
    usize::try_from(found.1).ok()
}

/// Calls by name: those with a number on every architecture here.
const NAMES: &[(&str, libc::c_long)] = &[
    ("accept4", libc::SYS_accept4),
    ("acct", libc::SYS_acct),
    ("add_key", libc::SYS_add_key),
    ("adjtimex", libc::SYS_adjtimex),
    ("bind", libc::SYS_bind),
    ("bpf", libc::SYS_bpf),
    ("capset", libc::SYS_capset),
    ("chdir", libc::SYS_chdir),
    ("chroot", libc::SYS_chroot),
    ("clock_settime", libc::SYS_clock_settime),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("close", libc::SYS_close),
    ("connect", libc::SYS_connect),
    ("copy_file_range", libc::SYS_copy_file_range),
    ("delete_module", libc::SYS_delete_module),
    ("dup3", libc::SYS_dup3),
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("fallocate", libc::SYS_fallocate),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("fchdir", libc::SYS_fchdir),
    ("fchmod", libc::SYS_fchmod),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchmodat2", 452),
    ("fchownat", libc::SYS_fchownat),
    ("fcntl", libc::SYS_fcntl),
    ("finit_module", libc::SYS_finit_module),
    ("flock", libc::SYS_flock),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("ftruncate", libc::SYS_ftruncate),
    ("getdents64", libc::SYS_getdents64),
    ("init_module", libc::SYS_init_module),
    ("inotify_add_watch", libc::SYS_inotify_add_watch),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("ioctl", libc::SYS_ioctl),
    ("ioprio_set", libc::SYS_ioprio_set),
    ("kcmp", libc::SYS_kcmp),
    ("kexec_load", libc::SYS_kexec_load),
    ("keyctl", libc::SYS_keyctl),
    ("kill", libc::SYS_kill),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("linkat", libc::SYS_linkat),
    ("listen", libc::SYS_listen),
    ("lsm_set_self_attr", 460),
    ("memfd_create", libc::SYS_memfd_create),
    ("memfd_secret", 447),
    ("mkdirat", libc::SYS_mkdirat),
    ("mknodat", libc::SYS_mknodat),
    ("mmap", libc::SYS_mmap),
    ("mount", libc::SYS_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("move_pages", libc::SYS_move_pages),
    ("mq_open", libc::SYS_mq_open),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("personality", libc::SYS_personality),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("pivot_root", libc::SYS_pivot_root),
    ("prctl", libc::SYS_prctl),
    ("prlimit64", libc::SYS_prlimit64),
    ("process_madvise", libc::SYS_process_madvise),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("ptrace", libc::SYS_ptrace),
    ("pwrite64", libc::SYS_pwrite64),
    ("quotactl", libc::SYS_quotactl),
    ("read", libc::SYS_read),
    ("readlinkat", libc::SYS_readlinkat),
    ("reboot", libc::SYS_reboot),
    ("recvfrom", libc::SYS_recvfrom),
    ("remap_file_pages", libc::SYS_remap_file_pages),
    ("renameat2", libc::SYS_renameat2),
    ("request_key", libc::SYS_request_key),
    ("sched_setscheduler", libc::SYS_sched_setscheduler),
    ("semget", libc::SYS_semget),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendto", libc::SYS_sendto),
    ("setdomainname", libc::SYS_setdomainname),
    ("setgid", libc::SYS_setgid),
    ("setgroups", libc::SYS_setgroups),
    ("sethostname", libc::SYS_sethostname),
    ("setns", libc::SYS_setns),
    ("setpriority", libc::SYS_setpriority),
    ("setsockopt", libc::SYS_setsockopt),
    ("settimeofday", libc::SYS_settimeofday),
    ("setuid", libc::SYS_setuid),
    ("setxattr", libc::SYS_setxattr),
    ("shmget", libc::SYS_shmget),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("splice", libc::SYS_splice),
    ("statfs", libc::SYS_statfs),
    ("swapon", libc::SYS_swapon),
    ("symlinkat", libc::SYS_symlinkat),
    ("syslog", libc::SYS_syslog),
    ("tgkill", libc::SYS_tgkill),
    ("truncate", libc::SYS_truncate),
    ("umount2", libc::SYS_umount2),
    ("unlinkat", libc::SYS_unlinkat),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("utimensat", libc::SYS_utimensat),
    ("vhangup", libc::SYS_vhangup),
    ("vmsplice", libc::SYS_vmsplice),
    ("write", libc::SYS_write),
];
