#![cfg(test)]

mod syscalls;
