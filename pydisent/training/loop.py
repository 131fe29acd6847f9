"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from pydisent import data, parallel
from pydisent.nn import normalize_whole_batches
from pydisent.systems import System
from pydisent.training import checkpoint as checkpoints
from pydisent.training._finite import NonFiniteError, non_finite_weight
from pydisent.training._setup import (
    begin_folder,
    build,
    check_free,
    describe_precision,
    precision_of,
    prepare,
)
from pydisent.training.batches import Batches
from pydisent.training.folder import RunFolder
from pydisent.training.graphs import GraphedSteps
from pydisent.training.logs import Logs, NoLogs
from pydisent.training.plan import Plan
from pydisent.training.processes import launched, number_of_devices
from pydisent.training.sampling import BatchSampler
from pydisent.training.signals import Interrupted, noted_signals

#: Figures, by name, of a system after a number of updates.
Measure = Callable[[System, int], Mapping[str, float]]


def train(
    plan: Plan,
    path: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    accelerator: str = "auto",
    devices: int | None = None,
    threads: int | None = None,
    keep: int = 2,
    progress: bool = True,
    cuda_graphs: bool = False,
    timeout: float | None = None,
    measure: Measure | None = None,
    measure_every: int | None = None,
) -> RunFolder:
    """Train `plan` into the run folder `path`, or continue there bit for bit.

    Several processes, one per device, share every batch. They are started by torchrun, or else by
    running this program's command line again for each further device. All of them return from this
    function, and only the first writes files.

    On a CPU, denormals are flushed to zero and freed memory is kept, for the whole process.

    Parameters
    ----------
    plan : Plan
        What to train.
    path : path
        The run folder.
    resume : bool
        Continue from the last checkpoint of the folder, which must hold the same plan.
    overwrite : bool
        Delete the run in the folder first.
    accelerator : str
        Lightning Fabric's accelerator: "auto", "cpu", "cuda", ...
    devices : int or None
        Number of processes, each on its own device; by default the number started by torchrun, or
        1. Results agree up to rounding, and bit for bit for the same number.
    threads : int or None
        CPU threads of each process; by default PyTorch's number, divided among the processes.
    keep : int
        Number of checkpoints to keep.
    progress : bool
        Whether to show the progress bar.
    cuda_graphs : bool
        Whether to capture steps as CUDA graphs, where the system's `graph_key` allows it; requires
        a single GPU.
    timeout : float or None
        Seconds to wait for a process that does not respond; by default PyTorch's limit, half an
        hour on CPUs. Loading the data must take less.
    measure : callable or None
        Called by the first process with the system, in eval mode, and the number of its updates;
        returns figures by name, which are logged as score/NAME. The run is the same with and
        without it.
    measure_every : int or None
        Number of updates between its calls.

    Raises
    ------
    FileExistsError
        If the folder is not free and neither `resume` nor `overwrite` is given.
    ValueError
        If the folder to resume holds another plan, another process trains into it, or an argument
        is invalid, such as a number of devices that does not divide the batch.
    FileNotFoundError
        If the folder is removed during training.
    NonFiniteError
        If a loss or weight becomes infinite or NaN; the last good checkpoint stays.
    Interrupted
        On SIGINT, SIGTERM or SIGHUP, after saving.
    ProcessLostError
        If another process ends early or does not respond in time.
    """
    if keep < 1:
        raise ValueError(f"keep must be an integer >= 1, got {keep}")
    if (measure is None) != (measure_every is None) or (
        measure_every is not None and measure_every < 1
    ):
        raise ValueError(
            f"measure_every must be an integer >= 1, with measure, got {measure_every}"
        )
    if timeout is not None and not 1 <= timeout <= 10**6:
        raise ValueError(f"timeout must be in [1, 10^6] seconds, got {timeout}")
    devices = number_of_devices(devices, plan.config.batch_size)
    folder = RunFolder(Path(path))
    if parallel.is_first():
        check_free(plan, folder, resume, overwrite)
    with launched(accelerator, devices, threads, timeout) as device, ExitStack() as locks:
        if cuda_graphs and (device.type != "cuda" or devices > 1):
            raise ValueError(
                f"cuda_graphs must be off except on one CUDA device, got {devices} x {device.type}"
            )
        prepare(plan.seed, device)
        with parallel.together():
            system, dataset = build(plan)
            sampler = BatchSampler(len(dataset), system.images_per_step, plan.seed)
            kept = folder.read_precision() if resume and parallel.rank() == 0 else None
        system.precision = precision_of(plan, folder, kept, device)
        with parallel.together():
            is_there = begin_folder(plan, folder, resume, overwrite, locks, system.precision)
            if progress and system.precision and parallel.rank() == 0:
                print(describe_precision(system.precision, device), flush=True)
        system.to(device)
        loop = _Loop(plan, folder, system, dataset, sampler, keep, cuda_graphs, is_there)
        loop.measure, loop.measure_every = measure, measure_every or 0
        with noted_signals() as received:
            loop.run(received, progress)
    return folder


