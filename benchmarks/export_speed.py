"""Speed of the recipes' networks on every target that runs on a CPU, files in turns.

    python benchmarks/export_speed.py                        # all of them, on a quiet machine
    python benchmarks/export_speed.py "FCN-8s" --repeats 50  # one of them: its row is written anew

The networks are the recipes' with random weights: a graph takes the same time whatever it has learned, so
nothing need be trained. int8 is calibrated on the embedded sample. Each network's files run in processes of
their own and take turns (`deploy.benchmark`), the float TFLite file and the int8 file also as bare
interpreters of ai-edge-litert in this process. Writes `benchmarks/results/export_speed.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import deploy
import kseg
from deploy.benchmarking import CALLS_PER_ROUND
from deploy.tflite.container import read_model
from deploy.worker import WARM_UP_SECONDS
from kseg import files

ROOT = Path(__file__).resolve().parent
DATA = "sample:nuclei"
CLASSES = 11
SIZE, LECTURE = (360, 480), (180, 240)
RESNET = {"encoder": "resnet18", "width": 0.5}
DECONV = {"width": 0.25, "fc_kernel": 3}
ROAD = "/conv_1/|expanded_conv_(depthwise|project)|expanded_conv_[12]_"
TEXTONS = {
    "textons": 64, "rectangles": 40, "features": 600, "largest": 100, "grid": 4, "texton_stride": 2,
}  # fmt: skip
CRF = {"iterations": 3, "test_iterations": 5, "window": 7, "stride": 2}
# Name: network, arguments, input size, what int8 leaves in float. As in recipes/*.
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, int], str | None]] = {
    "ResUNet": ("resunet", {}, SIZE, None),
    "ResUNet, EfficientNet-Lite0": ("resunet", {"encoder": "efficientnetlite0"}, SIZE, None),
    "FCN-8s, MobileNetV3": ("fcn8s", {"encoder": "mobilenetv3"}, SIZE, ROAD),
    "FCN-8s, MobileNetV3, all in int8": ("fcn8s", {"encoder": "mobilenetv3"}, SIZE, None),
    "LR-ASPP": ("lraspp", {"encoder": "mobilenetv3"}, SIZE, ROAD),
    "N4": ("n4", {"output_stride": 4}, LECTURE, None),
    "PatchNet": ("patchnet", {"width": 0.5, "output_stride": 4, "dropout": 0.2}, LECTURE, None),
    "FarabetNet, three scales, MLP": (
        "farabetnet", {"width": 0.5, "scales": 3, "classifier": "mlp", "hidden": 1024}, LECTURE, None,
    ),
    "CNN1 (plain)": ("pinheirocnn", {"output_stride": 8}, LECTURE, None),
    "rCNN2": ("recurrentcnn", {"variant": "rcnn2", "instances": 2, "output_stride": 8}, LECTURE, None),
    "rCNN3": ("recurrentcnn", {"variant": "rcnn3", "instances": 3, "output_stride": 8}, LECTURE, None),
    "FCN-AlexNet": ("fcnalexnet", {"width": 0.5, "head_channels": 512}, LECTURE, None),
    "FCN-32s": ("fcn32s", RESNET, LECTURE, None),
    "FCN-16s": ("fcn16s", RESNET, LECTURE, None),
    "FCN-8s": ("fcn8s", RESNET, LECTURE, None),
    "FCN-8s, learned upsampling": ("fcn8s", {**RESNET, "upsampling": "learned"}, LECTURE, None),
    "FCN-8s at once": ("fcn8satonce", RESNET, LECTURE, None),
    "FCN-8s, two heads": (
        "fcn8s",
        {**RESNET, "geometric_classes": 3, "geometric_labels": [0, 2, 2, 1, 1, 2, 2, 2, 2, 2, 2]},
        LECTURE,
        None,
    ),
    "DeconvNet": ("deconvnet", {**DECONV, "unpooling": "switches"}, LECTURE, None),
    "DeconvNet, fixed corner": ("deconvnet", {**DECONV, "unpooling": "fixed"}, LECTURE, None),
    "CRFRNN over FCN-8s": (
        "crfrnn", {"encoder": "resnet18", "base": "FCN8s", "base_args": {"width": 0.5}, **CRF}, LECTURE, None,
    ),
    "TextonBoost": ("textonboost", TEXTONS, LECTURE, None),
}  # fmt: skip
RESULTS = ROOT / "results" / "export_speed.json"
HEADS = (
    *("network", "Keras, ms", "TFLite fp32", "fp16", "int8", "ONNX fp32", "fp16"),
    *("TFLite fp32, ms (bare)", "int8, ms (bare)", "int8 over fp32", "measured"),
)
HEAD = f"| {' | '.join(HEADS)} |\n" + "|---" * len(HEADS) + "|"
TARGETS = (
    ("model.tflite", "float32"),
    ("model_float16.tflite", "float16"),
    ("model_int8.tflite", "int8"),
    ("model.onnx", "float32"),
    ("model_float16.onnx", "float16"),
)


def made(name: str, folder: Path) -> list[Path]:
    """Build one network and export it; return its files, the `.keras` file first."""
    network, arguments, size, kept = NETWORKS[name]
    keras.utils.clear_session(free_memory=True)
    keras.utils.set_random_seed(0)
    model = kseg.models.create(network, num_classes=CLASSES, **arguments)
    spec = kseg.Spec(
        classes=tuple(f"class {n}" for n in range(CLASSES)),
        input_size=size,
        resize="fit",
        architecture=model.info.architecture,
        arch_args=model.info.arch_args,
    )
    paths = [folder / "model.keras"]
    kseg.save(model, paths[0], spec=spec)
    for file, precision in TARGETS:
        int8 = {"calibration": DATA, "keep_float": kept} if precision == "int8" else {}
        deploy.export(paths[0], folder / file, precision=precision, verify=False, **int8)
        paths.append(folder / file)
    return paths


def bare(paths: list[Path], size: tuple[int, int], repeats: int) -> list[float]:
    """Return the median milliseconds of interpreters without kseg, in turns."""
    image = np.random.default_rng(0).standard_normal((1, *size, 3)).astype(np.float32)
    loaded = []
    for path in paths:
        interpreter = Interpreter(model_content=read_model(path)[0], num_threads=os.cpu_count())
        interpreter.allocate_tensors()
        ends = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        loaded.append((interpreter, *ends))
    taken: list[list[float]] = [[] for _ in paths]
    for _ in range(-(-repeats // CALLS_PER_ROUND)):
        for number, (interpreter, source, result) in enumerate(loaded):
            turn = time.perf_counter()
            counted = 0
            while counted < CALLS_PER_ROUND:
                start = time.perf_counter()
                interpreter.set_tensor(source, image)
                interpreter.invoke()
                interpreter.get_tensor(result)
                if start - turn > WARM_UP_SECONDS:
                    taken[number].append(1000 * (time.perf_counter() - start))
                    counted += 1
    return [statistics.median(times) for times in taken]


def measured(name: str, repeats: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return one network's figures by file, and the set-up they were measured in."""
    with tempfile.TemporaryDirectory() as place:
        paths = made(name, Path(place))
        found = deploy.benchmark(paths, repeats=repeats, threads=os.cpu_count())
        plain = bare([paths[1], paths[3]], NETWORKS[name][2], repeats)
    rows = {
        path.name: {
            "bytes": row["bytes"],
            "p50_ms": round(row["p50_ms"], 3),
            "speed": round(row["speedup"], 3),
        }
        for path, row in zip(paths, found["rows"], strict=True)
    }
    rows["model.tflite"]["bare_ms"], rows["model_int8.tflite"]["bare_ms"] = (round(ms, 3) for ms in plain)
    return rows, found["setup"]


