"""Finished files for the user, each checked against the student before it is published."""
