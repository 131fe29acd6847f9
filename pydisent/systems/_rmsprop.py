"""PyTorch's RMSprop, via fused AdamW for lack of a fused RMSprop, and TensorFlow 1's."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# A step count at which Adam's bias correction 1 − β₂^step is 1.
_LONG_AFTER = 1e9


class RMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop` with a step that takes half the time on the CPU with momentum.

    m ← μ m + g / (√v + ε), where v is the running mean of g², is a step of AdamW on m with β₁ = 0,
    learning rate −1 and weight decay μ − 1; then θ ← θ − lr m. State and checkpoints are PyTorch's.
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
                gradients,  # the first moment, equal to the gradient for β₁ = 0
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


class TensorFlowRMSprop(torch.optim.RMSprop):
    """TensorFlow 1's `RMSPropOptimizer`: ε inside the root, and an initial mean square of 1.

    v ← α v + (1 − α) g² from v = 1, m ← μ m + g / √(v + ε), θ ← θ − lr m. PyTorch's starts at v = 0
    and divides by √v + ε: its first steps have size lr / √(1 − α) regardless of the gradient,
    TensorFlow's lr |g|. State and checkpoints are PyTorch's.

    Parameters
    ----------
    params : iterable of Tensor
        The parameters to optimise.
    lr, alpha, eps, momentum : float
        The learning rate, α, ε and μ.
    """

    def __init__(
        self, params: Any, lr: float, alpha: float = 0.9, eps: float = 1e-10, momentum: float = 0.0
    ) -> None:
        super().__init__(params, lr, alpha, eps, momentum=momentum)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        new = [p for p in group["params"] if p.grad is not None and not self.state[p]]
        is_complex = super()._init_group(group, *lists)
        for parameter in new:
            self.state[parameter]["square_avg"].fill_(1.0)
        return is_complex

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Perform a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
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
            torch._foreach_mul_(squares, group["alpha"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["alpha"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            if group["momentum"] > 0:
                torch._foreach_mul_(momenta, group["momentum"])
                torch._foreach_addcdiv_(momenta, gradients, roots)
                torch._foreach_add_(parameters, momenta, alpha=-group["lr"])
            else:
                torch._foreach_addcdiv_(parameters, gradients, roots, -group["lr"])
        return loss


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
