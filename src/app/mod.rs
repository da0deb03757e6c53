//! Wiring: files, environment, clock, randomness, signals, exit codes. The only reader of the environment.

mod builtin;
mod exit;
mod rehearsal;
mod wire;

pub use exit::{Exit, of_error};
pub use wire::{Problem, connect, load};
