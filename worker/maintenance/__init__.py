"""The process that repairs: outbox relay, lease reaper, garbage collector."""
