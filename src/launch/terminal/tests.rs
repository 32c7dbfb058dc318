//! Real pairs of pseudo terminals: what reaches whom, and in which mode the user's is left.

use std::io::Write as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags};

use super::*;

/// A person: the other side of the user's terminal.
struct Person {
    /// What a terminal emulator holds.
    emulator: OwnedFd,
    /// What rung inherits.
    terminal: OwnedFd,
    seen: Vec<u8>,
}

const DEADLINE: Duration = Duration::from_secs(20);

/// A person, rung, and the inside of the command's terminal.
fn scene(passing: Passing) -> (Person, Terminal, OwnedFd) {
    let size = Winsize { ws_row: 41, ws_col: 123, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master: emulator, slave: terminal } = openpty(&size, None).unwrap();
    set_nonblocking(emulator.as_fd()).unwrap();
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let input = terminal.try_clone().unwrap();
    let output = terminal.try_clone().unwrap();
    let rung = Terminal::open(input, output, master, passing).unwrap();
    (Person { emulator, terminal, seen: Vec::new() }, rung, slave)
}

impl Person {
    fn types(&self, text: &[u8]) {
        assert_eq!(nix::unistd::write(&self.emulator, text), Ok(text.len()));
    }

    fn look(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = read(self.emulator.as_fd(), &mut buffer) {
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    fn mode(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    #[track_caller]
    fn waits_for(&mut self, terminal: &mut Terminal, text: &str) {
        let start = Instant::now();
        let has = |seen: &[u8]| seen.windows(text.len()).any(|it| it == text.as_bytes());
        while !has(&self.seen) {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            assert!(start.elapsed() < DEADLINE, "`{text}` never came: {seen:?}");
            let mut wait: Vec<PollFd<'_>> = terminal.interest().collect();
            wait.push(PollFd::new(self.emulator.as_fd(), PollFlags::POLLIN));
            poll(&mut wait, PollTimeout::from(1_000_u16)).unwrap();
            terminal.ready().unwrap();
            self.look();
        }
    }
}

/// A command whose terminal is `slave`, which controls its session.
fn command(slave: OwnedFd, program: &[&str]) -> Child {
    // What runs the tests may have been started with these ignored, and a shell keeps that for ever.
    Command::new("env")
        .args(["--default-signal=INT,QUIT", "setsid", "--ctty", "--wait"])
        .args(program)
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[track_caller]
fn check_same(a: &Termios, b: &Termios) {
    assert_eq!(a.input_flags, b.input_flags);
    assert_eq!(a.output_flags, b.output_flags);
    assert_eq!(a.control_flags, b.control_flags);
    assert_eq!(a.local_flags, b.local_flags);
    assert_eq!(a.control_chars, b.control_chars);
}

#[test]
fn the_users_terminal_is_raw_for_the_run_and_usual_after_every_way_out() {
    type Leave = fn(Terminal);
    let ways: [(&str, Leave); 3] = [
        ("finish", |terminal| drop(terminal.finish().unwrap())),
        ("drop", drop),
        ("restore", |mut terminal| {
            terminal.restore().unwrap();
            terminal.restore().unwrap();
        }),
    ];
    for (way, leave) in ways {
        let (person, terminal, _slave) = scene(Passing::Filtered);
        let usual = terminal.usual.clone();
        let raw = person.mode();
        assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO), "{way}");
        assert!(!raw.local_flags.contains(LocalFlags::ISIG), "{way}");
        assert!(!raw.output_flags.contains(OutputFlags::OPOST), "{way}");
        assert!(!raw.input_flags.contains(InputFlags::IXON), "{way}");
        leave(terminal);
        check_same(&person.mode(), &usual);
        assert!(usual.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO), "{way}");
    }
}

#[test]
fn a_suspended_run_leaves_the_terminal_usual_and_takes_it_again_as_it_is_then() {
    let (person, mut terminal, _slave) = scene(Passing::Filtered);
    terminal.suspend().unwrap();
    let mut mode = person.mode();
    assert!(mode.local_flags.contains(LocalFlags::ECHO));
    // The shell has other ideas in the meantime.
    mode.local_flags.remove(LocalFlags::ECHOK);
    tcsetattr(&person.terminal, SetArg::TCSANOW, &mode).unwrap();
    terminal.resume().unwrap();
    assert!(!person.mode().local_flags.contains(LocalFlags::ECHO));
    drop(terminal);
    check_same(&person.mode(), &mode);
}

#[test]
fn the_callers_description_stays_blocking() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (person, _terminal, _slave) = scene(Passing::Filtered);
    let flags = OFlag::from_bits_retain(fcntl(&person.terminal, FcntlArg::F_GETFL).unwrap());
    assert!(!flags.contains(OFlag::O_NONBLOCK));
}

