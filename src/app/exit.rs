//! Exit codes, and which error gives which.

use crate::catalog::{CatalogError, LeaseError};
use crate::job::JobError;
use crate::job::verify::VerifiedState;
use crate::manifest::DoubtKind;
use crate::model::Failure;

/// The program's exit codes. 0 means that all that was asked was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Something failed; what was done was taken back.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Done, but not all of it is as it should be.
    Partial = 3,
    /// Something stands against it; nothing was changed.
    Refused = 4,
    /// `status` found something that a person should look at.
    Attention = 5,
    /// `backup`: done, but a source that the last backup holds rows of is empty.
    Emptied = 6,
    /// `diff`: rows differ.
    Differs = 7,
    /// `validate`: no critical query failed, but not every one could be run.
    NotRun = 8,
    /// A drill brought all back, but later, or from longer ago, than the objectives allow.
    Late = 9,
    /// There is no such backup or drill.
    NotFound = 10,
    /// Another run holds the lease.
    Locked = 11,
    /// What is stored is not what was written.
    Corrupt = 12,
    /// A critical validation query failed.
    Invalid = 13,
    /// The credentials do not allow it.
    Denied = 14,
    /// The catalog: something is not what was signed, or two histories claim its place.
    Tampered = 15,
    /// The catalog, or its chronicle, ends earlier than something that has seen more of it.
    RolledBack = 16,
    /// A backup was removed, and is there again.
    Replayed = 17,
    /// A backup is gone, and nobody who is trusted has removed it.
    Removed = 18,
    /// A backup is dated in the future.
    Future = 19,
    /// A backup is not signed, where signatures are asked for.
    Unsigned = 20,
    /// The backup is sealed, and no key at hand opens it.
    Sealed = 21,
    /// `verify`: something is not there; all that is there is what was written.
    Missing = 22,
    /// Stopped by a signal; what was done was taken back.
    Interrupted = 130,
}

impl Exit {
    /// A stable name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Attention => "attention",
            Self::Emptied => "emptied",
            Self::Differs => "differs",
            Self::NotRun => "not_run",
            Self::Late => "late",
            Self::NotFound => "not_found",
            Self::Locked => "locked",
            Self::Corrupt => "corrupt",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Tampered => "tampered",
            Self::RolledBack => "rolled_back",
            Self::Replayed => "replayed",
            Self::Removed => "removed",
            Self::Future => "future",
            Self::Unsigned => "unsigned",
            Self::Sealed => "sealed",
            Self::Missing => "missing",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of an error.
pub fn of_error(error: &JobError) -> Exit {
    match error {
        JobError::Refused(_) => Exit::Refused,
        JobError::Catalog(error) => match error {
            CatalogError::NotFound(_) => Exit::NotFound,
            CatalogError::Broken { .. } => Exit::Corrupt,
            CatalogError::Doubted(doubt) => of_doubt(doubt.kind),
            CatalogError::Store(failure) => of_failure(failure),
        },
        JobError::Lease(error) => match error {
            LeaseError::Held { .. } => Exit::Locked,
            LeaseError::Lost => Exit::Failed,
            LeaseError::Store(failure) => of_failure(failure),
        },
        JobError::Failure(failure) => of_failure(failure),
        JobError::Journal(_) => Exit::Failed,
        JobError::Skipped(_) => Exit::Done,
        JobError::Interrupted => Exit::Interrupted,
        JobError::Step { cause, .. } => of_error(cause),
    }
}

/// The exit code of what a verification comes to.
pub const fn of_verification(state: VerifiedState) -> Exit {
    match state {
        VerifiedState::Corrupt => Exit::Corrupt,
        VerifiedState::Missing => Exit::Missing,
        VerifiedState::Sealed => Exit::Sealed,
        VerifiedState::Complete => Exit::Done,
    }
}

/// The exit code of what is found in the catalog.
pub const fn of_doubt(kind: DoubtKind) -> Exit {
    match kind {
        DoubtKind::Changed | DoubtKind::Forked => Exit::Tampered,
        DoubtKind::RolledBack => Exit::RolledBack,
        DoubtKind::Replayed => Exit::Replayed,
        DoubtKind::Removed => Exit::Removed,
        DoubtKind::Future => Exit::Future,
        DoubtKind::Unsigned => Exit::Unsigned,
    }
}

fn of_failure(failure: &Failure) -> Exit {
    match failure {
        Failure::Denied { .. } => Exit::Denied,
        Failure::Corrupt { .. } => Exit::Corrupt,
        Failure::Sealed { .. } => Exit::Sealed,
        Failure::NotFound { .. }
        | Failure::Exists { .. }
        | Failure::Precondition { .. }
        | Failure::Invalid { .. }
        | Failure::Transient { .. }
        | Failure::Unknown { .. } => Exit::Failed,
    }
}
