//! Starting programs in every way there is, also while somebody changes what is started.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::acts::say;
use crate::system::{ask, call, fork, keep, keep_text, wait_for, word};
use crate::{Refused, Tried, Unclear};

const USAGE: Refused = Refused::Not(Unclear::Usage);
/// Bytes of each word that is changed meanwhile, its NUL byte included.
const WORD_BYTES: usize = 256;
/// How a child says that its exec was refused: no program of the tests ends so.
const NOT_STARTED: i32 = 250;

/// A program with its words, as addresses.
struct Program {
    path: usize,
    words: usize,
}

impl Program {
    fn new(path: &str, words: &[&str]) -> Self {
        let first = Path::new(path).file_name().map_or(path.as_bytes(), OsStrExt::as_bytes);
        let words = words.iter().map(|it| keep_text(it.as_bytes()));
        let list = [keep_text(first)].into_iter().chain(words).chain([0]);
        let words = keep(list.flat_map(usize::to_ne_bytes).collect());
        Self { path: keep_text(path.as_bytes()), words }
    }

    /// Comes back only with the reason why not.
    fn exec(&self) -> i32 {
        match ask(libc::SYS_execve, &[self.path, self.words, 0]) {
            Ok(_) => libc::EIO,
            Err(errno) => errno,
        }
    }

    /// Starts it as libraries do, in a child that shares this memory until its exec.
    fn spawn(&self) -> Result<usize, i32> {
        let mut pid = 0;
        // SAFETY: path and words are addresses of C strings and of a list of them that ends in a
        // null; `pid` outlives the call. No actions and no attributes are asked for.
        let failed = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                std::ptr::with_exposed_provenance(self.path),
                std::ptr::null(),
                std::ptr::null(),
                std::ptr::with_exposed_provenance(self.words),
                std::ptr::null(),
            )
        };
        if failed == 0 { Ok(usize::try_from(pid).unwrap_or(0)) } else { Err(failed) }
    }
}

/// Ends as the program ends.
fn end_as(status: i32) -> Tried {
    if libc::WIFEXITED(status) {
        ask(libc::SYS_exit_group, &[word(libc::WEXITSTATUS(status))])?;
    }
    Err(Refused::By(128 + libc::WTERMSIG(status)))
}

/// Starts a program in one way, and ends as it does.
pub(crate) fn start(how: &str, path: &str, words: &[&str]) -> Tried {
    let program = Program::new(path, words);
    match how {
        "fork" => match fork()? {
            0 => Err(Refused::By(program.exec())),
            child => end_as(wait_for(child)?),
        },
        "spawn" => end_as(wait_for(program.spawn()?)?),
        // A thread that is not the first: the others die, and it takes over their process.
        "thread" => {
            let failed = std::thread::spawn(move || program.exec()).join();
            Err(Refused::By(failed.map_err(|_| USAGE)?))
        }
        // Two threads at once: one of them becomes the program.
        "threads" => {
            let again = Program { ..program };
            let other = std::thread::spawn(move || again.exec());
            let failed = std::thread::spawn(move || {
                Program { path: program.path, words: program.words }.exec()
            });
            let failed = failed.join().map_err(|_| USAGE)?;
            Err(Refused::By(failed.max(other.join().map_err(|_| USAGE)?)))
        }
        // A child whose only tie is broken before it starts something.
        "orphan" => {
            let [read, write] = pipe()?;
            if fork()? == 0 {
                if fork()? == 0 {
                    ask(libc::SYS_close, &[read])?;
                    while ask(libc::SYS_getppid, &[])? != 1 {
                        std::thread::yield_now();
                    }
                    return Err(Refused::By(program.exec()));
                }
                return Ok(());
            }
            ask(libc::SYS_close, &[write])?;
            // Ends when nobody has the other end any more.
            ask(libc::SYS_read, &[read, keep(vec![0]), 1])?;
            Ok(())
        }
        _ => Err(USAGE),
    }
}

