//! System calls, one wrapper each: the only module that may be unsafe.

pub(crate) mod terminal;
