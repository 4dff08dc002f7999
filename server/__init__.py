"""Gateway and workers: HTTP in, batches through ONNX Runtime, answers out."""
