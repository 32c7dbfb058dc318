//! Programs: starting what nobody granted.

use std::fs;
use std::os::unix::fs::symlink;

#[cfg(target_arch = "x86_64")]
use crate::attempt::KILLED_BY_FILTER;
use crate::attempt::{Attempt, EACCES, ENOSYS, EPERM, attempts};
use crate::harness::{Place, make_program, put};

/// Levels at which nothing of the workspace and of /tmp may be started.
const WITHOUT_PROGRAMS: &[u8] = &[1, 2];

fn tool(place: &Place) {
    fs::copy("/bin/true", place.workspace.join("tool")).unwrap();
    put(&place.workspace.join("script"), "#!/bin/true\n");
    make_program(&place.workspace.join("script"));
    symlink("/lib64/ld-linux-x86-64.so.2", place.workspace.join("loader")).unwrap();
}

attempts! {
    a_program_of_the_workspace_does_not_start: Attempt::new("X01", "do execve s:./tool v:tool 0", &[EACCES]).after(tool).at(WITHOUT_PROGRAMS);
    a_script_of_the_workspace_does_not_start: Attempt::new("X01b", "do execve s:./script v:script 0", &[EACCES]).after(tool).at(WITHOUT_PROGRAMS);
    the_loader_does_not_map_a_program_of_the_workspace: Attempt::new("X02", "do execve s:./loader v:loader|./tool 0", &[EACCES]).after(tool);
    a_program_of_the_workspace_cannot_be_mapped: Attempt::new("X02b", "do openat -100 s:tool 0 , mmap 0 4096 5 2 %1 0", &[EPERM]).after(tool).at(WITHOUT_PROGRAMS);
    a_file_without_a_name_does_not_start: Attempt::new("X03", "do memfd_create s:x 0 , write %1 s:#!/bin/true 11 , execveat %1 s: v:x 0 0x1000", &[ENOSYS]);
    a_file_without_a_name_does_not_start_by_its_number: Attempt::new("X03b", "do memfd_create s:x 0 , write %1 s:#!/bin/true 11 , openat -100 s:/proc/self/fd/3 0 , close %1 , execve s:/proc/self/fd/4 v:x 0", &[ENOSYS]).at(WITHOUT_PROGRAMS);
    a_file_without_a_name_does_not_start_where_programs_of_the_workspace_may: Attempt::new("X03c", "do memfd_create s:x 0 , write %1 s:#!/bin/true 11 , openat -100 s:/proc/self/fd/3 0 , close %1 , execve s:/proc/self/fd/4 v:x 0", &[EACCES]).at(&[3]);
    an_unlinked_program_does_not_start_where_programs_of_the_workspace_may: Attempt::new("X04e", "do openat -100 s:tool 0 , unlinkat -100 s:tool 0 , execve s:/proc/self/fd/3 v:x 0", &[EACCES]).after(tool).at(&[3]);
    a_program_written_to_tmp_does_not_start: Attempt::new("X04", "do openat -100 s:/tmp/x 0x41 0o700 , write %1 s:#!/bin/true 11 , close %1 , execve s:/tmp/x v:x 0 , unlinkat -100 s:/tmp/x 0", &[EACCES]).at(WITHOUT_PROGRAMS)
        .without_control("/tmp outside is everybody's");
    a_program_written_to_shared_memory_does_not_start: Attempt::new("X04b", "do openat -100 s:/dev/shm/x 0x41 0o700 , write %1 s:#!/bin/true 11 , close %1 , execve s:/dev/shm/x v:x 0", &[EACCES])
        .without_control("/dev/shm outside is everybody's");
    a_program_written_to_the_home_does_not_start: Attempt::new("X04c", "do openat -100 s:{home}/x 0x41 0o700 , write %1 s:#!/bin/true 11 , close %1 , execve s:{home}/x v:x 0", &[EACCES]).at(WITHOUT_PROGRAMS);
    an_unlinked_program_does_not_start: Attempt::new("X04d", "do openat -100 s:tool 0 , unlinkat -100 s:tool 0 , execve s:/proc/self/fd/3 v:x 0", &[EACCES, libc::EROFS]).after(tool).at(WITHOUT_PROGRAMS);
    a_descendant_does_not_start_an_unlisted_program_of_the_system: Attempt::new("X10", "do execve s:/usr/bin/unshare v:unshare|--help 0", &[EACCES]);
    a_variable_does_not_bring_code_into_an_allowed_program: Attempt::new("X08", "do execve s:/usr/bin/true v:true v:LD_PRELOAD=./evil.so", &[EACCES]);
    another_first_word_does_not_make_another_program: Attempt::new("X09", "do execve s:/usr/bin/true v:ls 0", &[EACCES]);
    memory_becomes_code: Attempt::new("X15", "do mmap 0 4096 7 0x22 -1 0", &[])
        .residual("runtimes that compile while they run need it; the sandbox holds what the code does");
    a_program_that_makes_namespaces_does_not_start: Attempt::new("X16", "do execve s:/usr/bin/unshare v:unshare|-r|true v:PATH=/usr/bin", &[EACCES]);
    nobody_becomes_root: Attempt::new("X17", "do setuid 0", &[EPERM, libc::EINVAL]).as_root();
    nobody_becomes_another_user: Attempt::new("X17b", "do setuid 1", &[EPERM, libc::EINVAL]).without_control("only root may, outside");
    nobody_gets_another_group: Attempt::new("X17c", "do setgroups 1 z:4", &[EPERM]).without_control("only root may, outside");
}

/// Ways into the kernel that only this architecture has.
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::*;

    attempts! {
        the_loader_does_not_load_a_program_of_the_system: Attempt::new("X02c", "do execve s:/lib64/ld-linux-x86-64.so.2 v:ld-linux-x86-64.so.2|/usr/bin/true 0", &[EACCES]);
        the_32_bit_way_into_the_kernel_kills: Attempt::new("X12", "interrupt 39 {work}/made", &[KILLED_BY_FILTER]);
        the_x32_way_into_the_kernel_is_not_there: Attempt::new("X12b", "do #0x40000208 s:/bin/true v:true 0", &[ENOSYS]).without_control("few kernels have it");
        no_file_without_a_name_is_made_with_a_set_group_bit: Attempt::new("F24e", "do openat -100 s:. 0x410002 0o2755", &[EPERM]);
        no_segment_can_be_made: Attempt::new("N17", "do #154 0 z:64 64", &[ENOSYS, EPERM]);
        no_port_can_be_opened: Attempt::new("N17b", "do #172 0", &[EPERM, ENOSYS]).without_control("kernels differ");
        no_port_range_can_be_opened: Attempt::new("N17c", "do #173 0 0 0", &[EPERM, ENOSYS]).without_control("kernels differ");
    }
}
