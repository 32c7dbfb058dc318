//! Acts that no list of system calls can express: with children, threads, signals and loops.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::system::{ask, fork, keep, keep_path, keep_text, pause_for_ever, word};
use crate::talk;
use crate::{Refused, Tried, Unclear};
use crate::{canary, exec, steps};

const USAGE: Refused = Refused::Not(Unclear::Usage);
const NO_EFFECT: Refused = Refused::Not(Unclear::NoEffect);
const NOT_TRIED: Refused = Refused::Not(Unclear::NotTried);

/// More than any limit of a profile.
const PROCESSES_TRIED: usize = 20_000;
const FILES_TRIED: usize = 1 << 17;
/// The whole range of process numbers that a default kernel gives out.
const PIDS_TRIED: usize = 1 << 16;
const DESCRIPTORS_TRIED: i32 = 1 << 10;

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::By(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Does what the words say.
pub(crate) fn act(words: &[OsString]) -> Tried {
    let Some((verb, bytes)) = words.split_first() else { return Err(USAGE) };
    // The only act whose words need not be text.
    if verb == "words" {
        return say_words(bytes);
    }
    let rest: Vec<String> = bytes
        .iter()
        .map(|it| it.to_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or(USAGE)?;
    let text = rest.iter().map(String::as_str).collect::<Vec<_>>();
    match (verb.to_str().ok_or(USAGE)?, text.as_slice()) {
        ("do", _) => steps::run(&rest),
        ("as-root", [_, ..]) => as_root(&rest),
        ("caller", [state, program, arguments @ ..]) => caller(state, program, arguments),
        ("exit", [code]) => exit(number(code)?),
        ("raise", [signal]) => raise(number(signal)?),
        ("environment", []) => say_environment(),
        ("descriptors", []) => say_descriptors(),
        ("directory", []) => say(&std::env::current_dir()?.display().to_string()),
        ("mask", []) => say(&format!("{:03o}", ask(libc::SYS_umask, &[0])?)),
        ("signals", []) => say_signals(),
        ("streams", []) => say_streams(),
        ("echo", []) => echo(),
        ("print", [out, err]) => print(out, err),
        ("read", [path]) => read(Path::new(path)),
        ("list", [path]) => list(Path::new(path)),
        ("write", [path, text]) => write(Path::new(path), text),
        ("wait", []) => ready().and_then(|()| pause_for_ever()),
        ("ignore", []) => ignore_signals(),
        ("expect", signals) => expect(signals),
        ("start", [how, path, words @ ..]) => exec::start(how, path, words),
        ("storm", [count, path, words @ ..]) => exec::storm(number(count)?, path, words),
        ("race", [what, writer, count, program, first, second, words @ ..]) => {
            exec::race(what, writer, number(count)?, program, [first, second], words)
        }
        ("race-link", [how, count, link, first, second]) => {
            exec::race_link(how, number(count)?, link, [first, second])
        }
        ("sealed", []) => exec::sealed(),
        ("listened-to", [path, words @ ..]) => exec::listened_to(path, words),
        ("fail-then-live", [path]) => exec::fail_then_live(path),
        ("linger", ["late-exit"]) => linger(true),
        ("linger", []) => linger(false),
        ("trace-me", []) => trace_me(),
        ("fork", [count]) => fork_many(number(count)?),
        ("threads", [count]) => start_threads(number(count)?),
        ("occupy", [mebibytes]) => occupy(number(mebibytes)?),
        ("fill", [path, mebibytes]) => fill(Path::new(path), number(mebibytes)?),
        ("empty", paths) => empty(paths),
        ("populate", [path]) => populate(Path::new(path)),
        ("open", []) => open_many(),
        ("hoard", []) => hoard(),
        ("cope", [_, ..]) => cope(bytes),
        ("hold", [_, ..]) => cope(bytes).and_then(|()| pause_for_ever()),
        ("signal-all", [signal]) => signal_all(number(signal)?),
        ("shout", []) => shout(),
        ("flip", [path, target]) => flip(Path::new(path), Path::new(target)),
        #[cfg(target_arch = "x86_64")]
        ("interrupt", [call, path]) => interrupt(number(call)?, path),
        ("deep", [path]) => deep(Path::new(path)),
        ("resolve", [name]) => talk::resolve(name),
        ("fetch", [name, to]) => talk::fetch(name, port(to)?, name, ""),
        ("fetch", [name, to, host]) => talk::fetch(name, port(to)?, host, ""),
        ("fetch", [name, to, host, family]) => talk::fetch(name, port(to)?, host, family),
        ("say", [name, to, words]) => talk::say(name, port(to)?, words),
        ("upload", [name, to, bytes]) => talk::upload(name, port(to)?, number(bytes)?),
        ("keep", [name, to, count]) => talk::keep(name, port(to)?, number(count)?),
        ("sweep", [name, from, to]) => talk::sweep(name, port(from)?, port(to)?),
        ("many", [name, to, count]) => talk::many(name, port(to)?, number(count)?),
        ("trickle", [name, to, count]) => talk::trickle(name, port(to)?, number(count)?),
        ("canary", [ports, contacts]) => canary::serve(ports, contacts),
        ("flood", [threads, programs]) => talk::flood(number(threads)?, number(programs)?),
        ("datagram", [name, to]) => talk::datagram(name, port(to)?),
        _ => Err(USAGE),
    }
}

fn port(text: &str) -> Result<u16, Refused> {
    text.parse().map_err(|_| USAGE)
}

fn number(text: &str) -> Result<usize, Refused> {
    text.parse().map_err(|_| USAGE)
}

pub(crate) fn say(text: &str) -> Tried {
    io::stdout().write_all(text.as_bytes())?;
    io::stdout().write_all(b"\n")?;
    Ok(io::stdout().flush()?)
}

/// What a test waits for before it goes on.
fn ready() -> Tried {
    say("ready")
}

/// The rest with every capability, in namespaces of its own: what the sandbox's walls would have to
/// stop if a user namespace could be made inside.
fn as_root(words: &[String]) -> Tried {
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let (uid, gid) = (ask(libc::SYS_geteuid, &[])?, ask(libc::SYS_getegid, &[])?);
    ask(libc::SYS_unshare, &[word(flags)])?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    let private = usize::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap_or(0);
    ask(libc::SYS_mount, &[keep_text(b"none"), keep_text(b"/"), 0, private])?;
    act(&words.iter().map(OsString::from).collect::<Vec<_>>())
}

/// Becomes a program, in a state that a careless caller may leave behind.
fn caller(state: &str, program: &str, arguments: &[&str]) -> Tried {
    match state.split_once('=').unwrap_or((state, "")) {
        ("ignores-children", _) => ignore(libc::SIGCHLD)?,
        ("blocks-signals", _) => block(!0)?,
        ("leaks", path) => leak(path)?,
        ("masks", mask) => {
            let mask = usize::from_str_radix(mask, 8).map_err(|_| USAGE)?;
            ask(libc::SYS_umask, &[mask])?;
        }
        ("closes-streams", _) => {
            ask(libc::SYS_close_range, &[0, 2, 0])?;
        }
        ("limits-files", bytes) => {
            let bytes = number(bytes)?.to_ne_bytes();
            let both = keep(bytes.into_iter().chain(bytes).collect());
            ask(libc::SYS_prlimit64, &[0, libc::RLIMIT_FSIZE as usize, both])?;
        }
        ("has-no-directory", path) => {
            fs::create_dir(path)?;
            std::env::set_current_dir(path)?;
            fs::remove_dir(path)?;
        }
        ("has-no-second-network", _) => refuse_second_network()?,
        ("stops", _) => {
            let own = ask(libc::SYS_getpid, &[])?;
            ask(libc::SYS_kill, &[own, word(libc::SIGSTOP)])?;
        }
        _ => return Err(USAGE),
    }
    let error = std::os::unix::process::CommandExt::exec(
        std::process::Command::new(program).args(arguments),
    );
    Err(error.into())
}

/// A filter like a container's, which refuses a network namespace to who has one.
fn refuse_second_network() -> Result<(), i32> {
    const LOAD_WORD: u16 = 0x20;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const REFUSE: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    // `struct seccomp_data`: the number of the call, and the lower half of its first word.
    const NUMBER: u32 = 0;
    const FIRST_WORD: u32 = 16;
    let number = u32::try_from(libc::SYS_unshare).map_err(|_| libc::ENOSYS)?;
    let program = [
        (LOAD_WORD, 0_u8, 0_u8, NUMBER),
        (IS, 0, 3, number),
        (LOAD_WORD, 0, 0, FIRST_WORD),
        (IS, 0, 1, libc::CLONE_NEWNET.cast_unsigned()),
        (RETURN, 0, 0, REFUSE | libc::EPERM.cast_unsigned()),
        (RETURN, 0, 0, ALLOW),
    ];
    let bytes = program.iter().flat_map(|(code, yes, no, value)| {
        [&code.to_ne_bytes()[..], &[*yes, *no], &value.to_ne_bytes()].concat()
    });
    let instructions = keep(bytes.collect());
    // `struct sock_fprog`
    let length = program.len().to_ne_bytes();
    let filter = keep([length, instructions.to_ne_bytes()].concat());
    ask(libc::SYS_prctl, &[word(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0])?;
    let filtered = word(libc::SECCOMP_SET_MODE_FILTER.cast_signed());
    ask(libc::SYS_seccomp, &[filtered, 0, filter]).map(drop)
}

fn ignore(signal: i32) -> Result<(), i32> {
    // struct kernel_sigaction: SIG_IGN, no flags, no mask.
    let action = keep([1_usize, 0, 0, 0].into_iter().flat_map(usize::to_ne_bytes).collect());
    ask(libc::SYS_rt_sigaction, &[word(signal), action, 0, 8]).map(drop)
}

/// A directory, a file open for writing, a listener and a pipe, none of them closed at exec.
fn leak(path: &str) -> Result<(), i32> {
    let here = word(libc::AT_FDCWD);
    ask(libc::SYS_openat, &[here, keep_text(b"/"), word(libc::O_DIRECTORY)])?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    ask(libc::SYS_openat, &[here, keep_text(path.as_bytes()), word(flags), 0o600])?;
    ask(libc::SYS_socket, &[word(libc::AF_UNIX), word(libc::SOCK_STREAM), 0])?;
    ask(libc::SYS_pipe2, &[keep(vec![0; 8]), 0])?;
    ask(libc::SYS_fcntl, &[0, word(libc::F_DUPFD), 200]).map(drop)
}

fn exit(code: usize) -> Tried {
    ask(libc::SYS_exit_group, &[code])?;
    Err(NO_EFFECT)
}

fn raise(signal: usize) -> Tried {
    let own = ask(libc::SYS_getpid, &[])?;
    // The language's runtime catches some; SIGKILL and SIGSTOP have no disposition to set.
    if ![libc::SIGKILL, libc::SIGSTOP].map(word).contains(&signal) {
        let default = keep(vec![0; 32]);
        ask(libc::SYS_rt_sigaction, &[signal, default, 0, 8])?;
    }
    ask(libc::SYS_kill, &[own, signal])?;
    Err(NO_EFFECT)
}

/// How many words, how long together, and a checksum (FNV-1a) over all of them with their ends.
fn say_words(words: &[OsString]) -> Tried {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let ends = words.iter().flat_map(|it| it.as_bytes().iter().copied().chain([0]));
    for byte in ends {
        sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let length: usize = words.iter().map(|it| it.len()).sum();
    say(&format!("{} {length} {sum:016x}", words.len()))
}

fn say_environment() -> Tried {
    for (name, value) in std::env::vars_os() {
        say(&format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))?;
    }
    Ok(())
}

fn say_descriptors() -> Tried {
    let mut found: Vec<i32> = (0..DESCRIPTORS_TRIED).filter(|it| is_open(*it)).collect();
    found.sort_unstable();
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    say(&text.join(" "))
}

fn is_open(number: i32) -> bool {
    ask(libc::SYS_fcntl, &[word(number), word(libc::F_GETFD)]).is_ok()
}

/// The lines of `/proc/self/status` on signals and privileges.
fn say_signals() -> Tried {
    let text = fs::read_to_string("/proc/self/status")?;
    let wanted = ["Sig", "Cap", "NoNewPrivs", "Seccomp"];
    for line in text.lines().filter(|line| wanted.iter().any(|it| line.starts_with(it))) {
        say(line)?;
    }
    Ok(())
}

/// Device, inode and kind of each standard stream, in order.
fn say_streams() -> Tried {
    for number in 0..3 {
        let found = fs::metadata(format!("/proc/self/fd/{number}"))?;
        say(&format!("{} {} {:o}", found.dev(), found.ino(), found.mode() & libc::S_IFMT))?;
    }
    Ok(())
}

fn echo() -> Tried {
    io::copy(&mut io::stdin(), &mut io::stdout())?;
    Ok(())
}

fn print(out: &str, err: &str) -> Tried {
    io::stdout().write_all(out.as_bytes())?;
    io::stdout().flush()?;
    Ok(io::stderr().write_all(err.as_bytes())?)
}

/// At least one byte of it.
fn read(path: &Path) -> Tried {
    let mut byte = [0];
    match File::open(path)?.read(&mut byte)? {
        0 => Err(NO_EFFECT),
        _ => Ok(()),
    }
}

fn list(path: &Path) -> Tried {
    match fs::read_dir(path)?.next() {
        Some(_) => Ok(()),
        None => Err(NO_EFFECT),
    }
}

fn write(path: &Path, text: &str) -> Tried {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Blocks what can be blocked and ignores it too, then waits to be killed.
fn ignore_signals() -> Tried {
    block(!0)?;
    ready()?;
    pause_for_ever()
}

/// Exactly the signals whose bits are set.
fn block(mask: u64) -> Result<(), i32> {
    let address = keep(mask.to_ne_bytes().to_vec());
    let how = word(libc::SIG_SETMASK);
    ask(libc::SYS_rt_sigprocmask, &[how, address, 0, 8]).map(drop)
}

/// Says `ready`, then takes the given signals in this order; any other ends it.
fn expect(signals: &[&str]) -> Tried {
    let wanted: Vec<u32> =
        signals.iter().map(|it| it.parse()).collect::<Result<_, _>>().map_err(|_| USAGE)?;
    let mask = wanted.iter().fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    block(mask)?;
    ready()?;
    let set = keep(mask.to_ne_bytes().to_vec());
    for signal in wanted {
        let taken = ask(libc::SYS_rt_sigtimedwait, &[set, 0, 0, 8])?;
        if taken != signal as usize {
            return Err(NO_EFFECT);
        }
        say(&format!("signal {signal}"))?;
    }
    Ok(())
}

/// Leaves a process behind that is in no way this one's any more: twice forked, in its own session,
/// deaf to signals. Ends before it, or waits until it is ended with it.
fn linger(stay: bool) -> Tried {
    if fork()? == 0 {
        ask(libc::SYS_setsid, &[])?;
        if fork()? == 0 {
            block(!0)?;
            pause_for_ever();
        }
        return Ok(());
    }
    ready()?;
    if stay { pause_for_ever() } else { Ok(()) }
}

/// Makes its parent its tracer and stops, which looks to the parent as if it had ended. Goes on
/// when continued, and only then really ends.
fn trace_me() -> Tried {
    ask(libc::SYS_ptrace, &[libc::PTRACE_TRACEME as usize])?;
    raise(word(libc::SIGSTOP)).or(Ok::<(), Refused>(()))?;
    say("late")?;
    exit(7)
}

/// Forks children that stay, until the kernel refuses; 0 if it never does.
fn fork_many(count: usize) -> Tried {
    let mut made = 0;
    let refused = loop {
        if made == count.min(PROCESSES_TRIED) {
            break None;
        }
        match fork() {
            Ok(0) => pause_for_ever(),
            Ok(_) => made += 1,
            Err(errno) => break Some(errno),
        }
    };
    say(&made.to_string())?;
    refused.map_or(Ok(()), |errno| Err(Refused::By(errno)))
}

fn start_threads(count: usize) -> Tried {
    let mut made = 0;
    for _ in 0..count.min(PROCESSES_TRIED) {
        let builder = std::thread::Builder::new().stack_size(1 << 16);
        if let Err(error) = builder.spawn(|| pause_for_ever()) {
            say(&made.to_string())?;
            return Err(error.into());
        }
        made += 1;
    }
    say(&made.to_string())
}

/// Memory that is really there: every page is written to.
fn occupy(mebibytes: usize) -> Tried {
    const PAGE: usize = 4096;
    let mut blocks = Vec::new();
    for _ in 0..mebibytes {
        let mut block = Vec::new();
        block.try_reserve_exact(1 << 20).map_err(|_| Refused::By(libc::ENOMEM))?;
        block.resize(1 << 20, 0_u8);
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        blocks.push(block);
    }
    std::hint::black_box(&blocks);
    say("occupied")?;
    pause_for_ever()
}

/// Writes until that much is there or the kernel refuses.
fn fill(path: &Path, mebibytes: usize) -> Tried {
    let block = vec![b'x'; 1 << 20];
    let mut file = File::create(path)?;
    for _ in 0..mebibytes {
        file.write_all(&block)?;
    }
    Ok(())
}

/// Removes all that can be removed, and says why not all of it could.
fn empty(paths: &[&str]) -> Tried {
    let mut first = Ok(());
    for path in paths {
        let removed = match fs::symlink_metadata(path) {
            Ok(it) if it.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        first = first.and(removed);
    }
    Ok(first?)
}

/// Makes empty files until the kernel refuses.
fn populate(path: &Path) -> Tried {
    for index in 0..FILES_TRIED {
        drop(File::create(path.join(index.to_string()))?);
    }
    Ok(())
}

/// Opens files until the kernel refuses, and says how many there were.
fn open_many() -> Tried {
    let mut files = Vec::new();
    for _ in 0..FILES_TRIED {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                // One has to go for the answer.
                let count = files.len();
                files.clear();
                say(&count.to_string())?;
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Opens files until the kernel refuses, and never closes them.
fn hoard() -> Tried {
    for _ in 0..FILES_TRIED {
        _ = File::open("/dev/null")?.into_raw_fd();
    }
    Ok(())
}

/// Whatever the kernel refuses, this goes on.
fn cope(words: &[OsString]) -> Tried {
    match act(words) {
        Ok(()) | Err(Refused::By(_)) => ready(),
        Err(refused) => Err(refused),
    }
}

/// Sends a signal to every process there may be but this one and its parent. 0: one was there.
fn signal_all(signal: usize) -> Tried {
    let (own, parent) = (ask(libc::SYS_getpid, &[])?, ask(libc::SYS_getppid, &[])?);
    let mut reached = 0;
    for pid in (2..PIDS_TRIED).filter(|pid| *pid != own && *pid != parent) {
        reached += usize::from(ask(libc::SYS_kill, &[pid, signal]).is_ok());
    }
    if reached > 0 { Ok(()) } else { Err(Refused::By(libc::ESRCH)) }
}

/// Writes lines that look like somebody else's to every descriptor beyond the streams. 0: one took
/// them.
fn shout() -> Tried {
    let lines = keep_text(b"{\"status\":{\"kind\":\"exited\",\"code\":0}}\n");
    let mut taken = 0;
    for number in 3..DESCRIPTORS_TRIED {
        let number = word(number);
        taken += usize::from(ask(libc::SYS_write, &[number, lines, 39]).is_ok());
    }
    if taken > 0 { Ok(()) } else { Err(Refused::By(libc::EBADF)) }
}

/// One thread exchanges a directory and a link to `target` at `path`, another writes `path`/f.
/// 0: a file came to be in the target.
fn flip(path: &Path, target: &Path) -> Tried {
    const TURNS: usize = 4000;
    let link = path.with_extension("link");
    fs::create_dir(path)?;
    symlink(target, &link)?;
    let (here, there) = (keep_path(path)?, keep_path(&link)?);
    let exchanger = std::thread::spawn(move || {
        let directory = word(libc::AT_FDCWD);
        for _ in 0..TURNS {
            _ = ask(libc::SYS_renameat2, &[directory, here, directory, there, 2]);
        }
    });
    let name = path.join("f");
    let mut last = None;
    while !exchanger.is_finished() {
        if let Err(error) = fs::write(&name, "x") {
            last = Some(error);
        }
    }
    match (target.join("f").exists(), last) {
        (true, _) => Ok(()),
        (false, Some(error)) => Err(error.into()),
        (false, None) => Err(NO_EFFECT),
    }
}

/// A call of the 32-bit table with the address of a path, which must lie in the lower half.
#[cfg(target_arch = "x86_64")]
fn interrupt(call: usize, path: &str) -> Tried {
    let low = libc::MAP_32BIT | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let words = [0, 4096, word(access), word(low), usize::MAX, 0];
    let address = ask(libc::SYS_mmap, &words)?;
    // The text goes through a pipe, so that the kernel and not a pointer carries it there.
    let ends = keep(vec![0; 8]);
    ask(libc::SYS_pipe2, &[ends, 0])?;
    // SAFETY: `ends` is the address of eight bytes of our own that the kernel has just filled.
    let [from, to] =
        unsafe { std::ptr::with_exposed_provenance::<[i32; 2]>(ends).read_unaligned() };
    let bytes = keep_text(path.as_bytes());
    ask(libc::SYS_write, &[word(to), bytes, path.len() + 1])?;
    ask(libc::SYS_read, &[word(from), address, path.len() + 1])?;
    let number = u32::try_from(call).map_err(|_| USAGE)?;
    let address = u32::try_from(address).map_err(|_| NOT_TRIED)?;
    match crate::system::call_by_interrupt(number, [address, 0, 0]) {
        errno @ ..0 => Err(Refused::By(-errno)),
        _ => Ok(()),
    }
}

/// Directories in directories, until the kernel refuses or there are many.
fn deep(path: &Path) -> Tried {
    const DEPTH: usize = 2000;
    std::env::set_current_dir(path)?;
    for _ in 0..DEPTH {
        fs::create_dir("d")?;
        std::env::set_current_dir("d")?;
    }
    Ok(())
}
