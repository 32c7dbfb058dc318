//! Real pipes: what is passed, what is kept, what is left out, and who blocks.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollTimeout, poll};
use nix::unistd::pipe2;

use super::*;
use crate::plan::WhenFull::{KeepHeadAndTail, Stop};

const DEADLINE: Duration = Duration::from_secs(20);

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC).unwrap()
}

/// One stream: what the command writes to, what the relay holds, what the caller reads.
fn stream() -> (File, Ends, File) {
    let (source, command) = pipe();
    let (caller, sink) = pipe();
    (command.into(), Ends::new(source, sink, false), caller.into())
}

fn turn(relay: &mut Relay) {
    let mut wait: Vec<PollFd<'_>> = relay.interest().collect();
    poll(&mut wait, PollTimeout::from(1_000_u16)).unwrap();
    relay.ready().unwrap();
}

/// All that the relay passes on before it lets go of `caller`.
fn text(mut caller: File) -> String {
    let mut text = String::new();
    caller.read_to_string(&mut text).unwrap();
    text
}

/// What the caller gets of `printed` on one stream.
#[track_caller]
fn check(max: u64, when_full: WhenFull, printed: &str, expected: &str, is_full: bool) {
    let (mut command, ends, caller) = stream();
    let mut relay = Relay::open(Bytes(max), when_full, ends, None).unwrap();
    for chunk in printed.as_bytes().chunks(3) {
        command.write_all(chunk).unwrap();
        relay.ready().unwrap();
    }
    drop(command);
    relay.end().unwrap();
    assert!(relay.is_done());
    assert_eq!(relay.report().is_full, is_full);
    drop(relay);
    assert_eq!(text(caller), expected);
}

#[test]
fn what_is_within_the_limit_passes_as_it_is() {
    for when_full in [KeepHeadAndTail, Stop] {
        check(10, when_full, "", "", false);
        check(10, when_full, "123456789", "123456789", false);
        check(10, when_full, "1234567890", "1234567890", false);
    }
}

#[test]
fn beyond_it_the_gap_is_named_where_it_is() {
    let rung = |count| format!("rung: {count} bytes of output left out here\n");
    check(10, KeepHeadAndTail, "12345abcde67890", &format!("12345\n{}67890", rung(5)), false);
    check(10, KeepHeadAndTail, "1234\nabcde67890", &format!("1234\n{}67890", rung(5)), false);
    check(1, KeepHeadAndTail, "abc", &format!("a\n{}", rung(2)), false);
    check(0, KeepHeadAndTail, "abc", &rung(3), false);
}

#[test]
fn the_other_policy_passes_the_limit_to_the_byte_and_says_so() {
    check(10, Stop, "12345678901", "1234567890", true);
    check(0, Stop, "1", "", true);
}

#[test]
fn the_words_about_a_gap_stay_out_of_standard_output() {
    let (mut command_output, output, caller_output) = stream();
    let (mut command_error, error, caller_error) = stream();
    let mut relay = Relay::open(Bytes(8), KeepHeadAndTail, output, Some(error)).unwrap();
    command_error.write_all(b"e").unwrap();
    relay.ready().unwrap();
    command_output.write_all(b"123abcd").unwrap();
    relay.ready().unwrap();
    command_error.write_all(b"EE").unwrap();
    relay.ready().unwrap();
    relay.end().unwrap();
    let relayed = relay.report();
    drop(relay);
    assert_eq!(text(caller_output), "123cd");
    assert_eq!(text(caller_error), "e\nrung: 2 bytes of output left out here\nEE");
    assert_eq!(relayed, Relayed { passed: Bytes(8), left_out: Bytes(2), is_full: false });
}

#[test]
fn two_streams_into_one_place_end_in_the_order_in_which_they_came() {
    let (mut command_output, output, caller) = stream();
    let (source, command_error) = pipe();
    let mut command_error = File::from(command_error);
    let sink = output.sink.try_clone().unwrap();
    assert!(is_one_place(output.sink.as_fd(), sink.as_fd()).unwrap());
    assert!(!is_one_place(output.sink.as_fd(), source.as_fd()).unwrap());
    let error = Ends::new(source, sink, false);
    let mut relay = Relay::open(Bytes(20), KeepHeadAndTail, output, Some(error)).unwrap();
    for round in 0..10 {
        write!(command_output, "o{round}").unwrap();
        relay.ready().unwrap();
        write!(command_error, "e{round}").unwrap();
        relay.ready().unwrap();
    }
    relay.end().unwrap();
    drop(relay);
    let gap = "\nrung: 20 bytes of output left out here\n";
    assert_eq!(text(caller), format!("o0e0o1e1o2{gap}e7o8e8o9e9"));
}

