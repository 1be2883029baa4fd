"""The machine that kseg runs on: processor, memory, NVIDIA's driver and GPUs, and what Keras' backend sees.

Importing this room imports neither Keras nor a backend: looking at the backend does.
"""
