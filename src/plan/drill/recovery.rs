//! Which way back is quicker: BigQuery's own memory of a table, or the backup's files.

use serde::{Deserialize, Serialize};

/// How a table is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// BigQuery still knows the table as it was before the accident.
    TimeTravel,
    /// The files of the backup are loaded.
    Files,
}

/// The way, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub way: Way,
    pub reason: String,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccidentFacts {
    /// How far back BigQuery remembers a table of the dataset.
    pub window_seconds: u64,
    /// How long after the accident it is noticed.
    pub noticed_after_seconds: u64,
    pub size_bytes: u64,
}

/// A copy inside BigQuery moves no bytes; a load reads the files. Both are jobs, which take seconds to begin.
const COPY_SECONDS: u64 = 10;
const LOAD_SECONDS: u64 = 15;
/// What one load job reads in a second: a careful figure, the shared pool gives no promise
/// (<https://cloud.google.com/bigquery/docs/batch-loading-data#pricing>).
const LOAD_BYTES_PER_SECOND: u64 = 50_000_000;

/// Chooses the way back after rows of one table were deleted.
pub fn after_deletion(facts: AccidentFacts) -> Recovery {
    let hours = |seconds: u64| seconds / 3600;
    if facts.noticed_after_seconds >= facts.window_seconds {
        let reason = format!(
            "the accident is noticed after {} h, BigQuery remembers a table for {} h: the backup's files are the only way",
            hours(facts.noticed_after_seconds),
            hours(facts.window_seconds)
        );
        return Recovery { way: Way::Files, reason };
    }
    let load_seconds = LOAD_SECONDS + facts.size_bytes / LOAD_BYTES_PER_SECOND;
    let reason = format!(
        "BigQuery remembers the table for {} h: a copy of it as it was before the accident takes about {COPY_SECONDS} s and \
         also has what was written after the backup; loading the backup's files takes about {load_seconds} s",
        hours(facts.window_seconds),
    );
    Recovery { way: Way::TimeTravel, reason }
}

/// After a table was deleted: always the files.
pub fn after_table_loss() -> Recovery {
    let reason = "a deleted table that ingestion makes anew is forgotten by BigQuery, with its labels, policies and \
                  descriptions: the backup has all of it";
    Recovery { way: Way::Files, reason: reason.into() }
}

/// After rows were changed: always the files.
pub fn after_corruption() -> Recovery {
    let reason = "nobody knows when the first row was changed; the backup's rows are proven by their fingerprint";
    Recovery { way: Way::Files, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_travel_is_chosen_while_it_reaches_back() {
        let facts = AccidentFacts { window_seconds: 7 * 86_400, noticed_after_seconds: 3600, size_bytes: 1 << 40 };
        let chosen = after_deletion(facts);
        assert_eq!(chosen.way, Way::TimeTravel);
        assert!(chosen.reason.contains("168 h") && chosen.reason.contains("about 22005 s"), "{}", chosen.reason);
        let late = after_deletion(AccidentFacts { noticed_after_seconds: 7 * 86_400, ..facts });
        assert_eq!(late.way, Way::Files);
        assert!(late.reason.contains("only way"), "{}", late.reason);
    }
}
