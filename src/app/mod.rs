//! Wiring, the clock, the environment, exit codes.
