"""The resource `upload`."""
