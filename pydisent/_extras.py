"""Optional packages, imported where they are used, and how to install missing ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: The extra in pyproject.toml that provides each package, by import name.
EXTRAS = {
    "h5py": "data",
    "huggingface_hub": "hub",
    "jinja2": "report",
    "joblib": "metrics",
    "lightning_fabric": "train",
    "lmdb": "lsun",
    "matplotlib": "report",
    "nvtx": "gpu",
    "PIL": "report",
    "pytorch_lightning": "lightning",
    "ray": "sweep",
    "rich": "train",
    "safetensors": "train",
    "scipy": "data",
    "sklearn": "metrics",
    "starlette": "explore",
    "tensorboard": "train",
    "torchmetrics": "torchmetrics",
    "triton": "gpu",
    "tyro": "train",
    "uvicorn": "explore",
    "websockets": "explore",
}


class MissingPackageError(ModuleNotFoundError):
    """A package that comes with one of pydisent's extras is not installed."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra, from the source checkout if there is one."""
    checkout = Path(__file__).parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / "setup.py").is_file():
        return f"pip install --no-build-isolation -e '{checkout}[{extra}]'"
    return f"pip install 'pydisent[{extra}]'"


@contextmanager
def optional(what: str = "this") -> Iterator[None]:
    """Make failed imports in the block name the package that `what` needs and how to install it.

    Raises
    ------
    MissingPackageError
        If an import in the block fails because the package of an extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingPackageError(
            f"{what} needs the package {package}: {install_command(EXTRAS[package])}",
            name=error.name,
        ) from error
