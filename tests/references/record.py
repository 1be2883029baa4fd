"""Record what torch, torchvision and Pillow answer: `python tests/references/record.py`, where they are.

Writes `torch.npz` beside this file. Nothing of kseg or Keras is imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import PIL.Image
import torch
import torchvision_weights as weights

try:
    import torchvision
except RuntimeError:
    # A CPU build of torch beside a CUDA build of torchvision: its compiled operators do not load. Nothing
    # here uses them, but torchvision's import wants them declared.
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float limit) -> Tensor"
        )
    import torchvision

CLASSES, SEED, SIZE = 4, 7, (48, 64)
RESIZED = ((8, 12), (7, 9), (3, 5), (32, 48), (13, 31))


def lraspp() -> np.ndarray:
    """Logits (1, H, W, C) of torchvision's LR-ASPP over MobileNetV3-Large."""
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    ).eval()
    state = model.state_dict()
    names = {1: ("weight",), 2: ("weight", "bias"), 4: ("weight", "bias", "running_mean", "running_var")}
    for layer, values in weights.draw(CLASSES, SEED).items():
        for name, value in zip(names[len(values)], values, strict=True):
            entry = state.pop(f"{layer}.{name}")
            entry.copy_(torch.from_numpy(value))
    assert all(name.endswith("num_batches_tracked") for name in state), list(state)
    picture = torch.from_numpy(weights.image(SEED, SIZE)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return model(picture)["out"].permute(0, 2, 3, 1).numpy()


def losses() -> dict[str, np.ndarray]:
    """Values and gradients of torch's losses on (n, C) logits."""
    random = np.random.RandomState(SEED)
    logits = torch.tensor(2 * random.normal(size=(60, CLASSES)), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(random.randint(0, CLASSES, 60))
    factors = torch.tensor([0.5, 2.0, 1.5, 1.0], dtype=torch.float64)
    smoothed = torch.nn.CrossEntropyLoss(weight=factors, label_smoothing=0.1, reduction="none")(
        logits, labels
    )
    (gradient,) = torch.autograd.grad(smoothed.sum(), logits)
    binary = torch.tensor(3 * random.normal(size=60), dtype=torch.float64)
    truth = torch.tensor(random.randint(0, 2, 60), dtype=torch.float64)
    focal = torchvision.ops.sigmoid_focal_loss
    return {
        "labels": labels.numpy(),
        "logits": logits.detach().numpy(),
        "factors": factors.numpy(),
        "smoothed": smoothed.detach().numpy(),
        "smoothed_gradient": gradient.numpy(),
        "binary_logits": binary.numpy(),
        "binary_labels": truth.numpy().astype("int32"),
        "focal": focal(binary, truth, alpha=-1, gamma=2.0).numpy(),
        "focal_alpha": focal(binary, truth, alpha=0.25, gamma=2.0).numpy(),
    }


def resized_masks() -> dict[str, np.ndarray]:
    """A mask of distinct ids (16, 24), resized by nearest pixel."""
    ids = np.arange(16 * 24, dtype="int32").reshape(16, 24)
    mode = torchvision.transforms.InterpolationMode.NEAREST_EXACT
    found = {"ids": ids}
    for size in RESIZED:
        name = f"{size[0]}x{size[1]}"
        exact = torchvision.transforms.functional.resize(torch.from_numpy(ids)[None], list(size), mode)
        pillow = PIL.Image.fromarray(ids).resize(size[::-1], PIL.Image.Resampling.NEAREST)
        found[f"torchvision_{name}"] = exact[0].numpy()
        found[f"pillow_{name}"] = np.asarray(pillow)
    return found


def detection() -> dict[str, np.ndarray]:
    """Anchors, coded and decoded boxes (x0, y0, x1, y1), overlaps, matches and aligned regions."""
    from torchvision.models.detection import _utils, anchor_utils
    from torchvision.ops import boxes as box_ops

    # The package hides the module behind its function; its operators in plain torch are what a CPU can run.
    aligned = sys.modules["torchvision.ops.roi_align"]._roi_align
    random = np.random.RandomState(SEED)
    features = torch.tensor(random.normal(size=(2, 3, 17, 23)), dtype=torch.float32)
    # Inside the picture: far outside the compiled operator answers 0, and this one does not.
    corners = random.uniform(-4, 139, (24, 4)).astype("float32")
    boxes = np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    boxes = torch.from_numpy(boxes)
    images = torch.arange(24, dtype=torch.float32)[:, None] % 2
    anchors = anchor_utils.AnchorGenerator(((32, 64),), ((0.5, 1.0, 2.0),)).generate_anchors(
        (32, 64), (0.5, 1.0, 2.0)
    )
    coder = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
    coded = coder.encode_single(boxes[:12], boxes[12:])
    matcher = _utils.Matcher(0.5, 0.2, allow_low_quality_matches=True)
    overlap = box_ops.box_iou(boxes[:6], boxes[6:])
    return {
        "features": features.permute(0, 2, 3, 1).numpy(),
        "boxes": boxes.numpy(),
        "aligned": aligned(features, torch.cat([images, boxes], 1), 1 / 8, 7, 5, 2, True)
        .permute(0, 2, 3, 1)
        .numpy(),
        "anchors": anchors.numpy(),
        "coded": coded.numpy(),
        "decoded": coder.decode_single(3 * coded, boxes[12:]).numpy(),
        "overlap": overlap.numpy(),
        "matched": matcher(overlap).numpy(),
    }


def main() -> None:
    """Record all of it."""
    versions: dict[str, Any] = {"torch": torch, "torchvision": torchvision, "pillow": PIL}
    arrays = {
        "lraspp": lraspp(),
        **{f"losses/{name}": value for name, value in losses().items()},
        **{f"masks/{name}": value for name, value in resized_masks().items()},
        **{f"detection/{name}": value for name, value in detection().items()},
        "versions": np.array([f"{name} {module.__version__}" for name, module in versions.items()]),
    }
    np.savez_compressed(Path(__file__).with_name("torch.npz"), **arrays)
    print(", ".join(arrays["versions"]))


if __name__ == "__main__":
    main()
