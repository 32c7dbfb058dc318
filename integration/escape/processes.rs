//! Processes: signalling, tracing and outliving.

use crate::attempt::{Attempt, EACCES, ENOENT, EPERM, attempts};

const ESRCH: i32 = libc::ESRCH;
const BY_USR1: i32 = 128 + libc::SIGUSR1;
const BY_KILL: i32 = 128 + libc::SIGKILL;
const OTHERS: &str = "it would continue what other tests have stopped";

attempts! {
    nobody_outside_can_be_killed_with_everybody: Attempt::new("P01", "do kill -1 18", &[ESRCH]).without_control(OTHERS);
    the_callers_group_gets_no_signal: Attempt::new("P02", "do kill 0 10", &[BY_USR1]).signals_sibling();
    the_callers_group_is_not_killed: Attempt::new("P02b", "do kill 0 9", &[BY_KILL]).signals_sibling();
    no_process_number_of_the_host_means_anything: Attempt::new("P05", "signal-all 18", &[ESRCH]).without_control(OTHERS);
    a_process_of_the_host_gets_no_signal: Attempt::new("P05b", "do kill {sibling} 10", &[ESRCH]).signals_sibling();
    a_thread_of_the_host_gets_no_signal: Attempt::new("P05c", "do tgkill {sibling} {sibling} 10", &[ESRCH]).signals_sibling();
    a_process_of_the_host_cannot_be_held: Attempt::new("P05d", "do pidfd_open {sibling} 0 , pidfd_send_signal %1 10 0 0", &[ESRCH, libc::EINVAL]).signals_sibling();
    the_environment_of_a_process_is_not_in_the_view: Attempt::new("P05e", "read /proc/{sibling}/environ", &[ENOENT]);
    a_process_of_the_host_cannot_be_traced: Attempt::new("P06", "do ptrace 0x4206 {sibling} 0 0", &[EPERM]);
    init_cannot_be_traced: Attempt::new("P06b", "do ptrace 0x4206 1 0 0", &[EPERM]).without_control("process 1 is somebody else's outside as well");
    no_descriptor_can_be_taken_from_init: Attempt::new("P06c", "do pidfd_open 1 0 , pidfd_getfd %1 0 0", &[EPERM]).without_control("process 1 is somebody else's outside as well");
    no_descriptor_can_be_taken_from_another: Attempt::new("P06d", "do pidfd_getfd -1 0 0", &[EPERM]).outside_answers(&[libc::EBADF]);
    memory_of_another_cannot_be_read: Attempt::new("P06e", "do process_vm_readv {sibling} 0 0 0 0 0", &[EPERM]);
    memory_of_another_cannot_be_written: Attempt::new("P06f", "do process_vm_writev {sibling} 0 0 0 0 0", &[EPERM]);
    processes_cannot_be_compared: Attempt::new("P06g", "do kcmp {sibling} {sibling} 0 0 0", &[EPERM]);
    the_program_of_init_cannot_be_found: Attempt::new("P06h", "do readlinkat -100 s:/proc/1/exe z:64 64", &[EACCES, EPERM]).without_control("process 1 is somebody else's outside as well");
    the_environment_of_init_cannot_be_read: Attempt::new("P06i", "read /proc/1/environ", &[EACCES, EPERM]).without_control("process 1 is somebody else's outside as well");
    init_cannot_be_killed: Attempt::new("P06j", "do ?kill 1 9 , openat -100 s:{out} 0", &[ENOENT]).without_control("process 1 is somebody else's outside as well");
    nobody_makes_init_a_tracer: Attempt::new("P07", "do ptrace 0 0 0 0", &[EPERM]);
    nobody_runs_before_the_others: Attempt::new("P23", "do sched_setscheduler 0 1 h:63000000", &[EPERM]).without_control("only root may, outside");
}
