"""What answers look like, for OpenAPI and for generated clients."""
