"""What can be asked of the engine, as types. Imports no torch, so that the API may use it."""
