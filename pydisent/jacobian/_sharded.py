"""Refusal of modules sharded by FSDP, whose weights exist only during their calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from pydisent.jacobian._call import DerivativeError


def refuse_sharded(node: Any) -> None:
    """Raise DerivativeError if a node of the autograd graph is FSDP's."""
    function = getattr(node, "_forward_cls", None)
    if function is not None and function.__module__.startswith("torch.distributed.fsdp"):
        raise DerivativeError(
            "fn runs a module sharded by FSDP (fully_shard), whose weights are freed after its "
            "call, while the derivative needs them later: use a module that is not sharded, such "
            "as one in DistributedDataParallel"
        )


def refuse_sharded_graph(outputs: Iterable[Tensor]) -> None:
    """Raise DerivativeError if FSDP takes part in the autograd graph of some outputs."""
    pending, seen = [output.grad_fn for output in outputs], set[Any]()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            refuse_sharded(node)
            seen.add(node)
            pending += [parent for parent, _ in node.next_functions]
