"""The resource `job` and all that a job leaves behind."""
