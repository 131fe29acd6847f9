"""Nodes of the autograd graph that are refused: their derivatives are wrong, lost or fleeting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction

from pydisent.jacobian._call import DerivativeError
from pydisent.jacobian._intermediates import Intermediates, words_for
from pydisent.jacobian.decompositions import NATIVE_WRONG


def has_no_derivative(node: Any) -> bool:
    """Whether PyTorch put a node in place of an operator's derivative, with a gradient of zero."""
    name: str = node.name()
    return name == "torch::autograd::WarnNotImplemented"


def is_wrong(node: Any) -> str | None:
    """The public name of an operation whose derivatives PyTorch is known to get wrong."""
    name: str = node.name()
    for prefix, public in NATIVE_WRONG.items():
        # A batch norm with given statistics is an affine map.
        if name.startswith(prefix) and getattr(node, "_saved_training", True):
            return public
    return None


def refuse_node(node: Any, name: str = "fn") -> None:
    """Raise DerivativeError if a node, of the operation ``name``, is one that is refused."""
    if has_no_derivative(node):
        raise DerivativeError(
            f"'{name}' runs an operator that has no autograd formula, so that its result would "
            "count as a constant: give it one (torch.library.register_autograd), or detach() what "
            "it reads if that is intended"
        )
    public = is_wrong(node)
    if public is not None:
        raise DerivativeError(
            f"fn reaches PyTorch's native {public} ({node.name()}) where torch functions do not "
            "show it (in scripted code, a custom autograd.Function, a thread or a gradient inside "
            "fn); its derivatives, or higher ones, are wrong or missing. Call it from Python, or "
            "build it from elementary operations"
        )
    function = getattr(node, "_forward_cls", None)
    if function is not None and function.__module__.startswith("torch.distributed.fsdp"):
        raise DerivativeError(
            "fn runs a module sharded by FSDP (fully_shard), whose weights are freed after its "
            "call, while the derivative needs them later: use a module that is not sharded, such "
            "as one in DistributedDataParallel"
        )


def refuse_nodes_behind(outputs: Iterable[Tensor], intermediates: Intermediates) -> None:
    """Raise DerivativeError if the autograd graph of some outputs has a node that is refused.

    Including custom functions whose backward reads one of the ``intermediates``.
    """
    pending, seen = [output.grad_fn for output in outputs], set[Any]()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            refuse_node(node)
            value = intermediates.held_by(node) if isinstance(node, BackwardCFunction) else None
            if value is not None:
                raise DerivativeError(words_for(node._forward_cls.__qualname__, value))
            seen.add(node)
            pending += [parent for parent, _ in node.next_functions]
