"""Analysis: comparison of jobs and the frontier of a data set."""
