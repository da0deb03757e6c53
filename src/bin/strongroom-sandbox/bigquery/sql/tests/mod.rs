//! Queries over a catalog in memory: `cases/*.txt` hold statements and what must come of them.

mod cases;
mod catalog;
mod compliance;
