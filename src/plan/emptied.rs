//! What was full in the last backup and is empty now: told apart from what was always empty, and from what is new.

use crate::manifest::{Manifest, SourceRecord};
use crate::model::TableId;

/// What a person should hear about sources and tables that have lost all their rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emptied {
    /// A whole source without a row, where the last backup had some: somebody must look.
    pub sources: Vec<String>,
    /// Single tables: they are emptied in the ordinary course of things (staging), so this is only told.
    pub tables: Vec<String>,
}

/// Holds the sources of a new backup against those of the last one.
pub fn emptied(last: &Manifest, sources: &[SourceRecord]) -> Emptied {
    let mut found = Emptied::default();
    for source in sources {
        let Some(before) = last.sources.iter().find(|before| before.name() == source.name()) else { continue };
        let (had, has) = (before.row_count(), source.row_count());
        if had > 0 && has == 0 {
            found.sources.push(format!(
                "source '{}' is empty, the last backup ({}) holds {had} rows of it; hint: if that was not meant, \
                 `strongroom restore {}`, and keep that backup",
                source.name(),
                last.name,
                last.name
            ));
            continue;
        }
        let now = tables(source);
        for (table, had) in tables(before).into_iter().filter(|(_, had)| *had > 0) {
            if now.iter().any(|(other, has)| *other == table && *has == 0) {
                found.tables.push(format!("{table}: is empty, the last backup ({}) holds {had} rows of it", last.name));
            }
        }
    }
    found
}

fn tables(source: &SourceRecord) -> Vec<(&TableId, u64)> {
    source.tables().iter().map(|table| (&table.table, table.row_count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(tables: &[(&str, u64)], tab_rows: u64) -> Manifest {
        let object = json!({"key": "k", "size_bytes": 1, "crc32c": "AAAAAA==", "sha256": "00".repeat(32)});
        let tables: Vec<_> = tables
            .iter()
            .map(|(name, rows)| {
                json!({
                    "table": format!("p.d.{name}"), "snapshot": "p.s.x", "snapshot_expires_at": "2026-08-08T00:00:00Z",
                    "meta": object, "row_count": rows, "logical_bytes": 0, "format": "avro", "format_reason": null,
                    "objects": [], "proof": null,
                })
            })
            .collect();
        let tab = json!({"title": "t", "row_count": tab_rows, "column_count": 1, "cells": object, "csv": object, "parquet": object});
        serde_json::from_value(json!({
            "format": 1, "name": "x_daily_backup_2026-08-01T02-00-00Z", "tier": "daily", "commit_id": "c", "tool": "t",
            "run": "r", "generation": 1, "started_at": "2026-08-01T02:00:00Z", "cut_at": null,
            "committed_at": "2026-08-01T02:00:00Z", "validation": [], "pause": null, "timings": [], "previous": null,
            "notes": [],
            "sources": [
                {"kind": "bigquery", "name": "warehouse", "dataset": "p.d", "location": "US", "meta": object,
                 "tables": tables, "views": [], "routines": []},
                {"kind": "sheets", "name": "mappings", "spreadsheet": "s", "title": "m",
                 "taken_at": "2026-08-01T02:00:00Z", "tabs": [tab]},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn only_a_whole_source_asks_for_attention() {
        let last = manifest(&[("always_empty", 0), ("staging", 7), ("facts", 9)], 3);
        let of = |tables: &[(&str, u64)], tabs| emptied(&last, &manifest(tables, tabs).sources);
        assert_eq!(of(&[("always_empty", 0), ("staging", 7), ("facts", 9)], 3), Emptied::default());
        assert_eq!(of(&[("always_empty", 0), ("staging", 7), ("facts", 9), ("new", 0)], 3), Emptied::default());
        assert_eq!(of(&[("always_empty", 5), ("facts", 9)], 3), Emptied::default(), "dropped is not emptied");

        let one = of(&[("staging", 0), ("facts", 9)], 3);
        assert_eq!(one.sources, [""; 0]);
        assert!(one.tables[0].starts_with("p.d.staging: is empty, the last backup"), "{one:?}");

        let all = of(&[("staging", 0), ("facts", 0)], 3);
        assert!(all.sources[0].starts_with("source 'warehouse' is empty") && all.tables.is_empty(), "{all:?}");
        assert!(of(&[], 3).sources.len() == 1, "no tables at all");
        assert!(of(&[("staging", 7)], 0).sources[0].starts_with("source 'mappings' is empty"));

        let empty = manifest(&[("a", 0)], 0);
        assert_eq!(emptied(&empty, &manifest(&[("a", 0)], 0).sources), Emptied::default());
    }
}
