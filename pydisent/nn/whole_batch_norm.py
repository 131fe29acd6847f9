"""Batch norm with the statistics of a batch that is sharded over processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pydisent import parallel

_held = False


@contextmanager
def statistics_held() -> Iterator[None]:
    """Hold statistics of sharded batches constant, as the Jacobian engine does for all others."""
    global _held
    before, _held = _held, True
    try:
        yield
    finally:
        _held = before


class _WholeBatchNorm(_BatchNorm):
    """Batch norm that uses the whole batch's statistics inside `parallel.data_parallel`.

    PyTorch's SyncBatchNorm refuses CPU tensors, and cannot be differentiated twice.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return x (B, C, ...) normalised and scaled; every process has B rows."""
        by_batch = self.training or self.running_mean is None
        if not by_batch or parallel.processes() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = self._statistics(x.detach() if _held else x)
        channels = (-1, *(1,) * (x.dim() - 2))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        x = (x - mean.view(channels)) * scale.view(channels)
        if self.affine:
            x = x + self.bias.view(channels)
        return x.to(input.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the whole batch's biased variance and mean (C,), and update the running ones."""
        axes = (0, *range(2, x.dim()))
        parts = torch.stack(torch.var_mean(x, axes, correction=0))
        variances, means = parallel.gather(parts[None]).unbind(1)
        variance = variances.mean(0) + means.var(0, correction=0)
        mean = means.mean(0)
        if self.training and self.track_running_stats:
            self._track(variance.detach(), mean.detach(), parallel.processes() * x[:, 0].numel())
        return variance, mean

    def _track(self, variance: Tensor, mean: Tensor, count: int) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        unbiased = variance * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var), share)


class WholeBatchNorm1d(_WholeBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the whole batch."""


class WholeBatchNorm2d(_WholeBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the whole batch."""


class WholeBatchNorm3d(_WholeBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over the whole batch."""


_WHOLE: dict[type, type] = {
    nn.BatchNorm1d: WholeBatchNorm1d,
    nn.BatchNorm2d: WholeBatchNorm2d,
    nn.BatchNorm3d: WholeBatchNorm3d,
}
_KNOWN = (_WholeBatchNorm, nn.SyncBatchNorm)


def normalize_whole_batches(module: nn.Module) -> None:
    """Make every batch norm inside `module` compute its statistics over all processes' shards.

    Outside `parallel.data_parallel`, and in eval mode, nothing changes.

    Raises
    ------
    TypeError
        If the module contains a batch norm of another class.
    """
    for layer in module.modules():
        if type(layer) in _WHOLE:
            # Modified in place, as optimisers and others hold references to the object.
            layer.__class__ = _WHOLE[type(layer)]
        elif isinstance(layer, _BatchNorm) and not isinstance(layer, _KNOWN):
            accepted = ", ".join(known.__name__ for known in _WHOLE)
            raise TypeError(
                f"module's batch norms must be of {accepted}, got {type(layer).__name__}"
            )
