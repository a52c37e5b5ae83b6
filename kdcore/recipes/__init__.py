"""Recipes: a job as a JSON file with paths, run into a folder with the student."""
