"""Networks: each a function that returns a functional `keras.Model`, in the manner of keras.applications.

Every network takes float32 NHWC images of any size and gives float32 logits of the same height and width.
"""

from kseg.models.registry import ModelInfo, create, describe, names, resolve
from kseg.models.resunet import ResUNet
from kseg.models.unet import UNet

__all__ = ["ModelInfo", "ResUNet", "UNet", "create", "describe", "names", "resolve"]
