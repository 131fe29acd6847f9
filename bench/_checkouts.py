"""Other projects' code, imported from checkouts of their repositories.

Their code is imported as it is; of scripts, only the classes and functions are executed. Packages
that are not installed, and that the generators do not use, are replaced by empty ones.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from torch import nn

#: The commits of the repositories.
COMMITS = {
    "eriklindernoren/PyTorch-GAN": "36d3c77e5ff20ebe0aeefd322326a134a279b93e",
    "ajbrock/BigGAN-PyTorch": "98459431a5d618d644d54cd1e9fceb1e5045648d",
    "rosinality/stylegan2-pytorch": "bef283a1c24087da704d16c30abc8e36e63efa0e",
    "NVlabs/stylegan3": "c233a919a6faee6e36a316ddd4eddababad1adf9",
    "facebookresearch/pytorch_GAN_zoo": "b75dee40918caabb4fe7ec561522717bf096a8cb",
    "kwotsin/mimicry": "a7fda06c4aff1e6af8dc4c4a35ed6636e434c766",
    "bayesiains/nflows": "5d22344436a4a5f4c3b93a3b99322a6bfe374c08",
    "AntixK/PyTorch-VAE": "a6896b944c918dd7030e7d795a8c13e5c6345ec7",
    "insujeon/IB-GAN": "2f7b4765769d2d53a85e09b472eec88419973e48",
}
_UNUSED = frozenset(
    "torchvision distributed UMNN requests tensorflow skimage tqdm scipy sklearn "
    "matplotlib pytorch_lightning tensorboard cv2 PIL".split()
)
# Of setuptools, which has dropped it.
_PKG_RESOURCES = {"parse_version": torch.torch_version.TorchVersion}


class _Empty(ModuleType):
    """A module in which every name is an empty class."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


class _EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else finds of the packages that the generators do not use."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "pkg_resources" and name.split(".")[0] not in _UNUSED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "pkg_resources":
            vars(module).update(_PKG_RESOURCES)


@contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Import from a checkout, whose modules are forgotten afterwards: many are named alike."""
    before, finder = set(sys.modules), _EmptyModules()
    sys.path.insert(0, str(folder))
    sys.meta_path.append(finder)
    try:
        # Extensions for a GPU are not compiled; on a CPU their fallbacks run.
        with mock.patch("torch.utils.cpp_extension.load"):
            yield
    finally:
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if _is_of(sys.modules[name], folder):
                del sys.modules[name]


def _is_of(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None) or ""
    return isinstance(module, _Empty) or file.startswith(str(folder))


def imported(module: str, name: str, *args: Any, **settings: Any) -> Callable[[Path], nn.Module]:
    """Make the class ``name`` of a module with the given settings."""

    def make(checkout: Path) -> nn.Module:
        with importing(checkout):
            # Copies, as some change the lists that they are given.
            return getattr(importlib.import_module(module), name)(*deepcopy(args), **settings)

    return make


def of_script(path: str, name: str, *args: Any, **options: Any) -> Callable[[Path], nn.Module]:
    """Make the class ``name`` of a script that reads its options from the global ``opt``."""
    opt = SimpleNamespace(**options)

    def make(checkout: Path) -> nn.Module:
        tree = ast.parse((checkout / path).read_text())
        kinds = (ast.FunctionDef, ast.ClassDef)
        body = [part for part in tree.body if isinstance(part, kinds)]
        scope: dict[str, Any] = {
            "torch": torch, "nn": nn, "F": nn.functional, "np": np, "math": math, "opt": opt,
            "img_shape": (opt.channels, opt.img_size, opt.img_size),
        }  # fmt: skip
        exec(compile(ast.Module(body, []), path, "exec"), scope)
        return scope[name](*args)

    return make