_Logs = Logs | NoLogs


class _Loop:
    """The state of a run in training."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        system: System,
        dataset: data.ImageDataset,
        sampler: BatchSampler,
        keep: int,
        cuda_graphs: bool,
        is_there: Callable[[], bool],
    ) -> None:
        self.plan, self.folder, self.system = plan, folder, system
        self.plan_sum = folder.plan_sum()
        self.is_there = is_there
        self.batches, self.keep = Batches(dataset, sampler, system, plan.mirror), keep
        self.phases = system.phases(plan.steps)
        self.step, self.saved = 0, -1
        self.started = self.seconds = 0.0
        self.measure: Measure | None = None
        self.measure_every = 0
        # Reading a loss synchronises with the GPU, so losses are read only for logging.
        self.check_every = 1 if system.device.type == "cpu" else plan.log_every
        self.unchecked: list[tuple[int, dict[str, Tensor]]] = []
        # Losses of this phase since the last log line; not every update has every loss.
        self.latest: dict[str, float] = {}
        self.train_once = GraphedSteps(system) if cuda_graphs else system.step
        if parallel.processes() > 1:
            system.reduce_gradients = parallel.average_gradients

    def run(self, received: list[int], progress: bool) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        self._restore()
        try:
            self._train(received, progress)
        except OSError as error:
            self._check_there()
            if error.filename is None and error.strerror:  # such as a full disk
                where = str(self.folder.path)
                raise type(error)(error.errno, error.strerror, where) from error
            raise

    def _train(self, received: list[int], progress: bool) -> None:
        self.started = time.monotonic() - self.seconds
        self.system.train()
        with self._logs(progress) as logs, self.batches.working():
            for phase, updates in self._remaining():
                self._join()
                self._check()
                if self.system.phase_step == 0:
                    self.latest = {}
                while self.system.phase_step < updates:
                    self._stop_on_signal(received, logs)
                    losses = self.train_once(*self.batches(self.step))
                    self.step += 1
                    self.seconds = time.monotonic() - self.started
                    self._after(phase, losses, logs)
            self._save(logs)
            self._stop_on_signal(received, logs)

    def _stop_on_signal(self, received: list[int], logs: _Logs) -> None:
        # Processes may receive a signal at different steps, or only some of them.
        if signum := parallel.highest(received[0] if received else 0):
            self._save(logs)
            raise Interrupted(signum, self.step)

    def _logs(self, progress: bool) -> _Logs:
        if parallel.rank() > 0:
            return NoLogs()
        total = sum(updates for _, updates in self.phases)
        return Logs(self.folder, self.step, total, progress)

    def _join(self) -> None:
        """Synchronise the networks with those of the other processes."""
        if parallel.processes() > 1:
            normalize_whole_batches(self.system)
            parallel.copy_from_first(self.system.state_dict().values())

    def _check_there(self) -> None:
        if not self.is_there():
            raise FileNotFoundError(f"{self.folder.path} was removed during training")

    def _restore(self) -> None:
        # Checksums were verified when the folder was set up.
        latest = checkpoints.latest_checkpoint(self.folder.checkpoints, contents=False)
        if latest is None:
            self.system.start_phase(self.phases[0][0])
            return
        state = checkpoints.load_training(latest, self.system, self.plan_sum)
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved, self.latest = self.step, state.get("losses", {})
        with checkpoints.named(latest / "state.json"):
            self._check_position()
            checkpoints.set_rng_state(state["rng"][0])

    def _check_position(self) -> None:
        """Raise ValueError unless the step agrees with the phase and the phase step."""
        names = [phase for phase, _ in self.phases]
        counts = [count for _, count in self.phases]
        number, done = names.index(self.system.phase), self.system.phase_step
        if done > counts[number] or self.step != sum(counts[:number]) + done:
            raise ValueError(f"step is {self.step} at {done} of {self.system.phase}")

    def _remaining(self) -> Iterator[tuple[str, int]]:
        """Yield the current and the remaining phases with their updates, starting the latter."""
        names = [phase for phase, _ in self.phases]
        first = names.index(self.system.phase)
        yield self.phases[first]
        for phase, updates in self.phases[first + 1 :]:
            self.system.start_phase(phase)
            yield phase, updates

    def _after(self, phase: str, losses: dict[str, Tensor], logs: _Logs) -> None:
        self.unchecked.append((self.step, losses))
        logged = self.step % self.plan.log_every == 0
        if logged or self.step % self.check_every == 0:
            self._check()
            if logged:
                self._check_there()
                logs.write(self.step, self.seconds, phase, self.latest)
                self.latest = {}
        logs.advance(phase)
        # A run that ends while it measures is resumed from before, and measures again.
        if self.measure is not None and self.step % self.measure_every == 0:
            self._measured(self.measure, phase, logs)
        if self.step % self.plan.checkpoint_every == 0:
            self._save(logs)

    def _measured(self, measure: Measure, phase: str, logs: _Logs) -> None:
        """Log figures of the system as it is; neither its random numbers nor its time count."""
        begun = time.monotonic()
        self._check_finite()
        with parallel.together():
            if parallel.rank() == 0:
                state = checkpoints.rng_state()
                training = [part for part in self.system.modules() if part.training]
                self.system.eval()
                try:
                    figures = measure(self.system, self.step)
                finally:
                    for part in training:
                        part.training = True
                    checkpoints.set_rng_state(state)
                if figures:  # losses may have the same names
                    named = {f"score/{name}": value for name, value in figures.items()}
                    logs.write(self.step, self.seconds, phase, named)
        self.started += time.monotonic() - begun

    def _check(self) -> None:
        """Check that all losses since the last check are finite, and keep the latest of each."""
        own = [float(value) for _, losses in self.unchecked for value in losses.values()]
        averages = iter(parallel.averages(own))
        for step, losses in self.unchecked:
            values = {name: next(averages) for name in losses}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteError(f"loss {name!r} is {value} at step {step}; {self._kept()}")
            self.latest |= values
        self.unchecked.clear()

    def _check_finite(self) -> None:
        """Check all losses and weights."""
        self._check()
        if name := non_finite_weight(self.system):
            raise NonFiniteError(
                f"weight {name!r} is not finite after step {self.step}; {self._kept()}"
            )

    def _save(self, logs: _Logs) -> None:
        if self.saved == self.step:
            return
        self._check_finite()
        with parallel.together():
            if parallel.rank() == 0:
                self._check_there()
                logs.sync()
                checkpoints.save_checkpoint(
                    self.folder.checkpoints,
                    self.system,
                    self.step,
                    self.seconds,
                    [checkpoints.rng_state()],
                    self.keep,
                    self.plan_sum,
                    self.latest,
                )
        self.saved = self.step

    def _kept(self) -> str:
        if self.saved < 0:
            return "there is no checkpoint yet"
        last = checkpoints.path_of(self.folder.checkpoints, self.saved)
        return f"the last good checkpoint is {last}"
