"""Processes that outlive nobody: start, watch, restart and stop them."""
