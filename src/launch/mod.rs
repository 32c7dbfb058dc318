//! Carries out a plan: the only module that makes processes, and the one that supervises them.

pub mod output;
pub mod screen;
mod tail;
pub mod terminal;
mod unblocked;

pub use output::{Ends, Relay, RelayError, Relayed};
pub use screen::{Removal, Removed, Screen};
pub use terminal::{Passing, Terminal, TerminalError};
