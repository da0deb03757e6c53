//! A BigQuery dataset: what is in it, its snapshots, its extracts, and how it is made again.

mod definition;
mod inventory;
mod jobs;
mod rebuild;
mod staging;

pub use definition::{Definition, comparable};
pub use inventory::inventory;
pub use jobs::{
    JobIds, cut_instant, drop_tables, ensure_snapshot_dataset, extract, load, put_back, settle, snapshot, unsnapshot,
};
pub use rebuild::{
    apply_policies, constraints, dataset_differences, finish_dataset, make_dataset, make_routine, make_table,
    make_view, policy_differences, repair, tie_table,
};
pub use staging::load_in_parts;
