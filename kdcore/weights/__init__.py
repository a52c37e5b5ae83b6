"""Weights: read and verify uploaded checkpoints, download published ones, write safetensors."""
