//! Real sandboxes, as an ordinary user: what holds, shown beside the same act without one.
#![cfg(test)]

mod attempt;
mod doctor;
mod escape;
mod faults;
mod harness;
mod limits;
mod run;
mod signals;
