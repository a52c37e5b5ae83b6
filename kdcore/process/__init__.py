"""The engine as a process: requests in, events and an exit code out. Loads no torch by itself."""
