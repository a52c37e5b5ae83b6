"""The fleet: claims jobs, supervises the engine's processes, repairs what was left behind."""
