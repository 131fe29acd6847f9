"""The judgement of a random program, by central differences."""

import faulthandler
import random
import re
import signal
import warnings
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from _oracle import FixedBatchStatistics, power_iterations, unrolled
from _probe import central_difference
from _program_steps import restart
from _programs import own_names
from torch import Tensor, nn

import pydisent
import pydisent.jacobian

K, ITERATIONS, STEP = 2, 2, 3e-4
# Central differences of two steps differ by less wherever the program is smooth.
VALUE_BOUND, JACOBIAN_BOUND, PENALTY_BOUND, SLOPE_BOUND = 1e-11, 1e-9, 1e-9, 1e-7


class RoughError(Exception):
    """The program has a kink near the point, so that differences say nothing."""


class Held(FixedBatchStatistics):
    """What autograd takes for constant stays what it was in the first pass."""

    def _held(self, value: Tensor) -> Tensor:
        if self.position is None:
            self.kept.append(value)
            return value
        self.position += 1
        return self.kept[self.position - 1]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.detach:
            return self._held(func(*args).clone())
        if func is F.gumbel_softmax and kwargs.get("hard"):
            soft = func(*args, **{**kwargs, "hard": False})
            hard = F.one_hot(soft.argmax(-1), soft.shape[-1])
            return self._held((hard - soft).detach()) + soft
        return super().__torch_function__(func, types, args, kwargs)


class Subject:
    """A program's function at its point, started from the same random state each time."""

    def __init__(self, names: dict, text: str | None = None):
        self.names = own_names(names)
        self.fn, self.z = names["fn"], names["z"]
        self.calls = 0
        modules = [v for v in self.names.values() if isinstance(v, nn.Module)]
        tensors = [v for v in self.names.values() if isinstance(v, Tensor) and v is not self.z]
        loose = [t for t in tensors if t.requires_grad]
        self.parameters = [*loose, *(p for m in modules for p in m.parameters())]
        constants = [t for t in tensors if not t.requires_grad]
        constants += [b for m in modules for b in m.buffers()]
        self._buffers = [(b, b.clone()) for b in constants]
        generator = torch.Generator().manual_seed(7)

        def draw(shape, dtype=torch.float64):
            return torch.randn(shape, generator=generator, dtype=dtype)

        self.directions = [draw(p.shape, p.dtype) * 0.3 for p in self.parameters]
        self.probe = draw((*self.z.shape, K)).sign()
        constant = text is None or re.search(r"detach|hard=True|BatchNorm", text)
        self._held = Held() if constant else None  # the mode takes its time
        self._measured: dict = {}
        self._flat(self.z)

    def __call__(self, z):
        self.calls += 1
        return self.fn(z)

    def restart(self) -> None:
        restart(self.names)
        for parameter in self.parameters:
            parameter.grad = None
        with torch.no_grad():
            for buffer, kept in self._buffers:
                if not torch.equal(buffer, kept):
                    buffer.copy_(kept)

    def state(self) -> list:
        """Of all random generators."""
        values = self.names.values()
        numpy = np.random.get_state()  # noqa: NPY002
        return [
            random.getstate(),
            [*numpy[2:], numpy[1].tobytes()],
            [str(v.bit_generator.state) for v in values if isinstance(v, np.random.Generator)],
            torch.get_rng_state().numpy().tobytes(),
            [v.get_state().tolist() for v in values if isinstance(v, torch.Generator)],
        ]

    def buffers(self) -> list[Tensor]:
        return [b.double() for b, _ in self._buffers]

    def measured(self, what: str, step: float) -> Tensor:
        """The reference's ``what``, measured once."""
        if (what, step) not in self._measured:
            self._measured[what, step] = getattr(self, what)(step)
        return self._measured[what, step]

    # -- the reference -----------------------------------------------------------------------------

    def _flat(self, z: Tensor) -> Tensor:
        """All outputs (B, n). Gradients stay enabled: the program may take some itself."""
        self.restart()
        if self._held is None:
            outputs = self.fn(z)
        else:
            with self._held:
                outputs = self.fn(z)
            self._held.position = 0
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        return torch.cat([o.detach().reshape(len(z), -1) for o in outputs], 1)

    def jacobian(self, step: float) -> Tensor:
        columns = [
            central_difference(lambda h, e=e: self._flat(self.z + h * e), step)
            for e in torch.eye(self.z.shape[1], dtype=self.z.dtype)
        ]
        return torch.stack(columns, -1)

    def penalty(self, step: float) -> Tensor:
        jacobian = self.jacobian(step)
        gram = jacobian.mT @ jacobian
        return power_iterations(lambda v: gram @ v, self.probe, ITERATIONS, True)

    def slope(self, step: float) -> Tensor:
        """The penalty's derivative along the directions of the parameters."""
        kept = [p.detach().clone() for p in self.parameters]

        def moved(h):
            with torch.no_grad():
                for p, old, d in zip(self.parameters, kept, self.directions):
                    p.copy_(old + h * d)
            return self.penalty(step)

        try:
            return central_difference(moved, step)
        finally:
            moved(0.0)


