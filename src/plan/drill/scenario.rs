//! What may happen, and what a drill of it is about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::InvalidName;

/// A disaster that is rehearsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    Rehearsal,
    DatasetLoss,
    TableLoss,
    AccidentalDeletion,
    CorruptedRows,
    ServiceFailure,
    KeyCompromise,
    BucketLoss,
    ProjectLoss,
}

impl Scenario {
    pub const ALL: [Self; 9] = [
        Self::Rehearsal,
        Self::DatasetLoss,
        Self::TableLoss,
        Self::AccidentalDeletion,
        Self::CorruptedRows,
        Self::ServiceFailure,
        Self::KeyCompromise,
        Self::BucketLoss,
        Self::ProjectLoss,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rehearsal => "rehearsal",
            Self::DatasetLoss => "dataset-loss",
            Self::TableLoss => "table-loss",
            Self::AccidentalDeletion => "accidental-deletion",
            Self::CorruptedRows => "corrupted-rows",
            Self::ServiceFailure => "service-failure",
            Self::KeyCompromise => "key-compromise",
            Self::BucketLoss => "bucket-loss",
            Self::ProjectLoss => "project-loss",
        }
    }

    /// A heading for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Rehearsal => "Rehearsal of a restore",
            Self::DatasetLoss => "Loss of the whole dataset",
            Self::TableLoss => "Loss of one table",
            Self::AccidentalDeletion => "Rows of one table deleted by accident",
            Self::CorruptedRows => "Rows changed by a faulty program",
            Self::ServiceFailure => "Failure of the ingestion service",
            Self::KeyCompromise => "A key in the wrong hands",
            Self::BucketLoss => "Loss of the primary bucket",
            Self::ProjectLoss => "Loss of the whole project",
        }
    }

    /// What is done, in words for somebody who knows no BigQuery.
    pub const fn story(self) -> &'static str {
        match self {
            Self::Rehearsal => {
                "The backup was restored into an empty place beside the real data, and compared with what was backed up, row by row."
            }
            Self::DatasetLoss => {
                "A copy of all data was made beside the real one and deleted as a whole; then it was brought back from the backup and compared."
            }
            Self::TableLoss => {
                "One table of a copy of the data was deleted; the loss was found, and the table brought back from the backup."
            }
            Self::AccidentalDeletion => {
                "Half of the rows of one table were deleted in a copy of the data; the loss was found, and the rows brought back."
            }
            Self::CorruptedRows => {
                "Figures in one table of a copy of the data were changed; the change was found by the fingerprint, and the table replaced from the backup."
            }
            Self::ServiceFailure => {
                "The service that brings in new data was taken for broken: a copy of it was deployed, asked for its health, and called without effect."
            }
            Self::KeyCompromise => {
                "A key was taken for stolen: a replacement was stored, the old one made unusable, the service restarted, and the usage searched for anomalies."
            }
            Self::BucketLoss => {
                "The bucket with the backups was taken for lost: the backup was restored from its copy in another place, and compared."
            }
            Self::ProjectLoss => {
                "The whole project was taken for lost: the backup was restored into another project, and compared."
            }
        }
    }

    /// Whether the whole backup is restored and compared: what proves it.
    pub const fn proves_the_backup(self) -> bool {
        matches!(self, Self::Rehearsal | Self::DatasetLoss | Self::BucketLoss | Self::ProjectLoss)
    }

    /// Whether data is restored at all.
    pub const fn restores(self) -> bool {
        !matches!(self, Self::ServiceFailure | Self::KeyCompromise)
    }

    /// Whether the damage is done to one table.
    pub const fn hits_one_table(self) -> bool {
        matches!(self, Self::TableLoss | Self::AccidentalDeletion | Self::CorruptedRows)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scenario {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hint = "rehearsal, dataset-loss, table-loss, accidental-deletion, corrupted-rows, service-failure, key-compromise, bucket-loss, project-loss";
        let wrong = || InvalidName { what: "scenario", text: text.into(), hint };
        Self::ALL.into_iter().find(|scenario| scenario.name() == text).ok_or_else(wrong)
    }
}
