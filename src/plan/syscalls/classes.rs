//! The decisions: each kind of system call with its reason, its answer and the arguments it is
//! judged by.
//!
//! Each column of the table is within the next: what `strict` allows, `standard` allows, and what
//! `standard` allows, `debug` allows. A case looks at arguments that arrive in registers; what
//! lies behind a pointer can be changed after the filter has looked, and is never judged. That is
//! why `clone3` is refused whole (its flags lie in memory), and so is `openat2` (its mode does, and a
//! mode can bring a set-id bit).
//!
//! The values are those of the kernel's headers and the same on every architecture here.

use super::{Action, Case, Class, Condition, Errno, Rule};

// Allowed.

pub(super) const ORDINARY: Class =
    same("what a program does with its own files, memory, processes and sockets", ALLOW);
pub(super) const TIGHTENING: Class =
    same("can only take rights away, and sandboxes inside this one need it", ALLOW);
pub(super) const IDENTITY: Class =
    same("changes nothing without capabilities, and archive tools want an answer", ALLOW);
pub(super) const PROBE_RETURNS: Class =
    same("made by the host's own probes of a program; the kernel refuses everybody else", ALLOW);

// The file view.

pub(super) const MOUNT: Class = same("the view is complete before the command starts", EPERM);
pub(super) const MOUNT_OBJECTS: Class =
    same("the view is complete, and programs that try this know the older calls", ENOSYS);
pub(super) const MOUNT_QUERIES: Class =
    same("/proc/self/mountinfo answers the same question", ENOSYS);
pub(super) const FILE_HANDLES: Class =
    same("a file opened by its handle is not looked for in the view", EPERM);
pub(super) const FANOTIFY: Class =
    same("watches whole file systems, not the part of them that is in the view", EPERM);

const SET_ID: &str = "set-id bits outlive the run and lend the user's identity to others";
pub(super) const CHMOD: Class =
    same(SET_ID, only(&[allow("no S_ISUID, no S_ISGID", &[none_of(1, 0o6000)])], Errno::Eperm));
pub(super) const CHMOD_AT: Class =
    same(SET_ID, only(&[allow("no S_ISUID, no S_ISGID", &[none_of(2, 0o6000)])], Errno::Eperm));

/// The mode counts only where the call makes a file; otherwise it is whatever the register held.
pub(super) const OPEN: Class = same(
    SET_ID,
    all_but(&[
        allow("no S_ISUID, no S_ISGID", &[none_of(2, 0o6000)]),
        deny("O_CREAT with either", &[masked(1, O_CREAT, O_CREAT)], Errno::Eperm),
        deny("O_TMPFILE with either", &[masked(1, TMPFILE, TMPFILE)], Errno::Eperm),
    ]),
);
pub(super) const OPEN_AT: Class = same(
    SET_ID,
    all_but(&[
        allow("no S_ISUID, no S_ISGID", &[none_of(3, 0o6000)]),
        deny("O_CREAT with either", &[masked(2, O_CREAT, O_CREAT)], Errno::Eperm),
        deny("O_TMPFILE with either", &[masked(2, TMPFILE, TMPFILE)], Errno::Eperm),
    ]),
);
pub(super) const OPEN_BY_STRUCTURE: Class =
    same("its mode lies in memory, where no filter can judge it; programs fall back", ENOSYS);

const DEVICE: &str = "a device node reaches past every file rule, and set-id bits outlive the run";
pub(super) const MKNOD: Class = same(
    DEVICE,
    all_but(&[
        allow("the whiteout 0:0 of an overlay", &[masked(1, S_IFMT, S_IFCHR), is(2, 0)]),
        deny("S_IFCHR", &[masked(1, S_IFMT, S_IFCHR)], Errno::Eperm),
        deny("S_IFBLK", &[masked(1, S_IFMT, S_IFBLK)], Errno::Eperm),
        deny("S_ISUID", &[masked(1, 0o4000, 0o4000)], Errno::Eperm),
        deny("S_ISGID", &[masked(1, 0o2000, 0o2000)], Errno::Eperm),
    ]),
);
pub(super) const MKNOD_AT: Class = same(
    DEVICE,
    all_but(&[
        allow("the whiteout 0:0 of an overlay", &[masked(2, S_IFMT, S_IFCHR), is(3, 0)]),
        deny("S_IFCHR", &[masked(2, S_IFMT, S_IFCHR)], Errno::Eperm),
        deny("S_IFBLK", &[masked(2, S_IFMT, S_IFBLK)], Errno::Eperm),
        deny("S_ISUID", &[masked(2, 0o4000, 0o4000)], Errno::Eperm),
        deny("S_ISGID", &[masked(2, 0o2000, 0o2000)], Errno::Eperm),
    ]),
);

