#![cfg(test)]
//! Anywhere: no kernel feature is needed here.

mod commands;
