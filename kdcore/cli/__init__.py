"""The engine's command line: run a recipe, compare two, list what a recipe may name."""
