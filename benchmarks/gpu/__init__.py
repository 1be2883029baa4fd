"""The proof of a machine with a GPU: one command, one JSON (`make test-gpu`).

Three networks are trained by `fit` on the device and on the CPU and compared; throughput is set against what
the device can do; engines are built, run and scored where their libraries are. Needs Keras with one backend
(TensorFlow or JAX), numpy, OpenCV and Pillow; everything else is used where it is installed.
"""
