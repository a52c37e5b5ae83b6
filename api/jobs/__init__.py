"""Jobs, their actions, events and results."""
