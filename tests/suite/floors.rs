//! The floors of the house, enforced.
