//! Real sandboxes, started as an ordinary user.
#![cfg(test)]
