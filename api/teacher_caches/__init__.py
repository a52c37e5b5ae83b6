"""Teacher caches: stored outputs of teachers."""
