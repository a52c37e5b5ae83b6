"""Device, precision of the student and of its teachers."""
