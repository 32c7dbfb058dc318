#![cfg(test)]
//! What holds anywhere: no kernel feature needed.

mod syscalls;
mod terminal;
