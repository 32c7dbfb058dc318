//! Tests that run anywhere: no kernel feature, no root, no network.
#![cfg(test)]

mod catalogue;
mod chain;
mod cli;
mod commands;
mod execs;
mod hosts;
mod ladder;
mod plans;
mod profiles;
mod shell;
mod syscalls;
mod terminal;
mod tidy;
