"""Administration: projects, API keys, workers, usage, health, and the dashboard."""
