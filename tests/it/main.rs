#![cfg(test)]

mod chain;
