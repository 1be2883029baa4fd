"""TensorRT engines: built by `tensorrt` (10, 11) where importable, else, or by name, by `tensorrt_rtx`."""
