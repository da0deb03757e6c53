//! Steps, their log, and the runner.
