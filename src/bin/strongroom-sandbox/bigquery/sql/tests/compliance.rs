//! GoogleSQL's own compliance tests, where they are at hand: counts of what passes, fails and is refused.
