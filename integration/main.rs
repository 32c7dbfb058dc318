//! Real sandboxes, as an ordinary user: what holds, shown beside the same act without one.
#![cfg(test)]

mod attempt;
mod audit;
mod caches;
mod catalogue;
mod crash;
mod doctor;
mod egress;
mod escape;
mod exec;
mod faults;
mod fetched;
mod fs;
mod harness;
mod learn;
mod limits;
mod net;
mod replay;
mod repositories;
mod residuals;
mod run;
mod session;
mod session_limits;
mod session_names;
mod session_race;
mod shell;
mod signals;
mod streams;
mod why;
mod worktree;
