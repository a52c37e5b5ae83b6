"""REST API: HTTP only. It reads and writes rows through ``store`` and never imports torch."""