#[test]
fn the_command_sees_the_size_of_the_users_terminal_and_its_changes() {
    let (mut person, mut terminal, slave) = scene(Passing::Filtered);
    let told = "trap 'stty size; exit' WINCH; stty size; cat";
    let child = command(slave, &["sh", "-c", told]);
    person.waits_for(&mut terminal, "41 123\r\n");
    let size = Winsize { ws_row: 30, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    kernel::set_window_size(person.emulator.as_fd(), &size).unwrap();
    terminal.resize().unwrap();
    // `trap` is served when `cat` has ended.
    person.types(b"\x04");
    person.waits_for(&mut terminal, "30 99\r\n");
    end(child);
}

#[test]
fn what_is_typed_reaches_the_command_and_what_it_prints_comes_back() {
    let (mut person, mut terminal, slave) = scene(Passing::Filtered);
    let child = command(slave, &["sh", "-c", "read name; echo \"hello, $name\""]);
    person.types(b"world\r");
    // The echo is the inner line discipline's, and so is the carriage return.
    person.waits_for(&mut terminal, "world\r\nhello, world\r\n");
    end(child);
}

#[test]
fn control_c_is_a_signal_inside_and_nothing_outside() {
    let (mut person, mut terminal, slave) = scene(Passing::Filtered);
    // Who says `on` dies of the signal whenever it comes; then the shell serves its trap.
    // The last word keeps the shell from becoming the inner one, which has no trap.
    let told = "trap 'echo caught; exit' INT; sh -c 'echo on; exec cat'; :";
    let child = command(slave, &["sh", "-c", told]);
    person.waits_for(&mut terminal, "on\r\n");
    person.types(b"\x03");
    person.waits_for(&mut terminal, "caught\r\n");
    end(child);
}

#[test]
fn job_control_works_inside() {
    let (mut person, mut terminal, slave) = scene(Passing::Filtered);
    let child = command(slave, &["bash", "--norc", "--noprofile", "-i"]);
    person.types(b"PS1='re''ady> '\r");
    person.waits_for(&mut terminal, "ready> ");
    // The job says when it has the terminal: what is typed before belongs to the shell.
    let job =
        "trap 'echo ag''ain' CONT; echo r''unning; while :; do read it && echo got \\$it; done";
    person.types(format!("sh -c \"{job}\"\r").as_bytes());
    person.waits_for(&mut terminal, "running\r\n");
    person.types(b"\x1a");
    person.waits_for(&mut terminal, "Stopped");
    person.types(b"fg\r");
    person.waits_for(&mut terminal, "again\r\n");
    person.types(b"word\r");
    person.waits_for(&mut terminal, "got word\r\n");
    end(child);
}

#[test]
fn the_filter_stands_between_unless_raw_is_asked_for() {
    let printed = b"a\x1b]52;c;AAAA\x07b\x1b[1mc";
    for (passing, seen, removed) in [
        (Passing::Filtered, b"ab\x1b[1mc\x1b[0;10m".as_slice(), 1),
        (Passing::Raw, printed.as_slice(), 0),
    ] {
        let (mut person, terminal, slave) = scene(passing);
        let mut slave = std::fs::File::from(slave);
        slave.write_all(printed).unwrap();
        let counts = terminal.finish().unwrap();
        person.look();
        assert_eq!(person.seen.escape_ascii().to_string(), seen.escape_ascii().to_string());
        assert_eq!(counts.total(), removed);
    }
}

#[test]
fn the_end_does_not_wait_for_a_process_that_keeps_the_terminal_open() {
    let (mut person, terminal, slave) = scene(Passing::Filtered);
    let mut kept = std::fs::File::from(slave);
    kept.write_all(b"last words").unwrap();
    terminal.finish().unwrap();
    person.look();
    assert_eq!(person.seen, b"last words");
}

#[test]
fn a_terminal_that_takes_nothing_slows_the_command_down() {
    let (_person, mut terminal, slave) = scene(Passing::Filtered);
    let child = command(slave, &["yes", "backpressure"]);
    let start = Instant::now();
    while terminal.wants_output() {
        assert!(start.elapsed() < DEADLINE, "the command was never held back");
        let mut wait: Vec<PollFd<'_>> = terminal.interest().collect();
        poll(&mut wait, PollTimeout::from(1_000_u16)).unwrap();
        terminal.ready().unwrap();
    }
    for _ in 0..100 {
        terminal.ready().unwrap();
    }
    assert!(terminal.printed.len() <= WAITING_BYTES_MAX + READ_BYTES_MAX);
    let reading = PollFlags::POLLIN;
    let inside = terminal.interest().filter(|it| it.events().contains(reading)).count();
    assert_eq!(inside, 1, "only what the user types is waited for");
    end(child);
}

#[test]
fn a_hung_up_terminal_is_not_polled_again_and_again() {
    let (mut person, mut terminal, slave) = scene(Passing::Filtered);
    std::fs::File::from(slave).write_all(b"gone").unwrap();
    person.waits_for(&mut terminal, "gone");
    // Another test's child may have inherited the other side for a moment.
    let start = Instant::now();
    while terminal.interest().count() > 1 {
        assert!(start.elapsed() < DEADLINE, "the hang-up is never noticed");
        let mut wait: Vec<PollFd<'_>> = terminal.interest().collect();
        poll(&mut wait, PollTimeout::from(1_000_u16)).unwrap();
        terminal.ready().unwrap();
    }
}

#[test]
fn when_the_user_goes_the_command_is_still_read() {
    let (person, mut terminal, slave) = scene(Passing::Filtered);
    drop(person);
    // Another test's child may have inherited the other side for a moment.
    let start = Instant::now();
    while !terminal.user_is_gone() {
        assert!(start.elapsed() < DEADLINE, "that the user is gone is never noticed");
        terminal.ready().unwrap();
    }
    let mut slave = std::fs::File::from(slave);
    for _ in 0..100 {
        slave.write_all(&[b'x'; 1024]).unwrap();
        terminal.ready().unwrap();
    }
    terminal.finish().unwrap();
}

#[test]
fn what_is_no_terminal_is_refused() {
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let master = openpty(None, None).unwrap().master;
    let error = Terminal::open(null(), null(), master, Passing::Filtered).unwrap_err();
    assert!(matches!(error, TerminalError::Mode(Errno::ENOTTY)), "{error:?}");
}
