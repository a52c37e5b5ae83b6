"""Evaluation: metrics, latency, the check of teachers, the report."""
