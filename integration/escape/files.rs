//! Files: reading, writing and mounting past the view.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::attempt::{
    Attempt, EACCES, EBUSY, ENOENT, ENOSYS, EPERM, EROFS, EXDEV, NO_EFFECT, attempts,
};
use crate::harness::Place;

/// A readable secret in a place that every user may enter, as `/home` and `/srv` often have.
fn world_readable_secret(place: &Place) {
    let path = place.outside.join("secret");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn link_to_root(place: &Place) {
    symlink("/", place.workspace.join("root")).unwrap();
}

attempts! {
    a_private_key_is_not_in_the_view: Attempt::new("F01", "read {home}/.ssh/id_ed25519", &[ENOENT]);
    cloud_credentials_are_not_in_the_view: Attempt::new("F01b", "read {home}/.aws/credentials", &[ENOENT]);
    the_password_file_of_the_network_is_not_in_the_view: Attempt::new("F01c", "read {home}/.netrc", &[ENOENT]);
    a_token_of_the_package_manager_is_not_in_the_view: Attempt::new("F01d", "read {home}/.npmrc", &[ENOENT]);
    a_forge_token_is_not_in_the_view: Attempt::new("F01e", "read {home}/.config/gh/hosts.yml", &[ENOENT]);
    the_toolchains_credentials_are_not_in_the_view: Attempt::new("F01f", "read {home}/.cargo/credentials.toml", &[ENOENT, EACCES]);
    the_shell_history_is_not_in_the_view: Attempt::new("F01g", "read {home}/.bash_history", &[ENOENT]);
    a_signing_key_is_not_in_the_view: Attempt::new("F01h", "read {home}/.gnupg/private-keys-v1.d/key", &[ENOENT]);
    what_lies_beside_the_workspace_is_not_in_the_view: Attempt::new("F02", "read {out}/secret", &[ENOENT]).after(world_readable_secret);
    the_home_is_empty: Attempt::new("F02b", "list {home}", &[NO_EFFECT]).at(&[1, 2]);
    mounted_media_are_not_in_the_view: Attempt::new("F02c", "do openat -100 s:/mnt 0", &[ENOENT]);
    the_hosts_run_directory_is_empty: Attempt::new("F02d", "list /run", &[NO_EFFECT]);
    logs_and_databases_are_not_in_the_view: Attempt::new("F02e", "list /var/lib", &[ENOENT]);
    the_root_user_has_no_home_here: Attempt::new("F02f", "do openat -100 s:/root 0x200000", &[ENOENT]);
    the_parents_of_the_workspace_show_nothing_else: Attempt::new("F02g", "do openat -100 s:{out} 0", &[ENOENT]);
    the_roots_of_other_processes_lead_nowhere: Attempt::new("F03", "read /proc/1/root/etc/passwd", &[EACCES, EPERM]).without_control("process 1 is somebody else's outside as well");
    the_directory_of_the_init_process_is_closed: Attempt::new("F03b", "list /proc/1/cwd", &[EACCES, EPERM]).without_control("process 1 is somebody else's outside as well");
    rungs_own_records_are_not_in_the_view: Attempt::new("F03c", "do openat -100 s:{home}/../state 0", &[ENOENT]);
    rungs_own_profiles_are_not_in_the_view: Attempt::new("F03d", "do openat -100 s:{home}/.config 0", &[ENOENT]);
    a_link_to_the_root_resolves_inside: Attempt::new("F07", "read {work}/root/{out}/secret", &[ENOENT]).after(link_to_root);
    a_link_does_not_lead_a_write_outside: Attempt::new("F07b", "write {work}/root/{out}/new x", &[ENOENT]).after(link_to_root).changes_outside();
    a_protected_directory_cannot_be_renamed_from_above: Attempt::new("F09", "do renameat2 -100 s:.git -100 s:.g 0", &[EBUSY, EROFS, EACCES]);
    a_protected_directory_cannot_be_renamed: Attempt::new("F09b", "do renameat2 -100 s:.git/hooks -100 s:.git/h 0", &[EBUSY, EROFS, EACCES]);
    a_protected_directory_cannot_be_exchanged_from_above: Attempt::new("F10", "do renameat2 -100 s:.git -100 s:src 2", &[EBUSY, EROFS, EACCES]);
    a_protected_directory_cannot_be_exchanged: Attempt::new("F10b", "do renameat2 -100 s:.git/hooks -100 s:src 2", &[EBUSY, EROFS, EACCES, EXDEV]);
    the_workspace_cannot_be_renamed: Attempt::new("F10c", "do renameat2 -100 s:{work} -100 s:{work}.old 0", &[EBUSY, EROFS, EACCES, ENOENT, EXDEV]);
    a_protected_file_cannot_be_linked_to: Attempt::new("F11", "do linkat -100 s:.git/hooks/pre-commit -100 s:y 0", &[EXDEV, EROFS, EACCES, EPERM]);
    a_protected_file_cannot_be_replaced: Attempt::new("F11b", "do renameat2 -100 s:README.md -100 s:.git/config 0", &[EBUSY, EROFS, EACCES, EXDEV]);
    a_hook_cannot_be_written: Attempt::new("F12", "write .git/hooks/pre-commit x", &[EROFS, EACCES]);
    a_hook_cannot_be_added: Attempt::new("F12b", "write .git/hooks/post-checkout x", &[EROFS, EACCES]);
    the_settings_of_the_checkout_cannot_be_written: Attempt::new("F12c", "write .git/config x", &[EROFS, EACCES]);
    the_editors_settings_cannot_be_written: Attempt::new("F12d", "write .vscode/settings.json x", &[EROFS, EACCES]);
    a_hook_cannot_be_made_by_another_spelling: Attempt::new("F14", "write {work}/src/../.git//hooks/./pre-push x", &[EROFS, EACCES]);
    a_hook_cannot_be_deleted: Attempt::new("F14b", "do unlinkat -100 s:.git/hooks/pre-commit 0", &[EROFS, EACCES]);
    a_hook_cannot_be_reached_through_another_name_of_the_process: Attempt::new("F14c", "write /proc/self/cwd/.git/hooks/pre-push x", &[EROFS, EACCES]);
    a_hook_cannot_be_made_writable_by_mode: Attempt::new("F14d", "do fchmodat -100 s:.git/hooks/pre-commit 0o777", &[EROFS]);
    a_mount_cannot_be_made_writable: Attempt::new("F15", "do mount s:none s:/ z:1 0x1020", &[EPERM]).as_root();
    the_mask_of_proc_cannot_be_taken_off: Attempt::new("F15b", "do umount2 s:/proc 2", &[EPERM]).without_control("it must not work outside");
    nothing_can_be_mounted_over_settings: Attempt::new("F16", "do mount s:none s:/mnt s:tmpfs 0 0", &[EPERM]).as_root();
    nothing_can_be_bound_over_settings: Attempt::new("F16b", "do mount s:/tmp s:/mnt z:1 0x1000 0", &[EPERM]).as_root();
    no_tree_can_be_cloned_off: Attempt::new("F17", "do open_tree -100 s:/usr 1", &[ENOSYS]).as_root();
    no_file_system_can_be_made: Attempt::new("F17b", "do fsopen s:tmpfs 0", &[ENOSYS]).as_root();
    no_mount_can_be_changed_by_the_new_calls: Attempt::new("F17c", "do mount_setattr -100 s:/ 0 z:32 32", &[ENOSYS]).as_root();
    a_race_with_a_link_reaches_nothing_outside: Attempt::new("F18", "flip d {out}", &[ENOENT, EACCES, EROFS]).changes_outside();
    a_file_handle_opens_nothing: Attempt::new("F19", "do open_by_handle_at -100 z:64 0", &[EPERM]).outside_answers(&[libc::EINVAL, EPERM, libc::EBADF]);
    the_memory_of_init_cannot_be_written: Attempt::new("F20", "do openat -100 s:/proc/1/mem 2", &[EACCES, EPERM, EROFS]).without_control("process 1 is somebody else's outside as well");
    a_system_file_cannot_be_truncated: Attempt::new("F21", "do openat -100 s:/usr/bin/env 1", &[EROFS, EACCES]).without_control("only root may, outside");
    a_system_file_cannot_be_opened_for_writing: Attempt::new("F21b", "do openat -100 s:/etc/passwd 1", &[EROFS, EACCES]).without_control("only root may, outside");
    the_mode_of_a_device_of_the_host_cannot_be_changed: Attempt::new("F23c", "do fchmodat -100 s:/dev/null 0o666", &[EROFS]).outside_answers(&[0, EPERM]);
    the_times_of_a_device_of_the_host_cannot_be_changed: Attempt::new("F23d", "do utimensat -100 s:/dev/null 0 0", &[EROFS]).outside_answers(&[0, EPERM]);
    a_socket_of_the_host_is_not_in_the_view: Attempt::new("F22", "do socket 1 1 0 , connect %1 un:{out}/canary.sock", &[ENOENT]).calls_host();
}
