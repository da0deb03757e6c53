//! Sources whose data passes through this process: what is known of one, what a backup and a restore of one would do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::model::Pattern;

/// What the inventory found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamedFacts {
    /// The source's name in the configuration.
    pub name: String,
    /// What it is, without secrets: an address, a path.
    pub origin: String,
    pub items: Vec<ItemFacts>,
    pub notes: Vec<String>,
    pub refusals: Vec<Refusal>,
    /// Why nothing of it is backed up, where that is as it should be: it is switched off.
    pub skipped: Option<String>,
}

/// A table, a file, a secret; what is not known without reading it all is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ItemFacts {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// What a backup will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamedPlan {
    pub name: String,
    /// As in the configuration: `postgres`, `files`, ...
    pub source: &'static str,
    pub origin: String,
    pub items: Vec<ItemFacts>,
    /// Why nothing of it is backed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// What a person asked for of a restore, as far as it is about such sources.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Wish {
    /// What is there may be replaced.
    pub replace: bool,
    /// Another database instead of the backup's own.
    pub target_db: Option<String>,
    /// Another directory or file.
    pub to: Option<PathBuf>,
    /// Only these files; empty: all.
    pub paths: Vec<Pattern>,
    /// The run that restores, in the names of what it makes.
    pub run: String,
    pub parallel: usize,
}

/// What a restore will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamedRestore {
    pub source: String,
    pub origin: String,
    pub target: String,
    /// Whether something is there that will be replaced.
    pub replaces: bool,
    pub items: Vec<ItemFacts>,
    pub notes: Vec<String>,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredSource {
    pub source: String,
    pub target: String,
    pub items: Vec<RestoredItem>,
    /// What differs from the backup.
    pub differences: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoredItem {
    pub name: String,
    pub row_count: Option<u64>,
    pub expected_row_count: Option<u64>,
    /// Whether content and figures are those of the backup; `None` when none were recorded.
    pub proven: Option<bool>,
}
