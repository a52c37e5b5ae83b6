"""Device, precision, and teachers in eight bits."""
