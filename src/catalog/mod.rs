//! Manifests, journal and lease as records over a store.
