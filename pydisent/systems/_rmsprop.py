"""RMSprop by PyTorch's fused AdamW, as it has no fused RMSprop."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# A step count at which Adam's bias correction 1 − β₂^step is 1.
_LONG_AFTER = 1e9


class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop`, whose step with momentum takes half the time on the CPU.

    m ← μ m + g / (√v + ε), v being the running mean of g², is a step of AdamW upon m with β₁ = 0,
    learning rate −1 and decay μ − 1; then θ ← θ − lr m. State and checkpoints are PyTorch's.
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
                gradients,  # the first moment, which β₁ = 0 sets to the gradient
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
    """Whether `step` covers this group's options, device and dtype."""
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
