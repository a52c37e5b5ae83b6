"""The ground floor of the engine: files, errors, events, cancellation, limits."""
