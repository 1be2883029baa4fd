"""Networks: each a function that returns a functional `keras.Model`, in the manner of keras.applications.

Every network takes float32 NHWC images of any size and gives float32 logits of the same height and width.
"""

from kseg.models.crf_rnn import CRFRNN
from kseg.models.dcgan import DCGANGenerator
from kseg.models.deconvnet import DeconvNet
from kseg.models.farabet import FarabetNet
from kseg.models.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCNAlexNet
from kseg.models.lraspp import LRASPP
from kseg.models.patch_nets import N4, PatchNet
from kseg.models.rebuild import rebuild
from kseg.models.recurrent import PinheiroCNN, RecurrentCNN
from kseg.models.registry import ModelInfo, create, describe, names, resolve
from kseg.models.resunet import ResUNet
from kseg.models.summary import flops
from kseg.models.textonboost import TextonBoost
from kseg.models.transfer import transfer
from kseg.models.unet import UNet

__all__ = [
    "CRFRNN",
    "LRASPP",
    "N4",
    "DCGANGenerator",
    "DeconvNet",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FarabetNet",
    "ModelInfo",
    "PatchNet",
    "PinheiroCNN",
    "RecurrentCNN",
    "ResUNet",
    "TextonBoost",
    "UNet",
    "create",
    "describe",
    "flops",
    "names",
    "rebuild",
    "resolve",
    "transfer",
]