// Processes and namespaces.

pub(super) const CLONE: Class = same(
    "a new namespace brings back capabilities and most of what the kernel could be attacked by",
    // CLONE_NEWTIME is not among them: here its bit belongs to the exit signal.
    only(
        &[allow(
            "no CLONE_NEW*, no CLONE_UNTRACED",
            &[none_of(
                0,
                CLONE_NEWNS
                    | CLONE_NEWCGROUP
                    | CLONE_NEWUTS
                    | CLONE_NEWIPC
                    | CLONE_NEWUSER
                    | CLONE_NEWPID
                    | CLONE_NEWNET
                    | CLONE_UNTRACED,
            )],
        )],
        Errno::Eperm,
    ),
);
pub(super) const CLONE3: Class =
    same("its flags lie in memory, where no filter can judge them", ENOSYS);
pub(super) const UNSHARE: Class = same(
    "a thread may stop sharing with its siblings, but nobody gets a new namespace",
    only(
        &[allow(
            "only CLONE_FS, CLONE_FILES, CLONE_SYSVSEM",
            &[none_of(0, !(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM))],
        )],
        Errno::Eperm,
    ),
);
pub(super) const SETNS: Class = same("a run stays in the namespaces it was started in", EPERM);
pub(super) const TRACING: Class = Class {
    because: "reads and steers other processes, which only a debugger has to do",
    strict: EPERM,
    standard: EPERM,
    debug: ALLOW,
};
pub(super) const EXECVE: Class = same(
    "starts a program, and every program that a run starts is judged before its first instruction",
    ASK,
);
pub(super) const EXECVEAT: Class = same(
    "starts programs that have no path; programs fall back to execve",
    only(
        &[allow("AT_EXECVE_CHECK, which starts nothing", &[masked(4, 0x1_0000, 0x1_0000)])],
        Errno::Enosys,
    ),
);
pub(super) const PERSONALITY: Class = Class {
    because: "the other values switch protections of the address space off",
    strict: PERSONALITY_STANDARD,
    standard: PERSONALITY_STANDARD,
    debug: only(
        &[
            PERSONALITY_QUERY,
            allow("0, PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE", &[none_of(0, !0x6_0008)]),
        ],
        Errno::Eperm,
    ),
};
const PERSONALITY_STANDARD: Rule = only(
    &[PERSONALITY_QUERY, allow("0, PER_LINUX32, UNAME26", &[none_of(0, !0x2_0008)])],
    Errno::Eperm,
);
const PERSONALITY_QUERY: Case = allow("the query 0xffffffff", &[is(0, 0xffff_ffff)]);

pub(super) const PRCTL: Class = Class {
    because: "forges what the process looks like, or takes it out of scheduling and filtering",
    strict: PRCTL_STANDARD,
    standard: PRCTL_STANDARD,
    debug: all_but(&[PR_SET_MM, PR_SET_SECUREBITS, PR_SET_IO_FLUSHER, PR_SCHED_CORE]),
};
const PRCTL_STANDARD: Rule = all_but(&[
    PR_SET_MM,
    PR_SET_SECUREBITS,
    PR_SET_IO_FLUSHER,
    PR_SCHED_CORE,
    deny("PR_SET_SYSCALL_USER_DISPATCH", &[is(0, 59)], Errno::Eperm),
]);
const PR_SET_SECUREBITS: Case = deny("PR_SET_SECUREBITS", &[is(0, 28)], Errno::Eperm);
const PR_SET_MM: Case = deny("PR_SET_MM", &[is(0, 35)], Errno::Eperm);
const PR_SET_IO_FLUSHER: Case = deny("PR_SET_IO_FLUSHER", &[is(0, 57)], Errno::Eperm);
const PR_SCHED_CORE: Case = deny("PR_SCHED_CORE", &[is(0, 62)], Errno::Eperm);

// Sockets and terminals.

