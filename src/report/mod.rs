//! Plans, manifests and logs to text and JSON.
