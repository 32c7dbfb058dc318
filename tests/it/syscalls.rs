//! The compiled filter against the table, and what the table promises.
//!
//! The filter is run in an interpreter of classic BPF, for every number, architecture and column
//! and for arguments on both sides of every condition, and must answer what the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rung::model::Arch;
use rung::plan::syscalls::{
    Action, Errno, Gate, Instruction, Rule, audit_arch, ceiling, class_of, compile, compiled,
    explain, name_of, unassigned, verdict,
};
use rung::profile::Table;

const TABLES: [Table; 3] = [Table::Strict, Table::Standard, Table::Debug];
const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const GATES: [Gate; 2] = [Gate::With, Gate::Without];

const EPERM: Action = Action::Errno(Errno::Eperm);
const ENOSYS: Action = Action::Errno(Errno::Enosys);

/// linux/audit.h: i386, arm, 64-bit RISC-V, and nothing at all.
const FOREIGN: [u32; 4] = [0x4000_0003, 0x4000_0028, 0xc000_00f3, 0];
const X32_BIT: u32 = 0x4000_0000;

/// What a filter is given about a call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let low_half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap();
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[usize::try_from((offset - 16) / 8).unwrap()];
                low_half(if offset.is_multiple_of(8) { argument } else { argument >> 32 })
            }
            _ => panic!("no word at offset {offset}"),
        }
    }
}

/// Runs a filter as the kernel does.
fn run(program: &[Instruction], call: &Call) -> Action {
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let test = match code {
            0x20 => {
                accumulator = call.word(k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += usize::try_from(k).unwrap();
                continue;
            }
            0x06 => return action_of(k),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            _ => panic!("instruction {at} has the unknown code {code:#x}"),
        };
        at += usize::from(if test { jt } else { jf });
    }
}

fn action_of(value: u32) -> Action {
    const ERRNOS: [Errno; 6] = [
        Errno::Eperm,
        Errno::Enosys,
        Errno::Enoprotoopt,
        Errno::Eprotonosupport,
        Errno::Eopnotsupp,
        Errno::Eafnosupport,
    ];
    match value {
        0x7fff_0000 => Action::Allow,
        0x7fc0_0000 => Action::Ask,
        0x8000_0000 => Action::KillProcess,
        _ => {
            assert_eq!(value & 0xffff_0000, 0x0005_0000, "no errno answer: {value:#x}");
            Action::Errno(*ERRNOS.iter().find(|it| **it as u32 == value & 0xffff).unwrap())
        }
    }
}

/// Arguments on both sides of every condition of the rules, alone and together.
fn interesting(rules: &[&Rule]) -> Vec<[u64; 6]> {
    let mut values: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    for condition in rules.iter().flat_map(|it| it.cases).flat_map(|it| it.when) {
        let values = values.entry(usize::from(condition.argument)).or_default();
        let (mask, value) = (condition.mask, condition.value);
        values.extend([0, 1, u32::MAX, mask, value, value | !mask]);
        values.extend([value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 31)]);
        if mask != u32::MAX {
            let bits = (0..32).map(|bit| 1 << bit).filter(|bit| mask & bit != 0);
            values.extend(bits.map(|bit| value ^ bit));
        }
    }
    let mut calls = vec![[0; 6], [u64::MAX; 6]];
    let mut product = vec![[0; 6]];
    for (argument, values) in values {
        product = product
            .into_iter()
            .flat_map(|call: [u64; 6]| {
                values.iter().map(move |value| {
                    let mut call = call;
                    call[argument] = u64::from(*value);
                    call
                })
            })
            .collect();
    }
    for high in [0, 1 << 32, 0xffff_ffff << 32] {
        calls.extend(product.iter().map(|call| call.map(|it| it | high)));
    }
    calls
}

fn number_of(arch: Arch, name: &str) -> u32 {
    (0..=ceiling(arch))
        .find(|number| name_of(arch, *number) == Some(name))
        .unwrap_or_else(|| panic!("{arch:?} has no `{name}`"))
}

fn arguments<const N: usize>(first: [u64; N]) -> [u64; 6] {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&first);
    all
}

/// The answer of the compiled filter of a run without a gate.
fn answer(table: Table, name: &str, arguments: [u64; 6]) -> Action {
    answer_under(Gate::Without, table, name, arguments)
}

