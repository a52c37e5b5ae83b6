"""The engine's process, seen from outside."""
