"""`deploy.export`: check the arguments, then run the template of the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import formats
from deploy.calibration import Calibration
from deploy.conversion import Request
from deploy.ends import output_shapes
from deploy.keep_float import check_keep_float, kept_float
from deploy.quiet import quiet
from deploy.template import Exporter, Job
from deploy.verification import MINIMUM_IMAGES, Budget, Verification
from deploy.verification import verify as run_gate
from kseg.checks import whole
from kseg.errors import GateError, UsageError, did_you_mean, require
from kseg.progress import Progress
from kseg.spec import Spec

if TYPE_CHECKING:
    import keras

DYNAMIC = ("batch",)
_RUNTIME_MODULES = {"litert": "ai_edge_litert", "onnx": "onnxruntime"}


class VerificationFailed(GateError):
    """The artefact was written, marked FAILED: it lost more than its budget allows, or nothing was proved.

    `outcome` is what `deploy.export` would have returned.
    """

    def __init__(self, message: str, outcome: dict[str, Any]) -> None:
        super().__init__(message)
        self.outcome = outcome


def _load_model(model: keras.Model | str | os.PathLike[str], spec: Spec | None) -> tuple[keras.Model, Spec]:
    if isinstance(model, str | os.PathLike):
        with quiet():
            from kseg.saving import load

            model = load(model)
    known = spec or getattr(model, "spec", None)
    if known is None:
        raise UsageError(
            "The model has no spec (class names, normalisation). "
            "Save it with kseg.save(model, path, spec=...), or pass spec="
        )
    return model, known


# Of an input: a network's features are a hundred times as large.
MOST_PIXELS = 2**25


def _input_size(size: tuple[int, int] | None, spec: Spec, model: keras.Model) -> tuple[int, int]:
    """Return the size asked for, else the spec's, else the network's own."""
    own = tuple(model.inputs[0].shape[1:3])
    chosen = size or spec.input_size or own
    if len(chosen) != 2 or None in chosen:
        raise UsageError("The model takes any image size and its spec fixes none: pass size=(height, width).")
    if min(chosen) < 2:
        raise UsageError(f"Argument `size` must be (height, width), both at least 2. Received: {chosen}")
    if chosen[0] * chosen[1] > MOST_PIXELS:
        raise UsageError(
            f"Argument `size` must have at most {MOST_PIXELS:,} pixels: larger images are cut into tiles of "
            f"the file's size. Received: {chosen[0]}x{chosen[1]}"
        )
    for side, fixed in zip(chosen, own, strict=True):
        if fixed is not None and fixed != side:
            raise UsageError(f"The model was built for size {own}. Received: size={tuple(chosen)}")
    return int(chosen[0]), int(chosen[1])


def _row(out: Path, name: str | None) -> formats.Format:
    if name is None:
        return formats.by_path(out)
    row = formats.by_name(name)
    if out.suffix.lower() != row.suffix:
        raise UsageError(f"A {row.name} file must end in '{row.suffix}'. Received: out='{out}'")
    return row


def _verify_data(verify: Any, calibration: Any) -> Any:
    """Return the images for the gate, or None when the caller gave it up in so many words."""
    if verify is False:
        return None
    if verify is None or verify is True:
        verify = calibration
    if verify is None:
        raise UsageError(
            "An export ends in a check on real images: pass verify=DATA (a folder with images and masks; "
            "--data on the command line), or verify=False (--no-verify) to have the file say UNVERIFIED."
        )
    return verify


def _check_choices(row: formats.Format, precision: str, dynamic: str | None, calibration: Any) -> None:
    row.check_precision(precision)
    if dynamic is not None and dynamic not in row.dynamic:
        hint = did_you_mean(str(dynamic), list(DYNAMIC))
        known = ", ".join(repr(axis) for axis in row.dynamic) or "None only (its sizes are fixed)"
        raise UsageError(f"Argument `dynamic` for {row.name} must be {known}.{hint} Received: {dynamic!r}")
    if precision == "int8" and calibration is None:
        raise UsageError(
            "int8 needs images to learn its ranges from: pass calibration=DATA "
            "(--data on the command line); its train split is used."
        )
    if row.extra in _RUNTIME_MODULES:
        require(_RUNTIME_MODULES[row.extra], row.extra)


def export(
    model: keras.Model | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    resize: str | None = None,
    calibration: Any = None,
    verify: Any = None,
    max_miou_drop: float = 1.0,
    max_class_drop: float | None = None,
    allow_near_chance: bool = False,
    calibration_images: int = 64,
    keep_float: str | None = None,
    verify_images: int | None = 32,
    seed: int = 0,
    format: str | None = None,
    dynamic: str | None = None,
    spec: Spec | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Convert a model, put its spec inside, load it back, and verify it on real images.

    Args:
        model: a `.keras` file of kseg, or a Keras model with `.spec`; trained on any backend and under
            any precision policy.
        out: the file to write; appears only when finished. Its suffix chooses the format.
        precision: one of the format's in `deploy.FORMATS`.
        size: `(height, width)` of the artefact's input. Default: the spec's, else the model's.
        resize: how images meet that size: `"none"`, `"stretch"` or `"fit"`; default: the spec's rule.
        calibration: data whose train split int8 learns its ranges from: folder, `tfds:NAME`, source, or a
            sequence of samples.
        verify: data for the final check (its val split; masks needed). Default: `calibration`. False: no
            check; the file says UNVERIFIED.
        max_miou_drop: the check's budget, in points of mIoU (0-100).
        max_class_drop: its budget of each class, in points of IoU (0-100); None: only the mean counts.
        allow_near_chance: check also where the model itself is near chance (`deploy.verify`).
        calibration_images: how many images calibrate.
        keep_float: for int8: a regular expression (RE2's syntax); layers whose name it is found in stay in
            float. The first, high-resolution layers of a MobileNet are where int8 loses most. None: what
            the architecture is registered with (TextonBoost's filters), `"^$"`: nothing.
        verify_images: how many images the check takes at most, spread evenly; at least 8; None: all.
        seed: chooses the calibration images.
        format: name of the format, if it is to be checked against the suffix.
        dynamic: None (batch 1), or `"batch"` where the format can leave the batch open.
        spec: the spec, where the model has none.
        progress: wraps long loops.

    Returns:
        `path`, `bytes`, and what the file's own `spec.export` says: format, precision, size,
        calibration, tools, parity, verify.

    Raises:
        VerificationFailed: if the check failed. The file stands, marked FAILED.
        UsageError, DataError, ArtefactError, MissingExtraError: one line each.

    Example:
        >>> deploy.export("model.keras", "model.tflite", precision="int8", calibration="DATA")
    """
    target = Path(out)
    row = _row(target, format)
    _check_choices(row, precision, dynamic, calibration)
    check_keep_float(keep_float, precision)
    judged = _verify_data(verify, calibration)
    Budget(score=max_miou_drop, one_class=max_class_drop)  # refuses before anything is converted
    if verify_images is not None:
        whole(verify_images, "Argument", "verify_images", MINIMUM_IMAGES)
    network, known = _load_model(model, spec)
    known = known if resize is None else known.replace(resize=resize)
    chosen = _input_size(size, known, network)
    request = Request(
        format=row.name,
        precision=precision,
        size=chosen,
        outputs=tuple(output_shapes(known, chosen)),
        dynamic=dynamic,
        seed=seed,
        keep_float=kept_float(keep_float, precision, known),
    )

    def gate(path: Path) -> Verification:
        own, network.spec = getattr(network, "spec", None), known
        try:
            return run_gate(
                path,
                reference=network,
                data=judged,
                limit=verify_images,
                max_miou_drop=max_miou_drop,
                max_class_drop=max_class_drop,
                allow_near_chance=allow_near_chance,
                progress=progress,
            )
        finally:
            network.spec = own

    ranges = None
    if precision == "int8":
        ranges = Calibration(calibration, known, request.size, count=calibration_images, seed=seed)
    job = Job(
        model=network,
        spec=known,
        out=target,
        request=request,
        calibration=ranges,
        verify=None if judged is None else gate,
    )
    exporter: Exporter = row.load("exporter")(job)
    outcome = exporter.run()
    if outcome["verify"].get("passed") is False:
        raise VerificationFailed(_failure(target, outcome["verify"], precision, allow_near_chance), outcome)
    return outcome


def _failure(target: Path, verify: dict[str, Any], precision: str, near_chance_allowed: bool) -> str:
    """Return the line that says why the check failed and what to do."""
    text = f"'{target}': {'; '.join(verify['reasons'])}. It was written and says FAILED."
    if verify["near_chance"] and not near_chance_allowed:
        return text + " Train the network first, or allow it (--allow-near-chance)"
    return text + _advice(precision)


def _advice(precision: str) -> str:
    if precision == "int8":
        return (
            " Keep its first layers in float (--keep-float REGEX on layer names), give more calibration "
            "images, or take float16"
        )
    return ""
