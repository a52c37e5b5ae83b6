"""The workers: they claim jobs, run the engine as a process, and repair what a crash left."""
