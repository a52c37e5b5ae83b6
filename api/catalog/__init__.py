"""Catalog: methods, schemes and architectures."""
