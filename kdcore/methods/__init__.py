"""Distillation methods: one file each, with a pure loss function and a class for training."""
