"""Methods, schemes and architectures."""
