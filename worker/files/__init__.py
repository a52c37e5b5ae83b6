"""Files on the worker's disk and their way to and from the object store."""
