"""What outlives a process: settings, rows, job transitions, metrics, events, objects, outbox."""
