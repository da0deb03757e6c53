# `just check` runs all that continuous integration runs.

default: check

# All that has to hold before a change is good.
check:
    scripts/test

# The tests alone, all or those that match.
test *FILTER:
    cargo nextest run --all-targets {{FILTER}}

# Lays out the code as rustfmt likes it.
fmt:
    cargo fmt

# Back up, lose everything, restore, prove: on sample data against a local sandbox.
demo:
    scripts/demo

# Licences and origins of the dependencies (needs cargo-deny).
deny:
    cargo deny check
