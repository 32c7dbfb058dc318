//! Talking: sockets of the host and the network, of which there is none.

use crate::attempt::{Attempt, EACCES, ENOENT, EPERM, attempts};

const NO_FAMILY: i32 = libc::EAFNOSUPPORT;
const NO_PROTOCOL: i32 = libc::EPROTONOSUPPORT;
const UNREACHABLE: i32 = libc::ENETUNREACH;
const NOBODY: i32 = libc::ECONNREFUSED;
const NO_FLAG: i32 = libc::EOPNOTSUPP;
const NO_OPTION: i32 = libc::ENOPROTOOPT;
const AWAY: &str = "the test must not depend on a network";
const FAMILIES: &str = "kernels differ in what families they have";

attempts! {
    a_service_with_an_abstract_name_cannot_be_called: Attempt::new("I01", "do socket 1 1 0 , connect %1 un:@{abstract}", &[NOBODY, EPERM]).calls_host();
    a_service_beside_the_workspace_gets_no_message: Attempt::new("I02", "do socket 1 2 0 , sendto %1 s:x 1 0 un:{out}/datagram.sock", &[ENOENT]).calls_host();
    a_service_in_the_workspace_cannot_be_called: Attempt::new("I02b", "do socket 1 1 0 , connect %1 un:{work}/service.sock", &[EACCES, ENOENT, NOBODY]).calls_host()
        .residual("the workspace is shared as it is, and Landlock covers named sockets only from ABI 9 on");
    the_system_bus_is_not_in_the_view: Attempt::new("I02c", "do openat -100 s:/run/dbus 0x200000", &[ENOENT]).without_control("hosts differ");
    the_container_service_is_not_in_the_view: Attempt::new("I02d", "do socket 1 1 0 , connect %1 un:/var/run/docker.sock", &[ENOENT]).without_control("hosts differ");
    shared_memory_of_the_host_is_not_in_the_view: Attempt::new("I04", "list /dev/shm", &[crate::attempt::NO_EFFECT]).without_control("hosts differ");
    files_that_all_share_can_be_watched: Attempt::new("I12", "do inotify_init1 0 , inotify_add_watch %1 s:/usr 0xfff", &[])
        .residual("who may read a file may also see that it is used");
    files_that_all_share_can_be_locked: Attempt::new("F27", "do openat -100 s:/etc/passwd 0 , flock %1 6", &[])
        .residual("the kernel lets every reader lock, also through a read-only mount");
    a_service_of_the_host_cannot_be_called: Attempt::new("W04", "do socket 2 1 0 , connect %1 in:127.0.0.1:{tcp}", &[NO_FAMILY, NOBODY, EACCES]).calls_host();
    a_service_of_the_host_cannot_be_called_by_the_newer_protocol: Attempt::new("W04b", "do socket 10 1 0 , connect %1 in:[::1]:{tcp6}", &[NO_FAMILY, NOBODY, EACCES]).calls_host();
    a_service_of_the_host_cannot_be_called_by_a_mapped_address: Attempt::new("W02", "do socket 10 1 0 , connect %1 in:[::ffff:127.0.0.1]:{tcp}", &[NO_FAMILY, NOBODY, EACCES]).calls_host();
    a_service_of_the_host_cannot_be_called_by_the_zero_address: Attempt::new("W02b", "do socket 2 1 0 , connect %1 in:0.0.0.0:{tcp}", &[NO_FAMILY, NOBODY, EACCES]).calls_host();
    a_service_of_the_host_cannot_be_called_by_another_loopback_address: Attempt::new("W02c", "do socket 2 1 0 , connect %1 in:127.0.0.2:{tcp}", &[NO_FAMILY, NOBODY, EACCES]).without_control("it listens on one address");
    a_datagram_does_not_reach_the_host: Attempt::new("W10", "do socket 2 2 0 , sendto %1 s:x 1 0 in:127.0.0.1:{udp}", &[0, NO_FAMILY, EPERM, EACCES]).calls_host();
    another_machine_cannot_be_called: Attempt::new("W01", "do socket 2 1 0 , connect %1 in:192.0.2.1:80", &[NO_FAMILY, UNREACHABLE, EACCES]).without_control(AWAY);
    another_machine_cannot_be_called_by_the_newer_protocol: Attempt::new("W01b", "do socket 10 1 0 , connect %1 in:[2001:db8::1]:80", &[NO_FAMILY, UNREACHABLE, EACCES]).without_control(AWAY);
    the_metadata_service_cannot_be_called: Attempt::new("W03", "do socket 2 1 0 , connect %1 in:169.254.169.254:80", &[NO_FAMILY, UNREACHABLE, EACCES]).without_control(AWAY);
    no_name_can_be_asked_for: Attempt::new("W05", "do socket 2 2 0 , sendto %1 s:x 1 0 in:192.0.2.53:53", &[NO_FAMILY, UNREACHABLE, EACCES]).without_control(AWAY);
    the_neighbours_cannot_be_asked: Attempt::new("W05b", "do socket 2 2 0 , sendto %1 s:x 1 0 in:224.0.0.251:5353", &[NO_FAMILY, UNREACHABLE, EACCES]).without_control(AWAY);
    no_echo_can_be_sent: Attempt::new("W10b", "do socket 2 2 1", &[NO_FAMILY, NO_PROTOCOL]).outside_answers(&[0, EACCES]);
    no_packet_can_be_built_by_hand: Attempt::new("W11", "do socket 2 3 255", &[NO_FAMILY, NO_PROTOCOL]).as_root();
    no_frame_can_be_built_by_hand: Attempt::new("W11b", "do socket 17 3 0x300", &[NO_FAMILY]).as_root();
    the_firewall_cannot_be_asked: Attempt::new("W11c", "do socket 16 3 12", &[NO_FAMILY, NO_PROTOCOL]).without_control(FAMILIES);
    the_events_of_devices_cannot_be_heard: Attempt::new("W11d", "do socket 16 3 15", &[NO_FAMILY, NO_PROTOCOL]);
    the_audit_cannot_be_written_to: Attempt::new("W11e", "do socket 16 3 9", &[NO_FAMILY, NO_PROTOCOL]).without_control(FAMILIES);
    the_host_of_a_virtual_machine_cannot_be_called: Attempt::new("W12", "do socket 40 1 0", &[NO_FAMILY]).without_control(FAMILIES);
    the_kernels_ciphers_cannot_be_used: Attempt::new("W12b", "do socket 38 5 0", &[NO_FAMILY]).without_control(FAMILIES);
    bluetooth_cannot_be_used: Attempt::new("W12c", "do socket 31 3 1", &[NO_FAMILY]).without_control(FAMILIES);
    key_management_cannot_be_used: Attempt::new("W12d", "do socket 15 3 2", &[NO_FAMILY]).without_control(FAMILIES);
    reliable_datagrams_cannot_be_used: Attempt::new("W12e", "do socket 21 5 0", &[NO_FAMILY]).without_control(FAMILIES);
    cluster_sockets_cannot_be_used: Attempt::new("W12f", "do socket 30 2 0", &[NO_FAMILY]).without_control(FAMILIES);
    kernel_multiplexers_cannot_be_used: Attempt::new("W12g", "do socket 41 2 0", &[NO_FAMILY]).without_control(FAMILIES);
    shared_memory_connections_cannot_be_used: Attempt::new("W12h", "do socket 43 1 0", &[NO_FAMILY]).without_control(FAMILIES);
    the_bus_of_vehicles_cannot_be_used: Attempt::new("W12i", "do socket 29 3 1", &[NO_FAMILY]).without_control(FAMILIES);
    old_networks_cannot_be_used: Attempt::new("W12j", "do socket 9 5 0", &[NO_FAMILY]).without_control(FAMILIES);
    fast_packet_sockets_cannot_be_used: Attempt::new("W12k", "do socket 44 3 0", &[NO_FAMILY]).without_control(FAMILIES);
    a_family_that_does_not_exist_cannot_be_used: Attempt::new("W12l", "do socket 46 1 0", &[NO_FAMILY]).without_control(FAMILIES);
    a_family_cannot_be_named_by_high_bits: Attempt::new("W12m", "do socket 0x100000028 1 0", &[NO_FAMILY]).without_control(FAMILIES);
    nobody_connects_by_sending: Attempt::new("W13", "do socket 2 1 0 , sendto %1 s:x 1 0x20000000 in:127.0.0.1:{tcp}", &[NO_FAMILY, NO_FLAG]).calls_host();
    nobody_connects_by_sending_later: Attempt::new("W13b", "do socket 2 1 0 , setsockopt %1 6 30 h:01000000 4", &[NO_OPTION, NO_FAMILY]);
    nobody_connects_by_many_paths: Attempt::new("W13c", "do socket 2 1 262", &[NO_FAMILY, NO_PROTOCOL]).without_control(FAMILIES);
    nobody_connects_by_streams: Attempt::new("W13d", "do socket 2 1 132", &[NO_FAMILY, NO_PROTOCOL]).without_control(FAMILIES);
    nobody_sends_partly_checked_datagrams: Attempt::new("W13e", "do socket 2 2 136", &[NO_FAMILY, NO_PROTOCOL]).without_control(FAMILIES);
    no_urgent_bytes_between_local_sockets: Attempt::new("W13f", "do socket 1 1 0 , sendto %1 s:x 1 1 0 0", &[NO_FLAG]).outside_answers(&[libc::ENOTCONN, NO_FLAG]);
    no_filter_can_be_put_on_a_socket: Attempt::new("W15", "do socket 1 1 0 , setsockopt %1 1 26 z:16 16", &[NO_OPTION]).outside_answers(&[libc::EINVAL, libc::EFAULT]);
    no_connection_can_be_forged: Attempt::new("W15b", "do socket 2 1 0 , setsockopt %1 6 19 h:01000000 4", &[NO_FAMILY, NO_OPTION]).outside_answers(&[0, EPERM]);
    no_layer_can_be_put_under_a_connection: Attempt::new("W15c", "do socket 2 1 0 , setsockopt %1 6 31 s:tls 4", &[NO_FAMILY, NO_OPTION]).outside_answers(&[libc::ENOTCONN, ENOENT]);
    only_local_pairs_can_be_made: Attempt::new("W16", "do socketpair 30 1 0 z:8", &[NO_FAMILY]).without_control(FAMILIES);
}
