//! Rows to bytes and back: Avro, Parquet, JSON Lines, CSV; row JSON, fingerprints, digests.
