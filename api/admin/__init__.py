"""Projects, API keys, workers, usage, health, and the dashboard's files."""
