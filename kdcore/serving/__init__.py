"""Serving: predict with an ONNX file. Imports neither torch nor pydantic, to start fast."""