# -- the judgement ---------------------------------------------------------------------------------

RIGHT, ROUGH, REFUSED, WRONG, NONE = "right", "rough", "refused", "wrong", "constant"


@contextmanager
def _within(seconds: float):
    """Raise TimeoutError after so much of this process's time; end it if it is stuck for long."""

    def stop(signum, frame):
        raise TimeoutError(f"no answer after {seconds} s")

    faulthandler.dump_traceback_later(6 * seconds, exit=True)  # a lock is not interrupted
    kept = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, kept)


def _refusals() -> type[Exception]:
    return getattr(pydisent.jacobian, "DerivativeError", RuntimeError)


def verdict(names: dict, text: str | None = None, *, broken: bool = False) -> str:
    """What the engine makes of the program whose definition made ``names``, in a few words.

    ``text`` is the definition. ``broken``: torch's own backward raises RuntimeError, so the
    penalty's may, too.
    """
    subject = Subject(names, text)
    try:
        with warnings.catch_warnings(), _within(20):
            warnings.simplefilter("ignore")
            fault = _linearized(subject) or _penalized(subject, broken)
    except RoughError:
        return ROUGH
    except _refusals() as error:
        said = str(error).partition("\n")[0]
        if text is not None and not _names_part_of(str(error), text):
            return f"{WRONG}: refused without the operation's name: {type(error).__name__}: {said}"
        return f"{REFUSED}: {said}"
    except Exception as error:
        if "depend on z" in str(error) and not subject.jacobian(STEP).any():
            return NONE
        return f"{WRONG}: {type(error).__name__}: {error}"
    return f"{WRONG}: {fault}" if fault else RIGHT


def _linearized(subject: Subject) -> str:
    """What is wrong with ``pydisent.linearize``; nothing if it is right."""
    subject.restart()
    expected = subject.fn(subject.z)
    state, buffers, z = subject.state(), subject.buffers(), subject.z.clone()
    subject.restart()
    subject.calls = 0
    linear = pydisent.linearize(subject, subject.z)
    after, written = subject.state(), subject.buffers()
    values, wanted = linear.value, expected
    if isinstance(expected, Tensor):
        values, wanted = [values], [expected]
    error = max(_error(a, b.detach()) for a, b in zip(values, wanted, strict=True))
    if not error <= VALUE_BOUND:
        return f"the value is off by {error:.1e}"
    jacobian, again = linear.jacobian(), linear.jacobian()
    last, rewritten, calls = subject.state(), subject.buffers(), subject.calls
    marked = not torch.equal(subject.z, z) or any(p.grad is not None for p in subject.parameters)
    if fault := _compared(subject, "jacobian", jacobian, JACOBIAN_BOUND):
        return f"the Jacobian is {fault}"
    if not torch.equal(jacobian, again):
        return "a second jacobian() gives something else"
    if after != state or last != state:
        return "linearize left the random states as a plain call does not"
    pairs = zip(buffers * 2, [*written, *rewritten], strict=True)
    if any(_error(got, wanted) > VALUE_BOUND for wanted, got in pairs):
        return "linearize left the buffers as a plain call does not"
    if marked:
        return "linearize left a mark on z or on the parameters' gradients"
    return "" if calls == 1 else f"linearize and jacobian() called the function {calls} times"


