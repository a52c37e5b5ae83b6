"""The engine's command line for people."""
