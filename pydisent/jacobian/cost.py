"""Cost estimates for the routes to the penalty, from counted work and this machine's constants.

Pushing K tangents through a program takes a fixed time per step, and a time per multiplication and
per number read or written. The constants are measured once per machine and kept in the user's
cache, so that a machine always makes the same choice.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pydisent._user_cache import cache_folder

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """Seconds per step (without and with its reverse pass), per multiplication, per number."""

    step: float
    reversed_step: float
    product: float
    number: float


@dataclass(frozen=True)
class Work:
    """Steps, multiplications, and numbers read or written for one tangent of the whole batch."""

    steps: int
    products: int
    numbers: int

    def forward(self, tangents: int, chunk: int, machine: Machine) -> float:
        """Seconds of J V."""
        passes = -(-tangents // chunk)
        return passes * self.steps * machine.step + tangents * self._each(machine)

    def both(self, tangents: int, chunk: int, machine: Machine) -> float:
        """Seconds of J V with a graph, and a reverse pass through it."""
        passes = -(-tangents // chunk)
        return passes * self.steps * machine.reversed_step + 3 * tangents * self._each(machine)

    def _each(self, machine: Machine) -> float:
        return self.products * machine.product + self.numbers * machine.number


def machine(device: torch.device) -> Machine:
    """The constants of this machine, measured on first use."""
    return load_or_measure(device.type, torch.get_num_threads())


@functools.cache
def load_or_measure(device: str, threads: int) -> Machine:
    """The machine's constants from the user's cache, measured if they are missing."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    # With the host name, as machines may share a home directory.
    key = " ".join(
        map(str, (torch.__version__, platform.node(), platform.machine(), name, _cpu(), device))
    )
    key += f" {threads}"
    folder = cache_folder()
    if folder is None:
        return measure(torch.device(device))
    file = folder / f"machine-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    try:
        return Machine(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        found = measure(torch.device(device))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{time.time_ns()}.tmp")
        beside.write_text(json.dumps({**asdict(found)}))
        beside.replace(file)
    except OSError as error:
        LOG.warning("%s: cannot be written: %s", file, error)
    return found


def _cpu() -> str:
    return str(torch.backends.cpu.get_cpu_capability())


def measure(device: torch.device) -> Machine:
    """Time a long narrow network, a matrix product and an addition."""
    from pydisent.jacobian.linearization import linearize

    with torch.random.fork_rng(), torch.inference_mode(False), torch.no_grad():
        layers = [torch.full((4, 4), 0.1, device=device) for _ in range(16)]

        def narrow(z: Tensor) -> Tensor:
            for layer in layers:
                z = torch.sin(z @ layer)
            return z

        linear = linearize(narrow, torch.ones(1, 4, device=device), chunk=4)
        steps = len(linear.program.steps)
        one = torch.ones(1, 1, 4, device=device)
        a = torch.ones(512, 512, device=device)
        b = torch.ones(1 << 22, device=device)
        return Machine(
            step=_seconds(lambda: linear.push(one), device) / steps,
            reversed_step=_seconds(lambda: linear.gram_product(one), device) / steps,
            product=_seconds(lambda: a @ a, device) / 512**3,
            number=_seconds(lambda: b + 1.0, device) / (2 * len(b)),
        )


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The median time of a few runs."""
    times = []
    for _ in range(9):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[4]
