"""What outlives a process: settings, rows, job transitions, metrics, events, blobs, the queue."""
