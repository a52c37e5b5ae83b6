"""The protocol between worker and engine: requests, events and exit codes."""
