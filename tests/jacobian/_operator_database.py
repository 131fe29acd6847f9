"""PyTorch's operator database, and which of its samples are taken."""

from __future__ import annotations

import functools
import itertools
import random
import tomllib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import pydisent
import pydisent.jacobian

DerivativeError = getattr(pydisent.jacobian, "DerivativeError", None)
REFUSALS = DerivativeError or (RuntimeError, NotImplementedError)
REFUSED = Path(__file__).with_name("operators_refused.toml")

KINDS = ("float64", "complex128", "in place")

BATCH, SIZE, K, ITERATIONS = 2, 3, 2, 2
SAMPLES = 8  # of an operator and kind, at most
ELEMENTS = 2000  # of a sample's inputs, at most; of some operators there are only larger ones
LARGE = 20_000  # of those, and of outputs
LISTED = 120  # samples of the database looked at: of some operators it makes thousands
SEED = 7  # some operators draw random numbers
# How far operands move, and how far they are spread: some have a small domain.
POINTS = ((0.1, 1.0), (0.02, 1.0), (0.004, 1.0), (0.02, 0.9))
STEPS = (1e-3, 1e-2, 1e-1)  # in z and W; longer ones for what is computed to few digits

# Negative numbers to a broken power are none, and the database takes no others.
POSITIVE = {"__rpow__"}
# The database draws targets that are neither 1 nor -1, of which the loss is zero; the leaf's place.
SIGNS = {"nn.functional.cosine_embedding_loss": 2}
# A cast to a narrower type has the derivative of the cast to a wide one, differences show steps.
EXACT = {
    "half": "double",
    "bfloat16": "double",
    "float": "double",
    "chalf": "cdouble",
    "cfloat": "cdouble",
}


@functools.cache
def operators() -> dict[str, Any]:
    """Every OpInfo by its full name; ImportError where there is no database."""
    frozen = torch.backends.flags_frozen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    # Its import forbids everyone to set torch.backends' flags, which are not that wrapper's own.
    flags = torch.backends.flags_frozen.__globals__
    flags["__allow_nonbracketed_mutation_flag"] = not frozen
    assert torch.backends.flags_frozen() == frozen
    return {op.full_name: op for op in op_db}


def left_out(op: Any, kind: str) -> str | None:
    """Why the operator has no cases of that kind; None if it has."""
    if not op.supports_autograd:
        return "torch says that it is not differentiable"
    if kind == "in place" and op.get_inplace() is None:
        return "has no in-place variant"
    dtype = dtype_of(kind)
    if dtype not in op.dtypes:
        return f"does not take {dtype} on a CPU"
    if dtype not in op.supported_backward_dtypes("cpu"):
        return f"has no derivative in {dtype} on a CPU"
    return None


def dtype_of(kind: str) -> torch.dtype:
    return torch.complex128 if kind == "complex128" else torch.float64


def refused_operators() -> dict[str, str]:
    """The committed refusals: a reason each."""
    return tomllib.loads(REFUSED.read_text())["refused"]


def moves(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.requires_grad and leaf.layout == torch.strided


def _features(sample: Any) -> frozenset[str]:
    """What the sample shows of the operator: its options and the ranks of its operands."""
    features = set()
    for path, leaf in pytree.tree_leaves_with_path((sample.input, sample.args, sample.kwargs)):
        place = pytree.keystr(path)
        if isinstance(leaf, Tensor):
            empty = "" if leaf.dim() else ", a scalar"
            features |= {f"{place} of rank {leaf.dim()}", f"{place} moves {moves(leaf)}{empty}"}
        else:
            features.add(f"{place} = {leaf!r}"[:80])
    return frozenset(features)


def _usable(op: Any, sample: Any, kind: str) -> bool:
    leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    if kind == "in place" and (sample.broadcasts_input or not moves(sample.input)):
        return False
    if op.name.startswith("nn.functional.max_unpool"):
        # Where places repeat, torch's manual leaves open which value is written.
        places = sample.args[0].flatten(-int(op.name[-2]))
        if any(len(row.unique()) < len(row) for row in places.flatten(0, -2)):
            return False
    moving = sum(leaf.numel() for leaf in leaves if moves(leaf))
    return moving > 0 and sum(sizes_of(sample)) <= LARGE


def samples(op: Any, kind: str, count: int = SAMPLES) -> list[tuple[int, Any]]:
    """At most ``count`` small samples that differ, with their places in the database's list."""
    torch.manual_seed(SEED)
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the database draws from it
    # Not by op.sample_inputs, which reads the whole call stack for each sample.
    listed = op.sample_inputs_func(op, "cpu", dtype_of(kind), True)
    left = {
        i: (sample, _features(sample), sizes_of(sample))
        for i, sample in enumerate(itertools.islice(listed, LISTED))
        if _usable(op, sample, kind)
    }
    small = {i: entry for i, entry in left.items() if sum(entry[2]) <= ELEMENTS}
    if not small:
        count = min(count, 2)
    left = small or left
    seen: Counter[str] = Counter()
    chosen = []

    def merit(place: int) -> tuple:
        """Show most of what was seen least, but nothing empty at first; of these, the smallest."""
        _, features, sizes = left[place]
        return (
            0 not in sizes or len(chosen) >= count // 2,
            sum(2.0 ** -seen[feature] for feature in features),
            -sum(sizes),
            -place,
        )

    while left and len(chosen) < count:
        place = max(left, key=merit)
        sample, features, _ = left.pop(place)
        seen.update(features)
        chosen.append((place, sample))
    return chosen


def sizes_of(sample: Any) -> list[int]:
    leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return [leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)]
