"""Uploads: files in parts."""
