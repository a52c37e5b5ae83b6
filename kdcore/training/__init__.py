"""Training: everything from a run request to an exported student. README.md shows the way."""
