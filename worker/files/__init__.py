"""Files of runs: caches, work folders, uploads to the object store."""
