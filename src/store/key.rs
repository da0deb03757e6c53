//! What a key is, the same for every store: so that no key leaves its root, and none works in one store only.

use crate::model::Failure;

/// Google Storage allows 1,024 bytes, with the vault's own prefix.
const MAX_KEY_BYTES: usize = 900;

/// # Errors
/// `Invalid`, naming the rule that is broken.
pub(super) fn check(key: &str) -> Result<(), Failure> {
    let problem = if key.is_empty() {
        "is empty"
    } else if key.len() > MAX_KEY_BYTES {
        "is longer than 900 bytes"
    } else if key.chars().any(|c| c.is_control() || c == '\\') {
        "has a control character or a backslash"
    } else if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        "has a part that is empty, '.' or '..'"
    } else if key.split('/').any(|part| part.len() > 255) {
        "has a part longer than 255 bytes"
    } else {
        return Ok(());
    };
    Err(Failure::Invalid { object: format!("key '{}'", key.escape_default()), message: problem.into() })
}

/// A prefix may end anywhere in a key, or be empty.
///
/// # Errors
/// `Invalid`, naming the rule that is broken.
pub(super) fn check_prefix(prefix: &str) -> Result<(), Failure> {
    let directory = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() { Ok(()) } else { check(directory) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_their_root() {
        for key in ["a", "a/b.c", ".hidden/x", "ä/日 本"] {
            assert_eq!(check(key), Ok(()), "{key}");
        }
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0", "a\nb"] {
            assert!(check(key).is_err(), "{key:?}");
        }
        assert!(check(&"x".repeat(901)).is_err());
        assert!(check_prefix("").is_ok() && check_prefix("a/").is_ok() && check_prefix("a/b").is_ok());
        assert!(check_prefix("/").is_err() && check_prefix("../").is_err() && check_prefix("a//").is_err());
    }
}
