"""The engine's process as its worker sees it."""
