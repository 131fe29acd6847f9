"""``doctor`` for a function, and for the catalogue of layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pydisent._checks import check
from pydisent.jacobian._arguments import checked_keywords
from pydisent.jacobian._draws import RandomState
from pydisent.jacobian._eager import compiled_parts_run_eagerly, run_eagerly
from pydisent.jacobian.corrections import correct_derivatives
from pydisent.jacobian.decompositions import KEEP_STATISTICS
from pydisent.jacobian.diagnosis._catalogue import Case, cases
from pydisent.jacobian.diagnosis._differences import Values
from pydisent.jacobian.diagnosis._engine import HELD, TWICE, means
from pydisent.jacobian.diagnosis._model import Model
from pydisent.jacobian.diagnosis._operation import CASTS, Operation
from pydisent.jacobian.diagnosis._probe import (
    ENGINE,
    RAISES,
    RIGHT,
    UNMEASURED,
    WRONG,
    Probe,
    Probes,
    Unmeasurable,
    Verdict,
)
from pydisent.jacobian.diagnosis._recorder import Recorder
from pydisent.jacobian.diagnosis._reports import reports_of
from pydisent.jacobian.diagnosis._result import Diagnosis, Row
from pydisent.jacobian.diagnosis._routes import KINDS

_Verdicts = Mapping[str, Verdict]


@run_eagerly
def doctor(
    fn: Callable[..., Any],
    z: Tensor,
    *args: Any,
    whole: bool = True,
    fn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Diagnosis:
    """Find out which derivatives of a function's operations PyTorch gets wrong.

    Each torch operation between ``z`` and the result is run again on its recorded arguments, in
    float64: derivatives of first, second and third order, by forward and reverse mode, by their
    compositions and under ``vmap``, are compared with differences of the operation's values along
    random directions. So are the Jacobian engine's gradient of ‖J q‖² and, where anything is wrong
    or missing, the derivatives inside `correct_derivatives`.

    Parameters
    ----------
    fn
        Any callable of a (B, *latent) tensor. It is called once, with its side effects, and if
        ``whole`` some hundred times more, without side effects on tensors and random generators.
    z
        Latent codes, (B, *latent), floating point. A few codes are enough, and faster.
    args, kwargs
        Passed to ``fn`` after ``z``.
    whole
        Also compare the derivatives of ``fn`` itself, with respect to ``z`` and, if it is a module,
        to its parameters: operations may be wrong in combination, or hidden from torch functions.
    fn_kwargs
        Further keyword arguments of ``fn``, which may share the names of this function's own.

    Returns
    -------
    Diagnosis
        One row per operation; prints as a table. ``.wrong`` are the rows that are silently wrong.

    Raises
    ------
    TypeError, ValueError
        If ``fn`` is not callable, ``z`` is not a finite floating (B, *latent) tensor, or the
        result does not depend on ``z``.

    Notes
    -----
    A derivative is wrong if its error, relative to its norm, exceeds 1e-6 and fifty times the error
    of the differences, which two stencils estimate, along each of two sets of random directions.
    Outputs at which the stencils disagree have a kink there and are left out; if none remains, the
    operation is "not differentiable here".

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GroupNorm(2, 8), torch.nn.SiLU())
    >>> diagnosis = pydisent.doctor(net, torch.randn(3, 4))
    >>> [row.operation for row in diagnosis.rows]
    ['linear', 'group_norm', 'silu']
    >>> diagnosis.wrong
    []
    """
    kwargs = checked_keywords(doctor, fn, z, kwargs, fn_kwargs)
    check(bool(torch.isfinite(z).all()), "z", "finite", "NaN or infinity")
    device = z.device
    eagerly = compiled_parts_run_eagerly()
    with torch.inference_mode(False), torch.enable_grad(), _quiet(), eagerly:
        drawn = RandomState.now(device)
        recorder = _recorded(fn, z, args, kwargs)
        after = drawn.again()
        try:
            rows = [_row_of(operation) for operation in recorder.operations.values()]
            model = _model_row(Model(fn, z, args, kwargs, drawn), fn, rows) if whole else None
        finally:
            after.restore()
    remarks = []
    if recorder.in_transforms:
        remarks.append("operations inside torch.func transforms of fn were not examined")
    return Diagnosis(rows, model, torch.__version__, remarks)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _recorded(fn: Callable[..., Any], z: Tensor, args: tuple, kwargs: dict) -> Recorder:
    start = z.clone() if z.is_inference() else z
    start = (start if start.requires_grad else start.detach().requires_grad_()).clone()
    owner = getattr(fn, "__self__", fn)
    parts = owner.named_modules() if isinstance(owner, nn.Module) else ()
    names = {id(module): name for name, module in parts if name}
    recorder = Recorder(start, names)
    with torch.jit.optimized_execution(False):
        out = recorder.run(fn, start, *args, **kwargs)
    if not recorder.moves(out):
        raise ValueError("fn must depend on z, but its output is computed without it")
    return recorder


def _row_of(operation: Operation) -> Row:
    found = examined(operation.func, operation.name, operation.function(), operation.operands())
    if operation.name in CASTS:
        found = _Found(dict.fromkeys(KINDS, Verdict(RIGHT)), None, Verdict(RIGHT), found.means)
    return Row(
        operation.name, operation.count, operation.place, operation.shapes,
        found.native, found.corrected, found.engine, found.means,
        found.reports_of(operation.name),
    )  # fmt: skip


def _model_row(model: Model, fn: Callable[..., Any], rows: Sequence[Row]) -> Row:
    found = examined(None, "", model, model.operands)
    name = getattr(fn, "__qualname__", type(fn).__qualname__)
    shape = "×".join(map(str, model.operands[0].shape))
    engine, by = found.engine, "engine"
    if engine.outcome == WRONG and any(row.means == HELD for row in rows):
        engine, by = Verdict(UNMEASURED, message=HELD), HELD
    return Row(f"{name} as a whole", 1, "", shape, found.native, found.corrected, engine, by)


class _Found:
    """Verdicts on one function."""

    def __init__(
        self, native: _Verdicts, corrected: _Verdicts | None, engine: Verdict, by: str
    ) -> None:
        self.native, self.corrected, self.engine, self.means = native, corrected, engine, by

    @property
    def is_off(self) -> bool:
        return any(v.outcome in (WRONG, RAISES) for v in self.native.values())

    def reports_of(self, name: str) -> tuple[str, ...]:
        """The issues about an operation, if a derivative of it is wrong or raises."""
        return reports_of(name) if self.is_off else ()


def examined(func: Any, name: str, f: Values, x: Sequence[Tensor]) -> _Found:
    """Every verdict on ``f`` at ``x``, which is one call of ``func``, if that is given."""
    try:
        probes = Probes(f, x)
    except Unmeasurable as error:
        unmeasured = Verdict(UNMEASURED, message=str(error))
        return _Found(dict.fromkeys(KINDS, unmeasured), None, unmeasured, "")
    native, corrected = probes.verdicts(KINDS), None
    engine = probes.verdict(ENGINE)
    if any(v.outcome in (WRONG, RAISES) for v in native.values()):
        with correct_derivatives():
            corrected = probes.verdicts(KINDS)
    by = _means(func, name, probes.first)
    if func in KEEP_STATISTICS and engine.outcome == WRONG:
        engine, by = Verdict(RIGHT), HELD  # on purpose: J is defined per sample
    return _Found(native, corrected, engine, by)


def _means(func: Any, name: str, probe: Probe) -> str:
    if func is None:
        return ""
    owner = getattr(func, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return TWICE
    try:
        return means(func, name, probe.point(2))
    except Exception:  # the engine's verdict reports it
        return ""


@run_eagerly
def catalogue(names: Sequence[str] | None = None) -> Diagnosis:
    """As `doctor`, for layers used in generators and other functions that PyTorch gets wrong.

    Parameters
    ----------
    names
        Entries of the catalogue; all by default.

    Raises
    ------
    ValueError
        If there is no such entry.
    """
    found = cases()
    unknown = sorted(set(names or ()) - found.keys())
    if unknown:
        raise ValueError(f"names must be among {', '.join(found)}, got {', '.join(unknown)}")
    with torch.inference_mode(False), torch.enable_grad(), _quiet():
        rows = [_case_row(name, found[name]) for name in names or found]
    return Diagnosis(rows, None, torch.__version__)


def _case_row(name: str, case: Case) -> Row:
    found = examined(case.func, case.operation, case, case.operands())
    shapes = ", ".join("×".join(map(str, t.shape)) for t in case.operands()[:4])
    return Row(
        name, 1, "", shapes, found.native, found.corrected, found.engine, found.means,
        found.reports_of(case.operation),
    )  # fmt: skip
