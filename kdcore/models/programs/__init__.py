"""Networks that a file defines: ONNX, and programs of torch.export."""
