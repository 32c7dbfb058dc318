//! Tests that run anywhere: no kernel feature, no root, no network.
#![cfg(test)]

mod commands;
mod profiles;
