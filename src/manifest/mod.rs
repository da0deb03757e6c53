//! The stored record of a backup.
