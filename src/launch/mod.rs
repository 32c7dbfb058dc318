//! Carries out a plan: the only module that makes processes, and the one that supervises them.

pub mod screen;

pub use screen::{Removal, Removed, Screen};