fn pipe() -> Result<[usize; 2], i32> {
    let pair = keep(vec![0; 8]);
    ask(libc::SYS_pipe2, &[pair, 0])?;
    // SAFETY: `pair` is the address of eight bytes of our own that the kernel has just filled.
    let bytes: [u8; 8] = unsafe { std::ptr::with_exposed_provenance::<[u8; 8]>(pair).read() };
    let (first, second) = bytes.split_at(4);
    let number = |bytes: &[u8]| {
        bytes.iter().rev().fold(0_usize, |value, byte| value * 256 + usize::from(*byte))
    };
    Ok([number(first), number(second)])
}

/// Starts a program again and again, and says how often that worked.
pub(crate) fn storm(count: usize, path: &str, words: &[&str]) -> Tried {
    let program = Program::new(path, words);
    let (mut started, mut refused) = (0, 0);
    for _ in 0..count {
        match program.spawn() {
            Ok(child) => {
                wait_for(child)?;
                started += 1;
            }
            Err(_) => refused += 1,
        }
    }
    say(&format!("started {started} refused {refused}"))
}

/// How often what became of a race.
#[derive(Default)]
struct Count {
    /// The allowed program ran.
    allowed: usize,
    /// The other one did, if only for one instruction.
    denied: usize,
    refused: usize,
    killed: usize,
    /// Half of one and half of the other, which names nothing.
    torn: usize,
    other: usize,
}

impl Count {
    fn add(&mut self, status: Result<i32, i32>, denied_code: i32) {
        let slot = match status {
            Err(libc::EACCES) => &mut self.refused,
            Err(libc::ENOENT) => &mut self.torn,
            Ok(status) if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL => {
                &mut self.killed
            }
            Ok(status) if libc::WIFEXITED(status) => match libc::WEXITSTATUS(status) {
                0 => &mut self.allowed,
                NOT_STARTED => &mut self.refused,
                libc::ENOENT => &mut self.torn,
                code if code == denied_code => &mut self.denied,
                _ => &mut self.other,
            },
            Ok(_) | Err(_) => &mut self.other,
        };
        *slot += 1;
    }

    fn say(&self) -> Tried {
        let Self { allowed, denied, refused, killed, torn, other } = self;
        say(&format!(
            "allowed {allowed} denied {denied} refused {refused} killed {killed} torn {torn} \
             other {other}"
        ))
    }
}

/// Two words that take turns at one place of the memory, and whether they still do.
struct Turns {
    place: &'static [AtomicU8; WORD_BYTES],
    words: [[u8; WORD_BYTES]; 2],
    on: &'static AtomicBool,
}

impl Turns {
    fn new(first: &str, second: &str) -> Result<Self, Refused> {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let place = ask(libc::SYS_mmap, &[0, 4096, word(protection), word(flags), usize::MAX, 0])?;
        let padded = |text: &str| {
            let mut bytes = [0; WORD_BYTES];
            let fits = text.len() < WORD_BYTES;
            bytes.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
            fits.then_some(bytes).ok_or(USAGE)
        };
        // SAFETY: a new page of our own, which is never unmapped; every access to it is atomic.
        let bytes: &'static [AtomicU8; WORD_BYTES] =
            unsafe { &*std::ptr::with_exposed_provenance(place) };
        // SAFETY: as above, behind the word.
        let on: &'static AtomicBool =
            unsafe { &*std::ptr::with_exposed_provenance(place + WORD_BYTES) };
        on.store(true, Ordering::SeqCst);
        let turns = Self { place: bytes, words: [padded(first)?, padded(second)?], on };
        turns.put(0);
        Ok(turns)
    }

    fn put(&self, which: usize) {
        let Some(word) = self.words.get(which) else { return };
        for (slot, byte) in self.place.iter().zip(word) {
            slot.store(*byte, Ordering::Relaxed);
        }
    }

    /// Until it is told to stop.
    fn run(&self) {
        let mut which = 0;
        while self.on.load(Ordering::Relaxed) {
            which = 1 - which;
            self.put(which);
            // Long enough for either word to be read whole, short enough to change between a look
            // and the next.
            for _ in 0..200 {
                std::hint::spin_loop();
            }
        }
    }

