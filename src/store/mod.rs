//! Objects behind one narrow trait.
