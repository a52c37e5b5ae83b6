"""Sources of data sets: folders of this machine and prefixes in S3, read for an engine."""