    fn address(&self) -> usize {
        self.place.as_ptr().expose_provenance()
    }
}

extern "C" fn take_turns(turns: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `race` passes the address of its own `Turns`, which outlives every writer.
    let turns = unsafe { &*turns.cast::<Turns>() };
    turns.run();
    0
}

/// Starts a program while somebody else changes a word of it: `path`, or `word` (the first after the
/// name). Says how often which of the two ran.
pub(crate) fn race(
    what: &str,
    writer: &str,
    count: usize,
    program: &str,
    [first, second]: [&str; 2],
    words: &[&str],
) -> Tried {
    let turns = Turns::new(first, second)?;
    let mut started = Program::new(program, words);
    // What the second word makes of the run.
    let denied_code = match what {
        "path" => {
            started.path = turns.address();
            1
        }
        "word" => {
            let name = Path::new(program).file_name().map_or(&b""[..], OsStrExt::as_bytes);
            let rest = words.iter().map(|it| keep_text(it.as_bytes()));
            let list = [keep_text(name), turns.address()].into_iter().chain(rest).chain([0]);
            started.words = keep(list.flat_map(usize::to_ne_bytes).collect());
            Unclear::Usage as i32
        }
        _ => return Err(USAGE),
    };
    let counted = |count: usize| -> Result<Count, Refused> {
        let mut counted = Count::default();
        for _ in 0..count {
            counted.add(started.spawn().and_then(wait_for), denied_code);
        }
        turns.on.store(false, Ordering::SeqCst);
        Ok(counted)
    };
    let counted = match writer {
        "thread" => std::thread::scope(|scope| {
            scope.spawn(|| turns.run());
            counted(count)
        })?,
        // Another process that has the same memory.
        "memory" => {
            let stack = keep(vec![0; 1 << 16]) + (1 << 16);
            let flags = libc::CLONE_VM | libc::SIGCHLD;
            let argument = std::ptr::from_ref(&turns).cast_mut().cast();
            let top = std::ptr::with_exposed_provenance_mut(stack & !15);
            // SAFETY: the stack is used by this child alone, and `turns` lives until it has ended.
            let child = unsafe { libc::clone(take_turns, top, flags, argument) };
            let counted = counted(count)?;
            wait_for(usize::try_from(child).map_err(|_| Refused::By(libc::EAGAIN))?)?;
            counted
        }
        // Another process that has one page of it.
        "shared" => {
            let child = fork()?;
            if child == 0 {
                turns.run();
                ask(libc::SYS_exit_group, &[0])?;
            }
            let counted = counted(count)?;
            wait_for(child)?;
            counted
        }
        // A thread of the very process that becomes the program.
        "own" => {
            let mut counted = Count::default();
            for _ in 0..count {
                let child = fork()?;
                if child == 0 {
                    let turns: &'static Turns = Box::leak(Box::new(Turns {
                        place: turns.place,
                        words: turns.words,
                        on: turns.on,
                    }));
                    let begun: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
                    std::thread::spawn(|| {
                        begun.store(true, Ordering::SeqCst);
                        turns.run();
                    });
                    while !begun.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    let errno = started.exec();
                    let code = if errno == libc::EACCES { NOT_STARTED } else { errno };
                    ask(libc::SYS_exit_group, &[word(code)])?;
                }
                counted.add(wait_for(child), denied_code);
            }
            counted
        }
        _ => return Err(USAGE),
    };
    counted.say()
}

