"""Layers that Keras lacks, made of `keras.ops` only and exportable to TFLite, ONNX and TensorRT."""

from kseg.layers.cell_means import CellMeans
from kseg.layers.color import RGBToLab, RGBToYUV
from kseg.layers.connection_table import ConnectionTableConv2D
from kseg.layers.convolution import GroupedConv2D
from kseg.layers.crf import MeanFieldCRF
from kseg.layers.filter_bank import FilterBank
from kseg.layers.mirror import MirrorBorder
from kseg.layers.normalization import BatchNormalization, FixedScale, LocalResponseNormalization
from kseg.layers.padding import CropLike, PadToStride
from kseg.layers.pick_output import PickOutput
from kseg.layers.pooling import CeilMaxPooling2D, MaxPoolWithSwitches, Unpool
from kseg.layers.pyramid import LaplacianPyramid, LocalNormalization
from kseg.layers.rarefied import RarefiedConv2D, RarefiedMaxPooling2D
from kseg.layers.resampling import BilinearUpsampling, ResizeLike
from kseg.layers.stitching import ShiftToBatch, StitchFromBatch, Subsample
from kseg.layers.textons import Textons
from kseg.layers.texture_layout import SoftStumps, TextureLayout
from kseg.layers.transposed import TransposedConv, bilinear_kernel

__all__ = [
    "BatchNormalization",
    "BilinearUpsampling",
    "CeilMaxPooling2D",
    "CellMeans",
    "ConnectionTableConv2D",
    "CropLike",
    "FilterBank",
    "FixedScale",
    "GroupedConv2D",
    "LaplacianPyramid",
    "LocalNormalization",
    "LocalResponseNormalization",
    "MaxPoolWithSwitches",
    "MeanFieldCRF",
    "MirrorBorder",
    "PadToStride",
    "PickOutput",
    "RGBToLab",
    "RGBToYUV",
    "RarefiedConv2D",
    "RarefiedMaxPooling2D",
    "ResizeLike",
    "ShiftToBatch",
    "SoftStumps",
    "StitchFromBatch",
    "Subsample",
    "Textons",
    "TextureLayout",
    "TransposedConv",
    "Unpool",
    "bilinear_kernel",
]
