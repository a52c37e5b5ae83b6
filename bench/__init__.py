"""The measurements behind docs/reference/speed.md and quality.md, each a command."""
