"""Uploaded checkpoints: opened with suspicion, checked, written anew as safetensors."""
