//! Rung runs the commands that coding agents ask for.
//!
//! Each command is decided by the profile of one level of a six-level permission ladder, then
//! launched inside namespaces with a Landlock ruleset, a seccomp filter and limits that this
//! profile names; every decision and its outcome is written to a tamper-evident ledger.
//!
//! # The map
//!
//! ```text
//!  words    front/    what people and agents touch
//!  order    engine    decide -> compile -> record -> launch -> conclude
//!  effects  host  launch/  egress/  session/  ledger/  siblings; none names another
//!  kernel   sys/      one wrapper per system call; `unsafe` lives here and
//!                                   where `launch` and `host` start a child
//!  ======== below this line nothing touches files, clock, environment, network or processes
//!  pure     plan/ -> policy/ -> profile/ -> model/
//! ```
//!
//! # Invariants
//!
//! - Nothing runs that was not permitted, compiled and recorded: each step of the pipeline takes
//!   what only the step before can make.
//! - The kernel holds the promise; reading the command line only narrows it.
//! - Nothing weakens silently: what the host cannot do is a gap in the plan or a refusal.
//! - An empty list allows nothing; an internal error is a refusal.
//! - No file is created in the user's tree, and no tree is walked to start a command.

pub mod egress;
pub mod engine;
pub mod front;
pub mod host;
pub mod launch;
pub mod ledger;
pub mod model;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod session;
mod sys;

pub use sys::arena::Arena;
