#![cfg(test)]
//! What holds anywhere: no kernel feature needed.

mod terminal;
