"""Start, watch, restart and stop processes, so that none survives its supervisor."""
