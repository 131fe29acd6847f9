"""RMSprop by torch's fused steps: it has none for RMSprop itself."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Adam divides by 1 − β₂^step, which must be 1.
_LONG_AFTER = 1e9


class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop` with momentum; on the CPU its step takes half the time.

    m ← μ m + g / (√v + ε), v being the running mean of g², is a step of AdamW upon m with β₁ = 0,
    learning rate −1 and decay μ − 1; then θ ← θ − lr m. State and checkpoints are torch's own.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Perform a step."""
        if closure is not None or not all(map(_is_plain, self.param_groups)):
            return super().step(closure)
        for group in self.param_groups:
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            squares: list[Tensor] = []
            momenta: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, parameters, gradients, squares, momenta, [], steps)
            if not parameters:
                continue
            torch._foreach_add_(steps, 1)
            adamw(
                momenta,
                gradients,
                gradients,  # where β₁ = 0 leaves what it finds
                squares,
                [],
                [torch.tensor(_LONG_AFTER) for _ in steps],
                fused=True,
                amsgrad=False,
                beta1=0.0,
                beta2=group["alpha"],
                lr=-1.0,
                weight_decay=group["momentum"] - 1,
                eps=group["eps"],
                maximize=False,
            )
            torch._foreach_add_(parameters, momenta, alpha=-group["lr"])
        return None


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether a group is on the CPU, and of the simple kind that is written here."""
    special = ("centered", "weight_decay", "maximize", "differentiable", "capturable")
    return (
        group["momentum"] > 0
        and not isinstance(group["lr"], Tensor)
        and not any(group[name] for name in special)
        and all(map(_is_simple, group["params"]))
    )


def _is_simple(parameter: Tensor) -> bool:
    gradient = parameter.grad
    return (
        parameter.device.type == "cpu"
        and parameter.dtype in (torch.float32, torch.float64)
        and (gradient is None or gradient.stride() == parameter.stride())
    )
