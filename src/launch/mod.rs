//! Carries out a plan: the only module that makes processes, and the one that supervises them.

pub mod screen;
pub mod terminal;
mod unblocked;

pub use screen::{Removal, Removed, Screen};
pub use terminal::{Passing, Terminal, TerminalError};
