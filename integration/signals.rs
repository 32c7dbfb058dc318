//! Signals to rung: the command gets them, and only the command.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::{PATIENCE, Place, within};

#[test]
fn a_signal_to_rung_reaches_the_command() {
    let place = Place::new();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ] {
        let number = (signal as i32).to_string();
        let mut run = place.rung(1).probe(&["expect", &number]).start();
        run.wait_for_line("ready");
        run.signal(signal);
        run.end(&place).exited(0).recorded();
    }
}

#[test]
fn a_command_that_a_signal_ends_is_told_as_such() {
    let place = Place::new();
    let mut run = place.rung(1).probe(&["wait"]).start();
    run.wait_for_line("ready");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(&place).code(), 128 + 15);
}

#[test]
fn a_signal_of_the_callers_to_its_whole_group_arrives_once() {
    let place = Place::new();
    // A second SIGINT would not be taken by anybody and end the probe.
    let mut run = place.rung(1).probe(&["expect", "2", "15"]);
    std::os::unix::process::CommandExt::process_group(&mut run.command, 0);
    let mut run = run.start();
    run.wait_for_line("ready");
    nix::sys::signal::killpg(run.pid(), Signal::SIGINT).unwrap();
    run.wait_for_line("signal 2");
    nix::sys::signal::killpg(run.pid(), Signal::SIGTERM).unwrap();
    run.end(&place).exited(0);
}

#[test]
fn stopping_rung_stops_the_command_and_continuing_continues_it() {
    let place = Place::new();
    let mut run = place.rung(1).probe(&["expect", "20", "18"]).start();
    run.wait_for_line("ready");
    run.signal(Signal::SIGTSTP);
    run.wait_for_line("signal 20");
    within(PATIENCE, "rung stops as well", || state(run.pid()) == 'T');
    run.signal(Signal::SIGCONT);
    run.end(&place).exited(0);
}

/// The letter after the name in `/proc/PID/stat` (proc(5)).
fn state(pid: Pid) -> char {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text.rsplit(')').next().unwrap().trim_start().chars().next().unwrap()
}
