//! Why something in the catalog is not believed.

use std::fmt;

use serde::Serialize;

/// Something that is not as the signatures, the chronicle or the copies say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Doubt {
    pub kind: DoubtKind,
    /// The whole address of what is doubted.
    pub place: String,
    pub message: String,
}

/// The kinds of tampering, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DoubtKind {
    /// It is not what was signed, lies elsewhere than it was signed for, or is signed by nobody who is trusted.
    Changed,
    /// Two histories claim the same place.
    Forked,
    /// It ends earlier than something that has seen more of it.
    RolledBack,
    /// It was removed, and is there again.
    Replayed,
    /// It is gone, and nobody who is trusted has removed it.
    Removed,
    /// It is of a time that has not come.
    Future,
    /// It carries no signature, where signatures are asked for.
    Unsigned,
}

impl Doubt {
    pub fn new(kind: DoubtKind, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, place: place.into(), message: message.into() }
    }
}

impl fmt::Display for DoubtKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Forked => "forked",
            Self::RolledBack => "rolled back",
            Self::Replayed => "replayed",
            Self::Removed => "removed",
            Self::Future => "future",
            Self::Unsigned => "unsigned",
        })
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, self.place, self.message)
    }
}
