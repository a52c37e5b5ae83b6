"""Images in, one decoded store out."""
