"""The resource `teacher cache`."""
