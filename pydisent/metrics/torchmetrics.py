"""Table metrics as `torchmetrics.Metric`: codes and factors are accumulated batch by batch.

`compute` returns bitwise what the function in `pydisent.metrics` returns for all codes and factors.
In a distributed run, each process updates with its own samples, and `compute` uses all of them;
samples that a sampler repeats to equalise shards are repeated here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pydisent._extras import optional
from pydisent.data.indices import integer_array
from pydisent.metrics._result import MetricResult
from pydisent.metrics._table import check_codes
from pydisent.metrics.dci import dci
from pydisent.metrics.infomec import infomec
from pydisent.metrics.mcc import mcc
from pydisent.metrics.mig import mig
from pydisent.metrics.modularity import modularity
from pydisent.metrics.sap import sap

with optional("pydisent.metrics.torchmetrics"):
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat

__all__ = ["DCI", "MCC", "MIG", "SAP", "InfoMEC", "Modularity", "TableMetric"]


class TableMetric(Metric):
    """A function of a table of codes and factors, as a torchmetrics metric.

    Parameters
    ----------
    measure : callable
        From codes (N, d) and factors (N, f) to a `MetricResult`: a module-level function, so that
        the metric can be pickled.
    options : dict
        Further arguments of ``measure``, by name.
    kwargs : object
        Passed to `torchmetrics.Metric`.

    Attributes
    ----------
    result : MetricResult or None
        The last result of `compute`, with details; None before it and after `reset`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    codes: list[Tensor] | Tensor
    factors: list[Tensor] | Tensor

    def __init__(
        self, measure: Callable[..., MetricResult], options: dict[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._measure, self._options = measure, options
        self.result: MetricResult | None = None
        self.add_state("codes", default=[], dist_reduce_fx="cat")
        self.add_state("factors", default=[], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Add the codes and factors of a batch.

        Parameters
        ----------
        codes : Tensor
            (B, d), finite; detached from any graph.
        factors : Tensor
            (B, f) integers or booleans.

        Raises
        ------
        TypeError, ValueError
            If they are not as above, or their columns differ from those of earlier batches.
        """
        for name, given in (("codes", codes), ("factors", factors)):
            if not isinstance(given, Tensor):
                raise TypeError(f"{name} must be a torch.Tensor, got {type(given).__name__}")
        check_codes(codes)
        integer_array(factors * 1 if factors.dtype == torch.bool else factors, "factors")
        if factors.ndim != 2 or len(factors) != len(codes) or not factors.shape[1]:
            raise ValueError(
                f"factors must be (B, f) for B = {len(codes)} codes, got {tuple(factors.shape)}"
            )
        tables = (("codes", codes, self.codes), ("factors", factors, self.factors))
        for name, given, kept in tables:
            if len(kept) and kept[0].shape[-1] != given.shape[1]:
                raise ValueError(
                    f"{name} must have {kept[0].shape[-1]} columns, as in earlier batches, got "
                    f"{given.shape[1]}"
                )
        for _, given, kept in tables:
            assert isinstance(kept, list)
            kept.append(given.detach().clone())  # the caller may write to it

    def compute(self) -> Tensor:
        """Return the score over all samples, () float64; `result` then holds the details.

        Raises
        ------
        ValueError, TypeError
            If there was no `update`, or as raised by the function in `pydisent.metrics`.
        """
        if not len(self.codes):
            raise ValueError("codes must be given by update before compute, got none")
        codes, factors = dim_zero_cat(self.codes), dim_zero_cat(self.factors)
        self.result = self._measure(codes, factors, **self._options)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(self.result.score, dtype=dtype, device=self.device)

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.result = None

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        self._match_processes(kwargs.get("process_group") or self.process_group)
        super()._sync_dist(*args, **kwargs)

    def _match_processes(self, group: Any) -> None:
        """Give a process without samples empty tables with the others' columns and types.

        Gathering tensors whose shapes or types differ between processes would hang.
        """
        if not torch.distributed.is_initialized():
            return
        own = None
        if len(self.codes):
            own = [(t.shape[1:], t.dtype) for t in map(dim_zero_cat, (self.codes, self.factors))]
        found: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(found, own, group)
        given = [kinds for kinds in found if kinds is not None]
        if any(kinds != given[0] for kinds in given):
            raise ValueError(
                f"codes and factors must have the same columns and types in all processes, got "
                f"{given}"
            )
        if own is None and given:
            empty = [
                [torch.empty(0, *shape, dtype=dtype, device=self.device)]
                for shape, dtype in given[0]
            ]
            self.codes, self.factors = empty


class MIG(TableMetric):
    """`pydisent.metrics.mig`.

    Parameters
    ----------
    bins
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(self, *, bins: int = 20, **kwargs: Any) -> None:
        super().__init__(mig, {"bins": bins}, **kwargs)


class SAP(TableMetric):
    """`pydisent.metrics.sap`, without a second table.

    Parameters
    ----------
    variant, continuous, prune_std
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(
        self,
        *,
        variant: Literal["thresholds", "svm", "continuous"] = "thresholds",
        continuous: Sequence[int] = (),
        prune_std: float = 0.05,
        **kwargs: Any,
    ) -> None:
        options = {"variant": variant, "continuous": tuple(continuous), "prune_std": prune_std}
        super().__init__(sap, options, **kwargs)


class DCI(TableMetric):
    """`pydisent.metrics.dci`, disentanglement; without a second table.

    Parameters
    ----------
    estimator, seed
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(
        self,
        *,
        estimator: Literal["presorted", "gbt"] = "presorted",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(dci, {"estimator": estimator, "seed": seed}, **kwargs)


class Modularity(TableMetric):
    """`pydisent.metrics.modularity`.

    Parameters
    ----------
    bins
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(self, *, bins: int = 20, **kwargs: Any) -> None:
        super().__init__(modularity, {"bins": bins}, **kwargs)


class MCC(TableMetric):
    """`pydisent.metrics.mcc`.

    Parameters
    ----------
    correlation
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(
        self, *, correlation: Literal["pearson", "spearman"] = "pearson", **kwargs: Any
    ) -> None:
        super().__init__(mcc, {"correlation": correlation}, **kwargs)


class InfoMEC(TableMetric):
    """`pydisent.metrics.infomec`, InfoM; InfoE and InfoC are details.

    Parameters
    ----------
    discrete_codes, seed
        As for that function.
    kwargs
        Passed to `torchmetrics.Metric`.
    """

    def __init__(self, *, discrete_codes: bool = False, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(infomec, {"discrete_codes": discrete_codes, "seed": seed}, **kwargs)
