"""The resource `dataset`."""
