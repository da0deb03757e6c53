//! Backups that a person asks for: which kind, and how long each is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidName, Period};

/// What a backup by hand is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person's own purpose.
    #[default]
    Manual,
    /// Before a change: kept until somebody says that the change is verified.
    PreChange,
    /// Before worse comes.
    Emergency,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Manual, Self::PreChange, Self::Emergency];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::PreChange => "pre_change",
            Self::Emergency => "emergency",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong =
            || InvalidName { what: "kind of backup", text: text.into(), hint: "manual, pre_change or emergency" };
        Self::ALL.into_iter().find(|kind| kind.name() == text.replace('-', "_")).ok_or_else(wrong)
    }
}

/// What is said of a backup by hand beside its purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    pub kind: Kind,
    /// The change's ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Instead of what the configuration says for its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Period>,
}
