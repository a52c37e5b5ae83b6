"""Runtime: errors, exit codes, events, cancellation, limits, files, failpoints."""
