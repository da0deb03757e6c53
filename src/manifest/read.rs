//! Bytes to a manifest and back. Nothing that comes from a bucket is trusted.

use serde::Deserialize;

use super::Manifest;

/// The version that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("is truncated or no JSON ({message}); hint: restore the object from a copy, or use another backup")]
    Malformed { message: String },
    #[error(
        "is of format {found}, this program reads up to {FORMAT}; hint: use the version of strongroom that wrote it, or a newer one"
    )]
    Newer { found: u32 },
    #[error("does not hold together: {message}; hint: it was changed after it was written; use another backup")]
    Inconsistent { message: String },
}

/// Reads a manifest.
///
/// # Errors
/// When the bytes are no manifest, are of a newer format, or name objects outside the backup's own folder.
pub fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let malformed = |error: serde_json::Error| ManifestError::Malformed { message: error.to_string() };
    // The version first: a newer record need not have today's fields.
    let Version { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format > FORMAT || format == 0 {
        return Err(ManifestError::Newer { found: format });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
    for object in manifest.objects() {
        let inside = !object.key.starts_with('/') && object.key.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !inside {
            return Err(ManifestError::Inconsistent { message: format!("the key '{}' leaves the vault", object.key) });
        }
    }
    Ok(manifest)
}

/// The manifest's bytes: JSON that a person can read.
pub fn write(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let at: jiff::Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        let tier: crate::model::TierName = "daily".parse().unwrap();
        Manifest {
            format: FORMAT,
            system: None,
            name: crate::model::BackupName::scheduled("x", &tier, at).unwrap(),
            tier,
            purpose: None,
            terms: None,
            commit_id: "c".into(),
            tool: "strongroom 0.1.0".into(),
            run: "r".into(),
            generation: 1,
            started_at: at,
            cut_at: Some(at),
            committed_at: at,
            sources: vec![],
            validation: vec![],
            pause: None,
            timings: vec![],
            previous: None,
            notes: vec![],
            attention: vec![],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&manifest())).unwrap(), manifest());
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = write(&manifest());
        let whole = bytes.len() - 1; // the last byte is a newline
        for length in 0..whole {
            assert!(matches!(read(&bytes[..length]), Err(ManifestError::Malformed { .. })), "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_garbage() {
        assert_eq!(read(br#"{"format":2,"new":"shape"}"#), Err(ManifestError::Newer { found: 2 }));
    }
}