def _penalized(subject: Subject, broken: bool) -> str:
    """What is wrong with ``pydisent.alignment_penalty``; nothing if it is right."""
    for method in ("gram", "matrix_free"):
        subject.restart()
        subject.calls = 0
        options = {"k": K, "iterations": ITERATIONS, "probe": subject.probe, "tolerance": 0}
        value = pydisent.alignment_penalty(subject, subject.z, method=method, **options)
        slope = None
        try:
            value.backward()
            slope = _along(subject, [p.grad for p in subject.parameters])
        except RuntimeError as error:
            if not broken or not re.search("modified (by an inplace|inplace)", str(error)):
                raise
        calls = subject.calls
        if fault := _compared(subject, "penalty", value.detach(), PENALTY_BOUND):
            return f"the penalty by {method} is {fault}"
        if slope is not None and (fault := _compared(subject, "slope", slope, SLOPE_BOUND)):
            return f"the gradient of the penalty by {method} is {fault}"
        if calls != 1:
            return f"alignment_penalty and its backward called the function {calls} times"
    return ""


def _along(subject: Subject, gradients: list[Tensor | None]) -> Tensor:
    slope = torch.zeros((), dtype=torch.float64)
    for gradient, direction in zip(gradients, subject.directions, strict=True):
        if gradient is not None:
            slope += (gradient.conj() * direction).real.sum()
    return slope


def _error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    error = ((got - expected).abs().max() / expected.abs().max().clamp_min(0.1)).item()
    return error if error == error else float("inf")


def _compared(subject: Subject, what: str, got: Tensor, bound: float) -> str:
    """How far ``got`` is off; RoughError where two steps measure different things."""
    expected = subject.measured(what, STEP)
    error = _error(got, expected)
    if error <= bound:
        return ""
    if not _error(subject.measured(what, 1.5 * STEP), expected) <= bound / 3:
        raise RoughError
    try:
        torchs = _by_torch(subject, what)
        if not torchs.isfinite().all():  # a norm of nothing but zeros
            raise RoughError
        also = f"torch's own by {_error(torchs, expected):.1e}"
    except RuntimeError as refusal:
        also = "torch's own raises " + str(refusal).partition("\n")[0][:100]
    return f"off by {error:.1e}, {also}"


def _by_torch(subject: Subject, what: str) -> Tensor:
    """The same from torch's reverse mode, once and twice."""
    subject.restart()
    if what == "jacobian":
        return _reverse(subject)
    answer = unrolled(
        subject.fn, subject.parameters, subject.z, iterations=ITERATIONS, probe=subject.probe
    )
    if what == "penalty":
        return torch.tensor(answer.value, dtype=torch.float64)
    return _along(subject, answer.parameters)


def _reverse(subject: Subject) -> Tensor:
    """The Jacobian, a row at a time."""
    z = subject.z.clone().requires_grad_()
    outputs = subject.fn(z)
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    flat = torch.cat([o.reshape(len(z), -1) for o in outputs], 1)
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    rows = [torch.autograd.grad(c.sum(), z, **options)[0] for c in flat.unbind(1)]
    return torch.stack(rows, 1)


OPERATORS = "add sub mul div truediv pow matmul neg getitem setitem".split()


def _names_part_of(message: str, text: str) -> bool:
    """Whether the message has a name in it that the program calls."""

    def plain(names):
        return {name.replace("_", "").lower() for name in names}

    called = plain(re.findall(r"\w+(?=\()|(?<=\.)[A-Za-z]\w+", text)) | {*OPERATORS}
    called -= {"fn"}  # as the engine calls every function
    words = re.findall(r"[A-Za-z_]\w+", message)
    nodes = plain(word for word in words if re.search(r"Backward\d*$|Function$", word))
    return bool(called & plain(words)) or any(c in node for c in called for node in nodes)
