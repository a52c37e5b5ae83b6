"""Ingestion: uploaded bytes become a stored data set; one file for each format."""
