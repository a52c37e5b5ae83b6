"""Schemes: how the trainings of a job follow each other, one file per scheme."""
