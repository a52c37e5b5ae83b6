"""A finished file at work on a stranger's images. Loads neither torch nor pydantic."""