#[test]
fn a_slow_reader_slows_the_command_down_and_gets_everything() {
    let (mut command, ends, mut caller) = stream();
    let mut relay = Relay::open(Bytes(64 << 20), KeepHeadAndTail, ends, None).unwrap();
    let sent: Vec<u8> = (0..2_u32 << 20).map(|it| it.to_le_bytes()[1]).collect();
    set_nonblocking(command.as_fd()).unwrap();
    let mut left = sent.as_slice();
    let start = Instant::now();
    // Until nobody takes anything any more: caller's pipe, relay and command's pipe are full.
    while relay.wants(&relay.output) {
        assert!(start.elapsed() < DEADLINE, "the command was never held back");
        left = &left[command.write(left).unwrap_or(0)..];
        relay.ready().unwrap();
    }
    assert!(relay.output.waiting.len() <= WAITING_BYTES_MAX + READ_BYTES_MAX);
    assert!(left.len() > sent.len() / 2);
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    set_nonblocking(caller.as_fd()).unwrap();
    while received.len() < sent.len() {
        assert!(start.elapsed() < DEADLINE, "something is missing");
        left = &left[command.write(left).unwrap_or(0)..];
        relay.ready().unwrap();
        let count = caller.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(received, sent);
}

#[test]
fn after_the_end_a_slow_reader_still_gets_the_tail() {
    let (mut command, ends, mut caller) = stream();
    let mut relay = Relay::open(Bytes(1 << 20), KeepHeadAndTail, ends, None).unwrap();
    let block = [b'x'; 8 << 10];
    set_nonblocking(caller.as_fd()).unwrap();
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..256 {
        command.write_all(&block).unwrap();
        while relay.ready().is_ok()
            && let Ok(count @ 1..) = caller.read(&mut buffer)
        {
            received.extend_from_slice(&buffer[..count]);
        }
    }
    command.write_all(b"the end").unwrap();
    relay.end().unwrap();
    assert!(!relay.is_done(), "a pipe does not hold it all");
    let start = Instant::now();
    while !relay.is_done() {
        assert!(start.elapsed() < DEADLINE, "the tail is never passed");
        relay.ready().unwrap();
        let count = caller.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..count]);
    }
    drop(relay);
    while let Ok(count @ 1..) = caller.read(&mut buffer) {
        received.extend_from_slice(&buffer[..count]);
    }
    let gap = format!("\nrung: {} bytes of output left out here\n", (1 << 20) + 7);
    assert_eq!(received.len(), (1 << 20) + gap.len());
    assert!(received.ends_with(b"xxthe end"));
    let said = received.windows(gap.len()).position(|it| it == gap.as_bytes());
    assert_eq!(said, Some(1 << 19));
}

#[test]
fn an_endless_writer_is_held_at_the_limit() {
    let (source, command) = pipe();
    let (caller, sink) = pipe();
    let mut child = Command::new("yes").stdin(Stdio::null()).stdout(command).spawn().unwrap();
    let mut relay = Relay::open(Bytes(10_000), Stop, Ends::new(source, sink, false), None).unwrap();
    let start = Instant::now();
    while !relay.is_full() {
        assert!(start.elapsed() < DEADLINE, "the limit never fired");
        turn(&mut relay);
    }
    assert_eq!(relay.interest().count(), 0, "nothing is read any more");
    child.kill().unwrap();
    child.wait().unwrap();
    relay.end().unwrap();
    assert!(relay.is_done());
    drop(relay);
    assert_eq!(text(caller.into()), "y\n".repeat(5_000));
}

#[test]
fn when_the_reader_goes_the_command_gets_a_broken_pipe() {
    let (mut command, ends, caller) = stream();
    let mut relay = Relay::open(Bytes(1000), KeepHeadAndTail, ends, None).unwrap();
    drop(caller);
    command.write_all(b"to nobody").unwrap();
    relay.ready().unwrap();
    let error = command.write_all(b"again").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    relay.end().unwrap();
    assert!(relay.is_done());
}

#[test]
fn the_end_does_not_wait_for_a_process_that_keeps_the_pipe_open() {
    let (mut kept, ends, caller) = stream();
    let mut relay = Relay::open(Bytes(1000), KeepHeadAndTail, ends, None).unwrap();
    kept.write_all(b"last words").unwrap();
    relay.end().unwrap();
    assert!(relay.is_done());
    drop(relay);
    assert_eq!(text(caller), "last words");
}
