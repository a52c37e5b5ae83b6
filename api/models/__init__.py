"""The resource `model`."""
