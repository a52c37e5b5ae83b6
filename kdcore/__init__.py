"""The engine that teaches students. It knows no HTTP, no database and no queue."""
