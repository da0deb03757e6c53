//! Backup, restore, verify and the other jobs: plan to saga.
