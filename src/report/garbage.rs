//! What no manifest reaches, as text.

use super::bytes;
use crate::plan::garbage::{GarbagePlan, Piece};

/// A line for each piece that is removed, and for what is left alone.
pub fn plan(plan: &GarbagePlan, dry_run: bool) -> String {
    let word = if dry_run { "would remove" } else { "removed" };
    let mut out = String::new();
    for piece in &plan.remove {
        out.push_str(&match piece {
            Piece::Objects { place, folder, objects, why } => {
                let size = objects.iter().map(|object| object.size_bytes).sum();
                format!("{word} {} objects ({}) of {place}/{folder}: {why}\n", objects.len(), bytes(size))
            }
            Piece::Own { objects, why } => {
                let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
                format!("{word} {}: {why}\n", keys.join(", "))
            }
            Piece::Marks { backup, why } => format!("{word} the marks of {backup}: {why}\n"),
            Piece::Snapshot { table, why } => format!("{word} snapshot {table}: {why}\n"),
            Piece::Scratch { dataset, why, .. } => format!("{word} dataset {dataset}: {why}\n"),
            Piece::Journal { run, why } => format!("{word} the journal of run {run}: {why}\n"),
        });
    }
    for spared in &plan.spared {
        out.push_str(&format!("left alone {spared}\n"));
    }
    out
}
