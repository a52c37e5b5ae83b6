"""From uploaded bytes to a stored data set: one file per format."""
