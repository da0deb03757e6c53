//! What went wrong at the edge of the program, by what the caller can do about it.

/// A failed call to a service, a store or a source.
///
/// The variants say what a caller can do; the texts name the object and, where there is one, the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The object does not exist.
    #[error("{object}: not found: {message}")]
    NotFound { object: String, message: String },
    /// The object exists already, and the call asked that it should not.
    #[error("{object}: exists already: {message}")]
    Exists { object: String, message: String },
    /// A condition of the call (generation, etag, emptiness, state) does not hold. Repeating will not help.
    #[error("{object}: {message}")]
    Precondition { object: String, message: String },
    /// The credentials do not allow it.
    #[error("{object}: permission denied: {message}; hint: README.md says which roles each verb needs (On Google)")]
    Denied { object: String, message: String },
    /// The service says that the request itself is wrong, or a finished job carries an error.
    #[error("{object}: {message}")]
    Invalid { object: String, message: String },
    /// Worth repeating, and repeated as often as the retry budget allowed.
    #[error("{object}: unavailable: {message}")]
    Transient { object: String, message: String },
    /// The outcome is not known: the effect may or may not have happened. Never treated as a failure of the effect.
    #[error("{object}: outcome unknown: {message}")]
    Unknown { object: String, message: String },
    /// What came back is not what was written or promised (a digest, a count, a malformed answer).
    #[error("{object}: corrupt: {message}")]
    Corrupt { object: String, message: String },
    /// The object is sealed, and no key at hand opens it.
    #[error("{object}: sealed: {message}")]
    Sealed { object: String, message: String },
}
