"""Optimiser states as a flat dictionary of tensors, and plain values."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# How updates are computed: depends on this program and device, and is not restored.
_IMPLEMENTATION = ("fused", "foreach", "capturable", "differentiable")


def own_storage(tensor: Tensor) -> Tensor:
    """Return a contiguous copy that shares no storage, as safetensors requires."""
    return tensor.detach().clone().contiguous()


def pack_optimizers(optimizers: dict[str, Optimizer]) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors by "optimizer/parameter/moment", and the rest as plain values."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        values: dict[str, dict[str, Any]] = {}
        for index, moments in state["state"].items():
            values[str(index)] = {}
            for key, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{index}/{key}"] = own_storage(value)
                else:
                    values[str(index)][key] = value
        groups = [{k: _as_number(v) for k, v in group.items()} for group in state["param_groups"]]
        rest[name] = {"state": values, "param_groups": groups}
    return tensors, rest


def _as_number(value: Any) -> Any:
    """Return the number in a tensor without dimensions, such as a learning rate may be."""
    return value.item() if isinstance(value, Tensor) and value.dim() == 0 else value


def unpack_optimizers(
    optimizers: dict[str, Optimizer], tensors: dict[str, Tensor], rest: dict[str, Any]
) -> None:
    """Restore optimiser states returned by `pack_optimizers`."""
    for name, optimizer in optimizers.items():
        groups = optimizer.param_groups
        own = [{flag: group.get(flag) for flag in _IMPLEMENTATION} for group in groups]
        scalars = [{k: v for k, v in group.items() if isinstance(v, Tensor)} for group in groups]
        state = {int(index): dict(values) for index, values in rest[name]["state"].items()}
        for path, tensor in tensors.items():
            owner, index, key = path.split("/", 2)
            if owner == name:
                state[int(index)][key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": rest[name]["param_groups"]})
        for group, flags in zip(optimizer.param_groups, own):
            group.update({flag: value for flag, value in flags.items() if flag in group})
        for group, tensors_of in zip(optimizer.param_groups, scalars):
            group.update({key: value.fill_(group[key]) for key, value in tensors_of.items()})
        _match_layout(optimizer)


def _match_layout(optimizer: Optimizer) -> None:
    """Give moments the memory layout of their weights, which fused updates assume."""
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                moments[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
