"""Networks: each a function that returns a functional `keras.Model`, in the manner of keras.applications.

`semantic/` holds those that give a class to every pixel, `parts/` what several are made of; beside them are
the tools that find, build, rebuild and count networks.
"""

from kseg.models.dcgan import DCGANGenerator
from kseg.models.hed import HED
from kseg.models.instance.faster_rcnn import FasterRCNN
from kseg.models.instance.mask_rcnn import MaskRCNN
from kseg.models.instance.mnc import MNC
from kseg.models.instance.stardist import StarDist
from kseg.models.rebuild import rebuild
from kseg.models.registry import ModelInfo, create, describe, names, resolve
from kseg.models.semantic.crf_rnn import CRFRNN
from kseg.models.semantic.deconvnet import DeconvNet
from kseg.models.semantic.farabet import FarabetNet
from kseg.models.semantic.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s, FCNAlexNet
from kseg.models.semantic.lraspp import LRASPP
from kseg.models.semantic.patch_nets import N4, PatchNet
from kseg.models.semantic.recurrent import PinheiroCNN, RecurrentCNN
from kseg.models.semantic.resunet import ResUNet
from kseg.models.semantic.textonboost import TextonBoost
from kseg.models.semantic.unet import UNet
from kseg.models.summary import flops
from kseg.models.transfer import transfer

__all__ = [
    "CRFRNN",
    "HED",
    "LRASPP",
    "MNC",
    "N4",
    "DCGANGenerator",
    "DeconvNet",
    "FCN8s",
    "FCN8sAtOnce",
    "FCN16s",
    "FCN32s",
    "FCNAlexNet",
    "FarabetNet",
    "FasterRCNN",
    "MaskRCNN",
    "ModelInfo",
    "PatchNet",
    "PinheiroCNN",
    "RecurrentCNN",
    "ResUNet",
    "StarDist",
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
