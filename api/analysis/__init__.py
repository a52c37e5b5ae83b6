"""Jobs side by side: comparison and frontier."""
