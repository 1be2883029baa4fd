"""Networks: each a function that returns a functional `keras.Model`, in the manner of keras.applications.

Every network takes float32 NHWC images of any size and gives float32 logits of the same height and width.
"""

from kseg.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCNAlexNet
from kseg.models.lraspp import LRASPP
from kseg.models.registry import ModelInfo, create, describe, names, resolve
from kseg.models.resunet import ResUNet
from kseg.models.summary import flops
from kseg.models.transfer import transfer
from kseg.models.unet import UNet

__all__ = [
    "LRASPP",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "ModelInfo",
    "ResUNet",
    "UNet",
    "create",
    "describe",
    "flops",
    "names",
    "resolve",
    "transfer",
]
