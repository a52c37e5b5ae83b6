"""Read hostile archives within limits."""