fn answer_under(gate: Gate, table: Table, name: &str, arguments: [u64; 6]) -> Action {
    let arch = Arch::X86_64;
    let call = Call { number: number_of(arch, name), arch: audit_arch(arch), arguments };
    run(compiled(table, arch, gate).instructions(), &call)
}

/// A call is answered so in every column.
#[track_caller]
fn check<const N: usize>(name: &str, first: [u64; N], expected: Action) {
    for table in TABLES {
        assert_eq!(answer(table, name, arguments(first)), expected, "{name} {first:#x?} {table:?}");
    }
}

fn value(constant: impl TryInto<i64>) -> u64 {
    let value: i64 = constant.try_into().ok().unwrap();
    u64::from_ne_bytes(value.to_ne_bytes())
}

#[test]
fn the_filter_answers_what_the_table_says() {
    for arch in ARCHES {
        for table in TABLES {
            let plain = (0..=1024).chain([0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX]);
            let numbers = plain.chain((0..=1024).map(|number| number | X32_BIT));
            for number in numbers {
                let rules: Vec<&Rule> =
                    class_of(arch, number).map(|it| it.rule(table)).into_iter().collect();
                for arguments in interesting(&rules) {
                    let call = Call { number, arch: audit_arch(arch), arguments };
                    for gate in GATES {
                        let expected = verdict(table, arch, gate, number, &arguments);
                        let actual = run(compiled(table, arch, gate).instructions(), &call);
                        assert_eq!(actual, expected, "{table:?} {arch:?} {gate:?} {call:x?}");
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_filter_answers_what_the_table_says_to_any_arguments(
        number in 0_u32..600,
        arguments in any::<[u64; 6]>(),
        shift in 0_u32..64,
    ) {
        let arguments = arguments.map(|it| it >> shift);
        for arch in ARCHES {
            for table in TABLES {
                let call = Call { number, arch: audit_arch(arch), arguments };
                for gate in GATES {
                    let actual = run(compiled(table, arch, gate).instructions(), &call);
                    prop_assert_eq!(actual, verdict(table, arch, gate, number, &arguments));
                }
            }
        }
    }
}

#[test]
fn code_of_another_architecture_dies() {
    for (arch, other) in [(Arch::X86_64, Arch::Aarch64), (Arch::Aarch64, Arch::X86_64)] {
        for table in TABLES {
            for foreign in FOREIGN.into_iter().chain([audit_arch(other)]) {
                for number in (0..=1024).chain([X32_BIT, u32::MAX]) {
                    let call = Call { number, arch: foreign, arguments: [0; 6] };
                    for gate in GATES {
                        let answer = run(compiled(table, arch, gate).instructions(), &call);
                        assert_eq!(answer, Action::KillProcess, "{arch:?} {table:?} {call:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn unknown_numbers_look_like_an_older_kernel() {
    for arch in ARCHES {
        let gaps = unassigned(arch).iter().cloned().flatten();
        let above = ceiling(arch) + 1..=1024;
        let x32 = (0..=1024).map(|number| number | X32_BIT);
        for number in gaps.chain(above).chain(x32).chain([u32::MAX]) {
            for table in TABLES {
                let call = Call { number, arch: audit_arch(arch), arguments: [0; 6] };
                for gate in GATES {
                    let answer = run(compiled(table, arch, gate).instructions(), &call);
                    assert_eq!(answer, ENOSYS, "{arch:?} {table:?} {number:#x}");
                }
            }
        }
    }
}

/// Reads the tables of the `libc` crate that this package is built with.
#[test]
fn every_number_is_classified() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version=1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "cargo does not know where libc lies: {message}");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let libc = packages.iter().find(|it| it["name"] == "libc").unwrap();
    let root = Path::new(libc["manifest_path"].as_str().unwrap()).parent().unwrap();
    let root = root.join("src/unix/linux_like/linux");
    for (arch, file) in [
        (Arch::X86_64, "gnu/b64/x86_64/not_x32.rs"),
        (Arch::X86_64, "musl/b64/x86_64/mod.rs"),
        (Arch::Aarch64, "gnu/b64/aarch64/mod.rs"),
        (Arch::Aarch64, "gnu/b64/aarch64/lp64.rs"),
        (Arch::Aarch64, "musl/b64/aarch64/mod.rs"),
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let mut found = 0;
        for line in text.lines() {
            let Some(constant) = line.strip_prefix("pub const SYS_") else { continue };
            let (name, rest) = constant.split_once(": c_long = ").unwrap();
            let number: u32 = rest.trim_end_matches(';').parse().unwrap();
            assert_eq!(name_of(arch, number), Some(name), "{file}: {line}");
            found += 1;
        }
        assert!(found > 0, "{file} names no system call");
    }
}

/// How much of a call is left.
fn width(action: Action) -> u8 {
    match action {
        Action::Errno(_) | Action::KillProcess => 0,
        Action::Ask => 1,
        Action::Allow => 2,
    }
}

/// Calls that the gate only hears of, and lets go on unless they come to nothing anyway.
const HEARD: [&str; 2] = ["connect", "sendto"];

#[test]
fn a_column_is_within_the_next() {
    for arch in ARCHES {
        for number in 0..=ceiling(arch) {
            let Some(class) = class_of(arch, number) else { continue };
            for arguments in interesting(&[&class.strict, &class.standard, &class.debug]) {
                for gate in GATES {
                    let mut wide =
                        TABLES.map(|it| width(verdict(it, arch, gate, number, &arguments)));
                    if name_of(arch, number).is_some_and(|it| HEARD.contains(&it)) {
                        wide = wide.map(|it| it.min(1));
                    }
                    assert!(wide.is_sorted(), "{arch:?} {number} {arguments:x?}: {wide:?}");
                }
            }
        }
    }
}

#[test]
fn no_case_of_a_rule_can_be_left_out() {
    for arch in ARCHES {
        for number in 0..=ceiling(arch) {
            let Some(class) = class_of(arch, number) else { continue };
            for rule in TABLES.map(|table| class.rule(table)) {
                for (left_out, case) in rule.cases.iter().enumerate() {
                    let without = |arguments: &[u64; 6]| {
                        let cases = rule.cases.iter().enumerate();
                        let mut others = cases.filter(|(index, _)| *index != left_out);
                        let fits = others.find(|it| it.1.when.iter().all(|c| c.holds(arguments)));
                        fits.map_or(rule.otherwise, |it| it.1.action)
                    };
                    let matters =
                        interesting(&[rule]).iter().any(|it| rule.answer(it) != without(it));
                    assert!(matters, "{arch:?} {number}: `{}` changes nothing", case.what);
                }
            }
        }
    }
}

#[test]
fn a_condition_asks_for_no_bit_that_it_does_not_look_at() {
    for arch in ARCHES {
        for class in (0..=ceiling(arch)).filter_map(|number| class_of(arch, number)) {
            for table in TABLES {
                for condition in class.rule(table).cases.iter().flat_map(|case| case.when) {
                    assert_eq!(condition.value & !condition.mask, 0, "{condition:?}");
                    assert!(condition.argument < 6, "{condition:?}");
                }
            }
        }
    }
}

/// What `seccomp(2)` checks before it takes a filter, and a tenth of the length it would take.
#[test]
fn a_filter_is_small_and_what_the_kernel_accepts() {
    for arch in ARCHES {
        for (table, gate) in TABLES.into_iter().flat_map(|it| GATES.map(|gate| (it, gate))) {
            let filter = compile(table, arch, gate);
            let program = filter.instructions();
            assert!(program.len() < 400, "{arch:?} {table:?}: {} instructions", program.len());
            assert_eq!(program.last().unwrap().code, 0x06, "ends with a return");
            for (at, it) in program.iter().enumerate() {
                let farthest = match it.code {
                    0x05 => usize::try_from(it.k).unwrap(),
                    _ => usize::from(it.jt.max(it.jf)),
                };
                assert!(at + 1 + farthest < program.len() || it.code == 0x06, "{at}: {it:?}");
            }
        }
    }
}

#[test]
fn what_is_embedded_is_what_compiling_gives_and_no_two_columns_share_a_filter() {
    let mut digests = BTreeSet::new();
    for arch in ARCHES {
        for (table, gate) in TABLES.into_iter().flat_map(|it| GATES.map(|gate| (it, gate))) {
            let embedded = compiled(table, arch, gate);
            assert_eq!(&compile(table, arch, gate), embedded, "{table:?} {arch} {gate:?}");
            digests.insert(embedded.digest());
        }
    }
    assert_eq!(digests.len(), 12);
}

/// After the filter is installed, the launcher hands over whom to ask, reports, starts the command
/// or gives up.
#[test]
fn the_launchers_last_calls_are_always_allowed() {
    for arch in ARCHES {
        for table in TABLES {
            for name in ["write", "close", "exit_group", "sendmsg"] {
                let number = number_of(arch, name);
                for gate in GATES {
                    let verdict = verdict(table, arch, gate, number, &arguments([3, 4]));
                    assert_eq!(verdict, Action::Allow, "{arch:?} {table:?} {name}");
                }
            }
        }
    }
}

#[test]
fn the_gate_is_asked_about_programs_files_without_a_path_and_connections_and_nothing_else() {
    for arch in ARCHES {
        for table in TABLES {
            let asked: Vec<&str> = (0..=ceiling(arch))
                .filter(|number| {
                    let class = class_of(arch, *number);
                    class.is_some_and(|it| {
                        let calls = interesting(&[it.rule(table)]);
                        let ask = |call| verdict(table, arch, Gate::With, *number, call);
                        calls.iter().any(|call| ask(call) == Action::Ask)
                    })
                })
                .filter_map(|number| name_of(arch, number))
                .collect();
            let asked: BTreeSet<&str> = asked.into_iter().collect();
            let expected: &[&str] = match table {
                // It has no sockets but those of the run's own files.
                Table::Strict => &["execve"],
                Table::Standard | Table::Debug => &["connect", "execve", "memfd_create", "sendto"],
            };
            assert_eq!(asked, expected.iter().copied().collect(), "{arch:?} {table:?}");
            let execve = number_of(arch, "execve");
            let without = verdict(table, arch, Gate::Without, execve, &[0; 6]);
            assert_eq!(without, Action::Allow, "nobody would answer");
        }
    }
    let asked = TABLES.map(|table| answer_under(Gate::With, table, "execve", [0; 6]));
    assert_eq!(asked, [Action::Ask; 3]);
}

#[test]
fn explanations_speak_of_every_call_in_every_column() {
    for arch in ARCHES {
        for table in TABLES {
            let lines = explain(table, arch);
            for number in 0..=ceiling(arch) {
                let Some(name) = name_of(arch, number) else { continue };
                let line = lines.iter().find(|line| line.names.contains(&name)).unwrap();
                let rule = class_of(arch, number).unwrap().rule(table);
                assert_eq!(line.treatment, rule.to_string(), "{arch:?} {table:?} {name}");
            }
        }
    }
}

// Claims about single calls.

#[test]
fn tiocsti_with_high_bits_is_refused() {
    let terminal = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCCONS, 0x5423 /* TIOCSETD */];
    for request in terminal.map(value) {
        for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
            check("ioctl", [0, request | high], EPERM);
        }
    }
    for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO] {
        check("ioctl", [0, value(request)], Action::Allow);
    }
}

#[test]
fn clone3_is_enosys() {
    check("clone3", [0, 88], ENOSYS);
}

#[test]
fn no_namespace_is_created_or_entered() {
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    for flag in namespaces {
        check("clone", [value(flag | libc::SIGCHLD)], EPERM);
        check("clone", [value(flag | libc::SIGCHLD) | 1 << 32], EPERM);
        check("unshare", [value(flag)], EPERM);
        check("setns", [3, value(flag)], EPERM);
    }
    check("unshare", [0x80 /* CLONE_NEWTIME */], EPERM);
    check("clone", [value(libc::CLONE_UNTRACED | libc::SIGCHLD)], EPERM);
    check("setns", [3, 0], EPERM);
    check("unshare", [value(libc::CLONE_FS | libc::CLONE_FILES)], Action::Allow);
    check("clone", [value(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD)], Action::Allow);
    // pthread_create of glibc.
    check("clone", [0x003d_0f00], Action::Allow);
}

#[test]
fn mounts_are_refused_and_the_newer_calls_do_not_exist() {
    for name in ["mount", "umount2", "pivot_root", "chroot"] {
        check(name, [0], EPERM);
    }
    for name in ["open_tree", "open_tree_attr", "move_mount", "fsopen", "fsmount", "mount_setattr"]
    {
        check(name, [0], ENOSYS);
    }
}

#[test]
fn only_tcp_udp_unix_and_route_sockets_exist_and_strict_has_only_unix() {
    let refused_family = Action::Errno(Errno::Eafnosupport);
    let refused_protocol = Action::Errno(Errno::Eprotonosupport);
    let (stream, datagram, raw) = (libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW);
    let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for (family, kind, protocol, standard) in [
        (libc::AF_INET, stream, 0, Action::Allow),
        (libc::AF_INET6, stream | cloexec, libc::IPPROTO_TCP, Action::Allow),
        (libc::AF_INET, datagram | cloexec, libc::IPPROTO_UDP, Action::Allow),
        (libc::AF_INET6, datagram, 0, Action::Allow),
        (libc::AF_NETLINK, raw | cloexec, libc::NETLINK_ROUTE, Action::Allow),
        (libc::AF_NETLINK, raw, libc::NETLINK_KOBJECT_UEVENT, refused_protocol),
        (libc::AF_NETLINK, raw, libc::NETLINK_NETFILTER, refused_protocol),
        (libc::AF_INET, stream, libc::IPPROTO_MPTCP, refused_protocol),
        (libc::AF_INET6, stream, libc::IPPROTO_SCTP, refused_protocol),
        (libc::AF_INET, datagram, libc::IPPROTO_UDPLITE, refused_protocol),
        (libc::AF_INET, datagram, libc::IPPROTO_ICMP, refused_protocol),
        (libc::AF_INET6, datagram, libc::IPPROTO_ICMPV6, refused_protocol),
        (libc::AF_INET, raw, libc::IPPROTO_TCP, refused_protocol),
        (libc::AF_INET, raw, 0, refused_protocol),
        (libc::AF_INET, libc::SOCK_DCCP, 0, refused_protocol),
        (libc::AF_VSOCK, stream, 0, refused_family),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0, refused_family),
        (libc::AF_PACKET, raw, 0, refused_family),
        (libc::AF_XDP, raw, 0, refused_family),
        (libc::AF_RDS, libc::SOCK_SEQPACKET, 0, refused_family),
        (libc::AF_TIPC, datagram, 0, refused_family),
        (libc::AF_BLUETOOTH, raw, 0, refused_family),
        (libc::AF_CAN, raw, 0, refused_family),
        (libc::AF_KEY, raw, 0, refused_family),
        (libc::AF_UNSPEC, stream, 0, refused_family),
        (-1, stream, 0, refused_family),
    ] {
        for high in [0, 1 << 32] {
            let call = arguments([family, kind, protocol].map(|it| value(it) | high));
            for (table, expected) in [
                (Table::Strict, refused_family),
                (Table::Standard, standard),
                (Table::Debug, standard),
            ] {
                assert_eq!(answer(table, "socket", call), expected, "{table:?} {call:x?}");
            }
        }
    }
    check("socket", [value(libc::AF_UNIX), value(stream | cloexec)], Action::Allow);
    check("socketpair", [value(libc::AF_UNIX), value(stream)], Action::Allow);
    check("socketpair", [value(libc::AF_TIPC), value(stream)], refused_family);
}

#[test]
fn nothing_connects_or_changes_its_protocol_behind_a_check() {
    let flags = Action::Errno(Errno::Eopnotsupp);
    for flag in [libc::MSG_FASTOPEN, libc::MSG_OOB].map(value) {
        check("sendto", [3, 0, 0, flag], flags);
        check("sendmsg", [3, 0, flag | 1 << 32], flags);
        check("sendmmsg", [3, 0, 0, flag | value(libc::MSG_NOSIGNAL)], flags);
    }
    check("sendto", [3, 0, 0, value(libc::MSG_NOSIGNAL)], Action::Allow);
    for table in [Table::Standard, Table::Debug] {
        let with_address = arguments([3, 0, 0, value(libc::MSG_NOSIGNAL), 0x7fff_0000, 16]);
        assert_eq!(answer_under(Gate::With, table, "sendto", with_address), Action::Ask);
        let netlink = arguments([3, 0, 0, value(libc::MSG_NOSIGNAL), 0x7fff_0000, 12]);
        assert_eq!(answer_under(Gate::With, table, "sendto", netlink), Action::Allow);
        let connect = arguments([3, 0x7fff_0000, 16]);
        assert_eq!(answer_under(Gate::With, table, "connect", connect), Action::Ask);
        assert_eq!(answer_under(Gate::Without, table, "connect", connect), Action::Allow);
    }
    let option = Action::Errno(Errno::Enoprotoopt);
    for name in [libc::TCP_ULP, libc::TCP_REPAIR, libc::TCP_FASTOPEN_CONNECT].map(value) {
        check("setsockopt", [3, value(libc::SOL_TCP), name], option);
    }
    for name in [
        libc::SO_ATTACH_FILTER,
        libc::SO_ATTACH_BPF,
        libc::SO_ATTACH_REUSEPORT_CBPF,
        libc::SO_ATTACH_REUSEPORT_EBPF,
    ] {
        check("setsockopt", [3, value(libc::SOL_SOCKET), value(name)], option);
    }
    check("setsockopt", [3, value(libc::SOL_TCP), value(libc::TCP_NODELAY)], Action::Allow);
    check("setsockopt", [3, value(libc::SOL_SOCKET), value(libc::SO_REUSEADDR)], Action::Allow);
}

#[test]
fn modes_with_set_id_bits_and_device_nodes_are_refused() {
    for mode in [0o4755, 0o2755, 0o6755] {
        check("chmod", [0, mode], EPERM);
        check("fchmod", [3, mode | 1 << 32], EPERM);
        check("fchmodat", [3, 0, mode], EPERM);
        check("fchmodat2", [3, 0, mode], EPERM);
    }
    let (create, unnamed) = (value(libc::O_CREAT), value(libc::O_TMPFILE) | 2);
    for mode in [0o4755, 0o2755] {
        for flags in [create, unnamed, create | 1 << 32] {
            check("open", [0, flags, mode], EPERM);
            check("openat", [3, 0, flags, mode], EPERM);
        }
        // Without a file to make, the mode is whatever the register held.
        check("open", [0, value(libc::O_DIRECTORY), mode], Action::Allow);
        check("openat", [3, 0, 0, mode], Action::Allow);
    }
    check("openat", [3, 0, create, 0o1777], Action::Allow);
    check("openat2", [3, 0, 0, 24], ENOSYS);
    check("chmod", [0, 0o1777], Action::Allow);
    check("fchmodat", [0o6000, 0o6000, 0o755], Action::Allow);
    let (character, block) = (u64::from(libc::S_IFCHR), u64::from(libc::S_IFBLK));
    check("mknod", [0, character | 0o600, 0x103], EPERM);
    check("mknodat", [3, 0, character, 0x103], EPERM);
    // The kernel reads 16 bits of the mode.
    check("mknodat", [3, 0, block | 0x1_0000, 0], EPERM);
    check("mknodat", [3, 0, character, 0], Action::Allow);
    check("mknodat", [3, 0, u64::from(libc::S_IFIFO) | 0o600, 0], Action::Allow);
}

#[test]
fn only_debug_traces_and_only_debug_fixes_addresses() {
    let columns = |name, call| TABLES.map(|table| answer(table, name, call));
    let debug_only = [EPERM, EPERM, Action::Allow];
    for name in ["ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"] {
        assert_eq!(columns(name, [0; 6]), debug_only, "{name}");
    }
    assert_eq!(columns("personality", arguments([value(libc::ADDR_NO_RANDOMIZE)])), debug_only);
    for allowed in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        check("personality", [allowed], Action::Allow);
    }
    check("personality", [value(libc::READ_IMPLIES_EXEC)], EPERM);
    check("personality", [0xffff_fffe], EPERM);
}

#[test]
fn prctl_refuses_what_forges_a_process() {
    for option in [libc::PR_SET_MM, libc::PR_SET_SECUREBITS, libc::PR_SCHED_CORE] {
        check("prctl", [value(option)], EPERM);
    }
    for option in [libc::PR_SET_NAME, libc::PR_SET_SECCOMP, libc::PR_SET_PDEATHSIG] {
        check("prctl", [value(option)], Action::Allow);
    }
    let dispatch = arguments([59]);
    assert_eq!(answer(Table::Standard, "prctl", dispatch), EPERM);
    assert_eq!(answer(Table::Debug, "prctl", dispatch), Action::Allow);
}

#[test]
fn execveat_only_checks() {
    check("execveat", [3, 0, 0, 0, value(libc::AT_EMPTY_PATH)], ENOSYS);
    check("execveat", [3, 0, 0, 0, 0x1_0000 /* AT_EXECVE_CHECK */], Action::Allow);
}

#[test]
fn files_without_a_path_need_more_than_strict() {
    let columns = |name| TABLES.map(|table| answer(table, name, [0; 6]));
    assert_eq!(columns("memfd_create"), [ENOSYS, Action::Allow, Action::Allow]);
    assert_eq!(columns("vmsplice"), [ENOSYS, Action::Allow, Action::Allow]);
}

#[test]
fn the_kernels_back_doors_do_not_exist() {
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "keyctl"] {
        check(name, [0], ENOSYS);
    }
    for name in ["userfaultfd", "memfd_secret", "remap_file_pages", "modify_ldt", "lookup_dcookie"]
    {
        check(name, [0], ENOSYS);
    }
    for name in ["bpf", "perf_event_open", "open_by_handle_at", "fanotify_init", "init_module"] {
        check(name, [0], EPERM);
    }
    for name in ["kexec_load", "reboot", "swapon", "syslog", "settimeofday", "iopl", "move_pages"] {
        check(name, [0], EPERM);
    }
    for name in ["landlock_create_ruleset", "seccomp", "statx", "rseq", "membarrier"] {
        check(name, [0], Action::Allow);
    }
}

/// What compilers, package managers, interpreters, git and shells make all day.
const COMMON: &str = "
    access accept accept4 alarm arch_prctl bind brk capget capset chdir chmod chown clock_getres
    clock_gettime clock_nanosleep clone close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
    execve exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown
    fchownat fcntl fdatasync fgetxattr flistxattr flock fork fsetxattr fstat fstatfs fsync
    ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups getitimer getpeername
    getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
    getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr get_mempolicy
    get_robust_list inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl kill
    lchown lgetxattr link linkat listen listxattr llistxattr lseek lstat madvise mbind membarrier
    mincore mkdir mkdirat mknod mlock mmap mprotect mremap msync munlock munmap nanosleep
    newfstatat open openat pause personality pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_mprotect poll ppoll prctl pread64 preadv prlimit64 pselect6 pwrite64 pwritev
    read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg rename renameat renameat2
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_getparam
    sched_getscheduler sched_get_priority_max sched_get_priority_min sched_setaffinity
    sched_yield seccomp select semctl semget semop sendfile sendmmsg sendmsg sendto setgid
    setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
    setsockopt setuid set_mempolicy set_robust_list set_tid_address shmat shmctl shmdt shmget
    shutdown sigaltstack signalfd4 socket socketpair splice stat statfs statx symlink symlinkat
    sync sync_file_range sysinfo tee tgkill time timerfd_create timerfd_settime timer_create
    timer_delete timer_settime times tkill truncate umask uname unlink unlinkat unshare utime
    utimensat utimes vfork wait4 waitid write writev";

#[test]
fn everyday_calls_are_allowed_with_their_usual_arguments() {
    let usual: BTreeMap<&str, [u64; 6]> = BTreeMap::from([
        ("clone", arguments([0x0120_0011])),
        ("ioctl", arguments([1, value(libc::TCGETS)])),
        ("socket", arguments([value(libc::AF_UNIX), value(libc::SOCK_STREAM)])),
        ("socketpair", arguments([value(libc::AF_UNIX), value(libc::SOCK_STREAM)])),
        ("prctl", arguments([value(libc::PR_SET_NAME)])),
        ("chmod", arguments([0, 0o755])),
        ("creat", arguments([0, 0o666])),
        ("fchmod", arguments([3, 0o644])),
        ("fchmodat", arguments([3, 0, 0o644])),
        ("mknod", arguments([0, u64::from(libc::S_IFIFO) | 0o600])),
        ("open", arguments([0, value(libc::O_CREAT), 0o666])),
        ("openat", arguments([3, 0, value(libc::O_CREAT), 0o666])),
        ("personality", arguments([0xffff_ffff])),
        ("sendto", arguments([3, 0, 0, value(libc::MSG_NOSIGNAL)])),
        ("sendmsg", arguments([3, 0, value(libc::MSG_NOSIGNAL)])),
        ("sendmmsg", arguments([3, 0, 0, value(libc::MSG_NOSIGNAL)])),
        ("setsockopt", arguments([3, value(libc::SOL_SOCKET), value(libc::SO_REUSEADDR)])),
        ("unshare", arguments([value(libc::CLONE_FILES)])),
    ]);
    let mut judged = BTreeSet::new();
    for name in COMMON.split_whitespace() {
        let class = class_of(Arch::X86_64, number_of(Arch::X86_64, name)).unwrap();
        if !class.standard.cases.is_empty() {
            judged.insert(name);
        }
        let call = usual.get(name).copied().unwrap_or_default();
        check(name, call, Action::Allow);
    }
    assert!(judged.iter().all(|name| usual.contains_key(name)), "{judged:?}");
    assert!(COMMON.split_whitespace().count() >= 135);
}
