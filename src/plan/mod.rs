//! (config, facts, now) to plans. Pure.