pub(super) const SOCKET: Class = Class {
    because: "only families that the network namespace confines and that people need",
    strict: only(&[UNIX_SOCKET], Errno::Eafnosupport),
    standard: SOCKET_STANDARD,
    debug: SOCKET_STANDARD,
};
const UNIX_SOCKET: Case = allow("AF_UNIX", &[is(0, AF_UNIX)]);
const SOCKET_STANDARD: Rule = only(
    &[
        UNIX_SOCKET,
        allow("NETLINK_ROUTE", &[is(0, AF_NETLINK), is(2, 0)]),
        deny("other netlink", &[is(0, AF_NETLINK)], Errno::Eprotonosupport),
        allow("TCP by default", &[INET, masked(1, SOCK_TYPE, SOCK_STREAM), is(2, 0)]),
        allow("TCP", &[INET, masked(1, SOCK_TYPE, SOCK_STREAM), is(2, 6)]),
        allow("UDP by default", &[INET, masked(1, SOCK_TYPE, SOCK_DGRAM), is(2, 0)]),
        allow("UDP", &[INET, masked(1, SOCK_TYPE, SOCK_DGRAM), is(2, 17)]),
        // MPTCP among them, which reaches TCP listeners past Landlock's rules.
        deny("other AF_INET and AF_INET6", &[INET], Errno::Eprotonosupport),
    ],
    Errno::Eafnosupport,
);
/// `AF_INET` (2) and `AF_INET6` (10) differ in one bit, and no other family has their three.
const INET: Condition = masked(0, !8, 2);

pub(super) const SOCKETPAIR: Class = same(
    "pairs of other families do not exist or are not for programs",
    only(&[UNIX_SOCKET], Errno::Eafnosupport),
);

const SEND_FLAGS: &str = "MSG_FASTOPEN connects past Landlock's rules; MSG_OOB on AF_UNIX sockets \
                          has been a way into the kernel";
pub(super) const SEND_FLAGS_2: Class = same(
    SEND_FLAGS,
    only(&[allow("no MSG_FASTOPEN, no MSG_OOB", &[none_of(2, 0x2000_0001)])], Errno::Eopnotsupp),
);
pub(super) const SEND_FLAGS_3: Class = same(
    SEND_FLAGS,
    only(&[allow("no MSG_FASTOPEN, no MSG_OOB", &[none_of(3, 0x2000_0001)])], Errno::Eopnotsupp),
);
/// The gate is told of an address beside the words. Lower halves of pointers are what is looked at, so
/// one whose lower half is 0 is not told of; nobody is let through by that.
const SEND_TO: Rule = Rule {
    cases: &[
        deny("MSG_FASTOPEN", &[masked(3, 0x2000_0000, 0x2000_0000)], Errno::Eopnotsupp),
        deny("MSG_OOB", &[masked(3, 1, 1)], Errno::Eopnotsupp),
        allow("no address", &[is(4, 0)]),
        // `struct sockaddr_in` has 16 bytes; the resolver of the C library sends to netlink's 12.
        allow("an address too short for a host", &[none_of(5, !15)]),
    ],
    otherwise: Action::Ask,
};
pub(super) const SEND_TO_ADDRESS: Class =
    Class { because: SEND_FLAGS, strict: SEND_FLAGS_3.strict, standard: SEND_TO, debug: SEND_TO };
pub(super) const CONNECT: Class = Class {
    because: "the gate hears who wants to reach what, and refuses at once what nothing allows; it \
              lets nobody through, because the address lies in memory",
    strict: ALLOW,
    standard: ASK,
    debug: ASK,
};
pub(super) const SETSOCKOPT: Class = same(
    "changes what a connection is after it was judged, or loads programs into the kernel",
    all_but(&[
        deny("TCP_REPAIR", &[is(1, SOL_TCP), is(2, 19)], Errno::Enoprotoopt),
        deny("TCP_FASTOPEN_CONNECT", &[is(1, SOL_TCP), is(2, 30)], Errno::Enoprotoopt),
        deny("TCP_ULP", &[is(1, SOL_TCP), is(2, 31)], Errno::Enoprotoopt),
        deny("SO_ATTACH_FILTER", &[is(1, SOL_SOCKET), is(2, 26)], Errno::Enoprotoopt),
        deny("SO_ATTACH_BPF", &[is(1, SOL_SOCKET), is(2, 50)], Errno::Enoprotoopt),
        deny("SO_ATTACH_REUSEPORT_CBPF", &[is(1, SOL_SOCKET), is(2, 51)], Errno::Enoprotoopt),
        deny("SO_ATTACH_REUSEPORT_EBPF", &[is(1, SOL_SOCKET), is(2, 52)], Errno::Enoprotoopt),
    ]),
);
// FIOSETOWN stays, as F_SETOWN of fcntl does: its signals end at the run's own pid namespace, and
// without a rule the kernel never runs the filter for fcntl.
pub(super) const IOCTL: Class = same(
    "types into a terminal, takes over the console, or loads a line discipline",
    all_but(&[
        deny("TIOCSTI", &[is(1, 0x5412)], Errno::Eperm),
        deny("TIOCLINUX", &[is(1, 0x541c)], Errno::Eperm),
        deny("TIOCCONS", &[is(1, 0x541d)], Errno::Eperm),
        deny("TIOCSETD", &[is(1, 0x5423)], Errno::Eperm),
    ]),
);