def line(name: str, rows: dict[str, Any]) -> str:
    """Return one row of the table."""
    fp32, int8 = rows["model.tflite"], rows["model_int8.tflite"]
    cells = [f"{rows['model.keras']['p50_ms']:.1f}"]
    cells += [f"{rows[file]['speed']:.2f}" for file, _ in TARGETS]
    cells += [
        f"{fp32['p50_ms']:.1f} ({fp32['bare_ms']:.1f})",
        f"{int8['p50_ms']:.1f} ({int8['bare_ms']:.1f})",
    ]
    cells += [f"{fp32['p50_ms'] / int8['p50_ms']:.2f}", rows["date"]]
    return f"| {name} | {' | '.join(cells)} |"


def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the table: what was not measured now stays as it was."""
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        print(f"No network of the recipes: {sorted(unknown)}. There are {list(NETWORKS)}", file=sys.stderr)
        return 2
    known = json.loads(RESULTS.read_text())["networks"] if arguments.networks and RESULTS.is_file() else {}
    print(HEAD)
    setup: dict[str, Any] = {}
    for name in arguments.networks or NETWORKS:
        known[name], setup = measured(name, arguments.repeats)
        known[name]["date"] = setup["date"][:10]
        print(line(name, known[name]), flush=True)
    results = {name: known[name] for name in NETWORKS if name in known}
    about = f"{setup['processor']}, {setup['cores']} cores, "
    about += ", ".join(f"{library} {version}" for library, version in setup["versions"].items())
    words = (
        "# Speed of the exports\n\n`python benchmarks/export_speed.py`: batch 1, the recipes' networks"
        " and sizes with random weights, the files of a network in turns.\nSpeeds are relative to the "
        f"`.keras` file; in brackets a bare interpreter loop in the same minute. {about}.\n\n"
    )
    lines = [HEAD, *(line(name, rows) for name, rows in results.items())]
    files.write_json(RESULTS, {"setup": setup, "networks": results})
    files.write_text(RESULTS.with_suffix(".md"), words + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="some of the networks; default: all")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls per file; default: 30")
    sys.exit(main(parser.parse_args()))
