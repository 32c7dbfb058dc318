#![cfg(test)]

mod profiles;
