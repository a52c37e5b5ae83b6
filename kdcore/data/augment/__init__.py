"""Augmentation: byte-identical on every device, addressed by counters."""
