"""ONNX networks that were trained elsewhere, made into bundles."""
