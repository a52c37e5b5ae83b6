"""Access: projects, API keys, dashboard sessions."""
