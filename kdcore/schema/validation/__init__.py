"""The rules of a job beyond its fields."""
