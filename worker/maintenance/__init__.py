"""Maintenance: the process with outbox relay, lease reaper and garbage collection."""
