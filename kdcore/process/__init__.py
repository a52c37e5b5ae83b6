"""The engine as a process: a request file in, events and an exit code out."""
