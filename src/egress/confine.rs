//! The walls of the gateway itself, in place before it reads its first byte.
//!
//! It talks to whatever the sandbox sends and whatever the internet answers, so it is treated like
//! both: no file can be opened, no program started, no capability used, and TCP goes to the ports of
//! the plan only. A call that is not on the list ends it, and with it the network of the run.

use std::collections::BTreeMap;

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::plan::egress::EgressPlan;
use crate::sys::{capability, process, seccomp};

/// Descriptors of one connection: two sockets and two pipes.
const DESCRIPTORS_EACH: u64 = 6;
/// The sandbox's listeners, the channel, what the runtime needs, and questions to name servers.
const DESCRIPTORS_BESIDE: u64 = 256;
const DESCRIPTORS_MAX: u64 = 4096;
/// Connections at once, where the machine allows that many descriptors.
const CONNECTIONS_MAX: u64 = 512;
/// Ports that are named to Landlock one by one.
const PORT_RULES_MAX: usize = 4096;
/// More than all connections together can need.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// Why a wall does not stand.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    #[error("setting its limits failed: {0}")]
    Limits(Errno),
    #[error("giving up capabilities failed: {0}")]
    Capabilities(Errno),
    #[error("entering its Landlock domain failed: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("its system call filter could not be made: {0}")]
    Filter(String),
    #[error("loading its system call filter failed: {0}")]
    Load(Errno),
}

/// Sets the limits of the process; returns how many connections it can hold at once.
pub(super) fn limits() -> Result<usize, ConfineError> {
    let set = |resource, value| setrlimit(resource, value, value).map_err(ConfineError::Limits);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(ConfineError::Limits)?;
    let descriptors = hard.min(DESCRIPTORS_MAX);
    set(Resource::RLIMIT_NOFILE, descriptors)?;
    set(Resource::RLIMIT_CORE, 0)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_DATA).map_err(ConfineError::Limits)?;
    set(Resource::RLIMIT_DATA, hard.min(MEMORY_BYTES_MAX))?;
    let connections = descriptors.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH;
    Ok(usize::try_from(connections.clamp(1, CONNECTIONS_MAX)).unwrap_or(1))
}

/// Builds the walls around this process, which has one thread.
pub(super) fn confine(plan: &EgressPlan) -> Result<(), ConfineError> {
    process::clear_ambient().map_err(ConfineError::Capabilities)?;
    capability::drop_all().map_err(ConfineError::Capabilities)?;
    process::dumpable(false).map_err(ConfineError::Capabilities)?;
    landlock(plan)?;
    process::no_new_privs().map_err(ConfineError::Capabilities)?;
    let filter = filter()?;
    seccomp::load(&filter).map_err(ConfineError::Load)
}

/// As much of it as this kernel knows: the filter below says the same about files.
fn landlock(plan: &EgressPlan) -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let named = || plan.destinations.iter().flat_map(|it| it.ports.iter().map(|it| it.all()));
    // Each port is a rule of its own; a wide range leaves it to the decision which of them it is.
    let narrow = named().map(|it| it.len()).sum::<usize>() <= PORT_RULES_MAX;
    let handled = if narrow { AccessNet::from_all(abi) } else { AccessNet::BindTcp.into() };
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(handled)?
        .scope(Scope::from_all(abi))?
        .create()?;
    if !narrow {
        return Ok(ruleset.restrict_self().map(drop)?);
    }
    let named = named().flatten();
    let asked = plan.nameservers.iter().map(std::net::SocketAddr::port);
    for port in named.chain(asked) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    ruleset.restrict_self().map(drop)?;
    Ok(())
}

/// What it does: sockets, pipes, time, its own memory.
const CALLS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pipe2,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_splice,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

fn filter() -> Result<Vec<seccomp::Instruction>, ConfineError> {
    fn failed(error: impl std::fmt::Display) -> ConfineError {
        ConfineError::Filter(error.to_string())
    }
    let condition = |argument, operator, value: i32| {
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(failed)
    };
    let rule = |condition| SeccompRule::new(vec![condition]).map_err(failed);
    let is = |argument, value| rule(condition(argument, SeccompCmpOp::Eq, value)?);
    let never = |argument, bit: i32| {
        let mask = SeccompCmpOp::MaskedEq(u64::from(bit.cast_unsigned()));
        rule(condition(argument, mask, 0)?)
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|number| (*number, Vec::new())).collect();
    let families = vec![is(0, libc::AF_INET)?, is(0, libc::AF_INET6)?];
    rules.insert(libc::SYS_socket, families);
    let nonblocking = i32::try_from(libc::FIONBIO).map_err(failed)?;
    rules.insert(libc::SYS_ioctl, vec![is(1, nonblocking)?]);
    rules.insert(libc::SYS_mmap, vec![never(2, libc::PROT_EXEC)?]);
    rules.insert(libc::SYS_mprotect, vec![never(2, libc::PROT_EXEC)?]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .map_err(failed)?;
    let program = BpfProgram::try_from(filter).map_err(failed)?;
    let instruction = |it: seccompiler::sock_filter| seccomp::Instruction {
        code: it.code,
        if_true: it.jt,
        if_false: it.jf,
        k: it.k,
    };
    Ok(program.into_iter().map(instruction).collect())
}
