"""The resource `prediction`: ask a model about images."""
