"""Teacher outputs, computed once for each view and cached."""
