//! The `rung` program: asks the clock and the environment once, and hands them to the front.
//!
//! This is the only place that does. Everything below takes what it needs as arguments.

use std::process::ExitCode;

#[global_allocator]
static ARENA: rung::Arena = rung::Arena;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the clock")]
    let now = std::time::SystemTime::now();
    rung::front::main(std::env::args_os(), std::env::vars_os(), now)
}
