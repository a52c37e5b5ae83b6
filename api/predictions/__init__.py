"""Predictions: the classes of images by a model."""
