"""The engine for people: a recipe with paths in, a folder with a student out."""
