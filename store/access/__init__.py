"""Who may enter: projects, API keys, dashboard sessions."""