/// Starts what a link names while somebody else turns the link.
pub(crate) fn race_link(how: &str, count: usize, link: &str, [first, second]: [&str; 2]) -> Tried {
    let at = |suffix: &str| format!("{link}{suffix}");
    std::os::unix::fs::symlink(first, link)?;
    std::os::unix::fs::symlink(second, at(".other"))?;
    let on = AtomicBool::new(true);
    let started = Program::new(link, &[]);
    let name = |text: &str| CString::new(text).map(|it| keep(it.into_bytes_with_nul()));
    let (link_at, other_at) =
        (name(link).map_err(|_| USAGE)?, name(&at(".other")).map_err(|_| USAGE)?);
    let turn = || {
        let here = word(libc::AT_FDCWD);
        let mut which = 0;
        while on.load(Ordering::Relaxed) {
            which = 1 - which;
            if how == "exchange" {
                // Both names at once.
                _ = ask(libc::SYS_renameat2, &[here, link_at, here, other_at, 2]);
            } else {
                let target = if which == 0 { first } else { second };
                if std::os::unix::fs::symlink(target, at(".new")).is_ok() {
                    drop(std::fs::rename(at(".new"), link));
                }
            }
            for _ in 0..2000 {
                std::hint::spin_loop();
            }
        }
    };
    let mut counted = Count::default();
    std::thread::scope(|scope| {
        scope.spawn(turn);
        for _ in 0..count {
            counted.add(started.spawn().and_then(wait_for), 1);
        }
        on.store(false, Ordering::Relaxed);
    });
    counted.say()
}

/// Whether a file in memory can never become a program, and its pages still can be code.
pub(crate) fn sealed() -> Tried {
    const GET_SEALS: usize = 1034;
    const NO_PROGRAM: usize = 0x20;
    let file = ask(libc::SYS_memfd_create, &[keep_text(b"code"), 0])?;
    ask(libc::SYS_ftruncate, &[file, 4096])?;
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    ask(libc::SYS_mmap, &[0, 4096, word(protection), word(libc::MAP_SHARED), file, 0])?;
    let seals = ask(libc::SYS_fcntl, &[file, GET_SEALS])?;
    if seals & NO_PROGRAM == 0 { Err(Refused::Not(Unclear::NoEffect)) } else { Ok(()) }
}

/// Becomes a program under a listener of its own, as another supervisor would have it.
pub(crate) fn listened_to(path: &str, words: &[&str]) -> Tried {
    // Allows everything, but its flag makes the one listener that a task can have.
    let filter =
        keep([0x06_u64 | 0x7fff_0000 << 32].into_iter().flat_map(u64::to_ne_bytes).collect());
    let program = [1_usize, filter].into_iter().flat_map(usize::to_ne_bytes).collect();
    ask(libc::SYS_prctl, &[word(libc::PR_SET_NO_NEW_PRIVS), 1])?;
    let listener =
        call(usize::try_from(libc::SYS_seccomp).unwrap_or(0), [1, 8, keep(program), 0, 0, 0])?;
    // It must stay open, or nobody listens any more.
    ask(libc::SYS_fcntl, &[listener, word(libc::F_SETFD), 0])?;
    let variables = std::env::vars_os()
        .map(|(name, value)| keep_text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    let variables = keep(variables.chain([0]).flat_map(usize::to_ne_bytes).collect());
    let program = Program::new(path, words);
    ask(libc::SYS_execve, &[program.path, program.words, variables])?;
    Ok(())
}

/// A task whose exec has failed is as free as before: it can be stopped and continued, and its parent
/// hears of its end at once.
pub(crate) fn fail_then_live(path: &str) -> Tried {
    let program = Program::new(path, &[]);
    let child = fork()?;
    if child == 0 {
        let errno = program.exec();
        ask(libc::SYS_kill, &[ask(libc::SYS_getpid, &[])?, word(libc::SIGSTOP)])?;
        ask(libc::SYS_exit_group, &[word(errno)])?;
    }
    let status = keep(vec![0; 4]);
    ask(libc::SYS_wait4, &[child, status, word(libc::WUNTRACED)])?;
    // SAFETY: `status` is the address of four bytes of our own that the kernel has just filled.
    let bytes: [u8; 4] = unsafe { std::ptr::with_exposed_provenance::<[u8; 4]>(status).read() };
    if !libc::WIFSTOPPED(i32::from_ne_bytes(bytes)) {
        return Err(Refused::Not(Unclear::NoEffect));
    }
    ask(libc::SYS_kill, &[child, word(libc::SIGCONT)])?;
    end_as(wait_for(child)?)
}
