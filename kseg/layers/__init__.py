"""Layers that Keras lacks, made of `keras.ops` only and exportable to TFLite, ONNX and TensorRT."""

from kseg.layers.convolution import GroupedConv2D
from kseg.layers.normalization import BatchNormalization, FixedScale, LocalResponseNormalization
from kseg.layers.padding import CropLike, PadToStride
from kseg.layers.pooling import CeilMaxPooling2D, MaxPoolWithSwitches, Unpool
from kseg.layers.resampling import BilinearUpsampling, ResizeLike
from kseg.layers.transposed import TransposedConv, bilinear_kernel

__all__ = [
    "BatchNormalization",
    "BilinearUpsampling",
    "CeilMaxPooling2D",
    "CropLike",
    "FixedScale",
    "GroupedConv2D",
    "LocalResponseNormalization",
    "MaxPoolWithSwitches",
    "PadToStride",
    "ResizeLike",
    "TransposedConv",
    "Unpool",
    "bilinear_kernel",
]
