"""TensorRT engines: built by `tensorrt` (10, 11) where importable, else by `tensorrt_rtx`."""