// Memory.

pub(super) const MEMFD: Class = Class {
    because: "a file without a path, which no file rule sees: the gate makes one that can never \
              become a program; reading needs none",
    strict: ENOSYS,
    standard: ASK,
    debug: ASK,
};
pub(super) const VMSPLICE: Class = Class {
    because: "gives pages of memory to pipes, a way into the kernel before; reading needs none",
    strict: ENOSYS,
    standard: ALLOW,
    debug: ALLOW,
};
pub(super) const MEMORY_TRICKS: Class =
    same("hardly used but in attacks on the kernel; programs do without", ENOSYS);
pub(super) const PAGE_MOVES: Class =
    same("moves the memory of other processes too; one's own policy can be set", EPERM);

// The kernel and the machine.

pub(super) const IO_URING: Class = same("does other calls' work behind the filter's back", ENOSYS);
pub(super) const KEYRINGS: Class =
    same("keys belong to the user and not to the run, and requests start programs", ENOSYS);
pub(super) const KERNEL_PROBES: Class =
    same("loads programs into the kernel or measures all of it", EPERM);
pub(super) const KERNEL_IMAGE: Class = same("replaces or ends the running kernel", EPERM);
pub(super) const MACHINE: Class = same("administers the machine, not the run", EPERM);
pub(super) const PORTS: Class = same("talks to hardware past the kernel", EPERM);
pub(super) const LSM_ATTRIBUTES: Class =
    same("changes the label that the host's security module gave the run", EPERM);
pub(super) const OBSOLETE: Class = same("no program of this century needs it", ENOSYS);

// How a rule is written.

const ALLOW: Rule = Rule { cases: &[], otherwise: Action::Allow };
const ASK: Rule = Rule { cases: &[], otherwise: Action::Ask };
const EPERM: Rule = Rule { cases: &[], otherwise: Action::Errno(Errno::Eperm) };
const ENOSYS: Rule = Rule { cases: &[], otherwise: Action::Errno(Errno::Enosys) };

/// One rule for all columns.
const fn same(because: &'static str, rule: Rule) -> Class {
    Class { because, strict: rule, standard: rule, debug: rule }
}

/// Refused but for these cases.
const fn only(cases: &'static [Case], otherwise: Errno) -> Rule {
    Rule { cases, otherwise: Action::Errno(otherwise) }
}

/// Allowed but for these cases.
const fn all_but(cases: &'static [Case]) -> Rule {
    Rule { cases, otherwise: Action::Allow }
}

const fn allow(what: &'static str, when: &'static [Condition]) -> Case {
    Case { what, when, action: Action::Allow }
}

const fn deny(what: &'static str, when: &'static [Condition], errno: Errno) -> Case {
    Case { what, when, action: Action::Errno(errno) }
}

const fn is(argument: u8, value: u32) -> Condition {
    masked(argument, !0, value)
}

const fn none_of(argument: u8, bits: u32) -> Condition {
    masked(argument, bits, 0)
}

const fn masked(argument: u8, mask: u32, value: u32) -> Condition {
    Condition { argument, mask, value }
}

// linux/sched.h
const CLONE_FS: u32 = 0x200;
const CLONE_FILES: u32 = 0x400;
const CLONE_NEWNS: u32 = 0x2_0000;
const CLONE_SYSVSEM: u32 = 0x4_0000;
/// Such a child is not seen by whoever traces its parent.
const CLONE_UNTRACED: u32 = 0x80_0000;
const CLONE_NEWCGROUP: u32 = 0x200_0000;
const CLONE_NEWUTS: u32 = 0x400_0000;
const CLONE_NEWIPC: u32 = 0x800_0000;
const CLONE_NEWUSER: u32 = 0x1000_0000;
const CLONE_NEWPID: u32 = 0x2000_0000;
const CLONE_NEWNET: u32 = 0x4000_0000;

// asm-generic/fcntl.h
const O_CREAT: u32 = 0o100;
/// `__O_TMPFILE`, without the directory bit that differs between architectures.
const TMPFILE: u32 = 0o20_000_000;

// linux/stat.h
const S_IFMT: u32 = 0o170_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;

// linux/socket.h and linux/net.h
const AF_UNIX: u32 = 1;
const AF_NETLINK: u32 = 16;
const SOL_SOCKET: u32 = 1;
const SOL_TCP: u32 = 6;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
/// Above these bits lie `SOCK_NONBLOCK` and `SOCK_CLOEXEC`.
const SOCK_TYPE: u32 = 0xf;
