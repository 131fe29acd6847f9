"""The training loop."""

import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pydisent import data, parallel, systems
from pydisent._notice import warn_once
from pydisent._precision import has_native_bf16
from pydisent.nn import normalize_whole_batches
from pydisent.systems import System
from pydisent.systems.precision import chosen_precision
from pydisent.training import checkpoint as checkpoints
from pydisent.training._files import write_json
from pydisent.training._memory import keep_freed_memory
from pydisent.training._signals import noted_signals
from pydisent.training.batches import Batches
from pydisent.training.environment import environment
from pydisent.training.folder import RunFolder
from pydisent.training.graphs import GraphedSteps
from pydisent.training.logs import Logs, NoLogs
from pydisent.training.plan import Plan, check_resumable
from pydisent.training.processes import launched, number_of_devices
from pydisent.training.sampling import BatchSampler


class Interrupted(Exception):
    """Training stopped on a signal after saving; `signum` says which."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} at step {step}; saved")
        self.signum = signum


class NonFiniteError(RuntimeError):
    """A loss or a weight became infinite or NaN."""


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
) -> RunFolder:
    """Train `plan` into the run folder `path`, or continue there bit for bit.

    Several processes share every batch, one a device. They are started by torchrun, or else by
    running this program's command line again, once for each further device. All of them come out
    of here, and the first alone has written anything.

    On a CPU the process computes denormals as zero from then on, and keeps the memory it frees.

    Parameters
    ----------
    plan : Plan
        What to train.
    path : path
        The run folder.
    resume : bool
        Continue from the last checkpoint if the folder holds this very plan.
    overwrite : bool
        Delete the run in the folder first.
    accelerator : str
        Lightning Fabric's: "auto", "cpu", "cuda", ...
    devices : int or None
        How many processes train, each on its own device: 1, or as many as torchrun has started.
        The result is the same to rounding; the same number fixes it bit for bit.
    threads : int or None
        CPU threads of each process; PyTorch's own number, divided among processes, by default.
    keep : int
        How many checkpoints stay.
    progress : bool
        Whether to show the progress bar.
    cuda_graphs : bool
        Whether steps are captured as CUDA graphs, where the system allows it; on one GPU.
    timeout : float or None
        Seconds after which processes that train together give up one that does not answer;
        PyTorch's limit by default, half an hour on CPUs. Loading the data must take less.

    Raises
    ------
    FileExistsError
        If the folder is not free and neither `resume` nor `overwrite` is given.
    ValueError
        If the folder to resume holds another plan, another process trains into it, or an argument
        is not accepted, as where `devices` does not divide the batch.
    FileNotFoundError
        If the folder is removed in the meantime.
    NonFiniteError
        If a loss or weight became infinite or NaN; the last good checkpoint stays.
    Interrupted
        On SIGINT, SIGTERM or SIGHUP, after saving.
    ProcessLostError
        If another of the processes has ended before its time, or does not answer in time.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; accepted: an integer >= 1")
    if timeout is not None and not 1 <= timeout <= 10**6:
        raise ValueError(f"timeout is {timeout}; accepted: 1 to 10^6 seconds")
    devices = number_of_devices(devices, plan.config.batch_size)
    folder = RunFolder(Path(path))
    if parallel.is_first():
        _check_free(plan, folder, resume, overwrite)
    with launched(accelerator, devices, threads, timeout) as device, ExitStack() as locks:
        if cuda_graphs and (device.type != "cuda" or devices > 1):
            raise ValueError(
                f"cuda_graphs is set, on {devices} x {device.type}; accepted: one device, cuda"
            )
        _prepare(plan.seed, device)
        with parallel.together():
            system, dataset = _build(plan)
            sampler = BatchSampler(len(dataset), system.images_per_step, plan.seed)
            kept = folder.read_precision() if resume and parallel.rank() == 0 else None
        system.precision = _precision(plan, folder, kept, device)
        with parallel.together():
            is_there = _begin_folder(plan, folder, resume, overwrite, locks, system.precision)
            if progress and system.precision and parallel.rank() == 0:
                print(_named(system.precision, device), flush=True)
        system.to(device)
        loop = _Loop(plan, folder, system, dataset, sampler, keep, cuda_graphs, is_there)
        with noted_signals() as received:
            loop.run(received, progress)
    return folder


def _build(plan: Plan) -> tuple[System, data.ImageDataset]:
    """Return the system, untrained, and the images that it is to learn from."""
    dataset = data.load(plan.data, plan.data_path, image_size=plan.image_size, partial=plan.partial)
    dataset, _ = data.hold_out(dataset, plan.held_out)
    system = systems.build(plan.system, plan.config, dataset.image_shape)
    _check_attributes(system, dataset)
    system.dataset_size = len(dataset)
    system.attribute_names = dataset.attribute_names
    return system, dataset


def _precision(plan: Plan, folder: RunFolder, kept: str | None, device: torch.device) -> str | None:
    """Return what a run trains in on all its processes; None if its system has no such setting.

    A run goes on in what it began with on whatever machine: `kept`, which the first process knows.
    """
    asked = getattr(plan.config, "precision", None)
    if asked is None:
        return None
    order = (None, "fp32", "bf16")
    if found := order[parallel.highest(order.index(kept))]:
        if found == "bf16" and not has_native_bf16(device):
            warn_once(
                f"{folder.path} was begun in bf16 and goes on in it; this {device.type} has no "
                "native bf16, and is 7 to 100 times slower at it than in fp32"
            )
        return found
    own = chosen_precision(asked, device)
    return "fp32" if parallel.highest(int(own == "fp32")) else "bf16"


def _begin_folder(
    plan: Plan,
    folder: RunFolder,
    resume: bool,
    overwrite: bool,
    locks: ExitStack,
    precision: str | None,
) -> Callable[[], bool]:
    """Make the folder, or make it free for a new run, and lock it.

    Returns what tells whether the folder is still there.
    """
    if parallel.rank() > 0:
        return lambda: True
    is_there = None
    if folder.path.is_dir():
        is_there = locks.enter_context(folder.locked())
        _check_free(plan, folder, resume, overwrite)  # what was there may have changed
        if folder.is_run() and not resume:
            folder.clear()
            is_there = None  # the lock went with it
    if is_there is None:
        folder.path.resolve().mkdir(parents=True, exist_ok=True)
        is_there = locks.enter_context(folder.locked())
        _check_free(plan, folder, resume, overwrite=False)
    checkpoints.discard_unfinished(folder.checkpoints)
    if resume:
        _check_not_lost(plan, folder)
    if not folder.is_run():
        write_json(folder.config, plan.to_json())
    trained_in = {"precision": precision} if precision else {}
    write_json(folder.environment, environment() | {"devices": parallel.processes(), **trained_in})
    return is_there


def _check_not_lost(plan: Plan, folder: RunFolder) -> None:
    """Raise FileNotFoundError where a run has been saved and no checkpoint is there."""
    if checkpoints.steps_kept(folder.checkpoints):
        return
    log = folder.read_log()
    # At the very step of the first checkpoint a stop may come before it is there.
    went_on = bool(log) and log[-1]["step"] > plan.checkpoint_every
    if went_on or (folder.checkpoints / "latest").exists():
        raise FileNotFoundError(
            f"{folder.checkpoints} has no checkpoint, though the run has been saved there; put one "
            "back, or begin again with --overwrite"
        )


def _check_free(plan: Plan, folder: RunFolder, resume: bool, overwrite: bool) -> None:
    """Raise unless the folder may be written."""
    if resume and overwrite:
        raise ValueError("resume and overwrite are both given; accepted: one of them")
    if resume and folder.is_run():
        check_resumable(folder.path, folder.read_plan().to_json(), plan.to_json())
    elif overwrite and folder.is_run():
        return
    elif not folder.is_free():
        raise FileExistsError(
            f"{folder.path} exists already"
            + (
                ": continue it with --resume, replace it with --overwrite, or choose another folder"
                if folder.is_run()
                else " and is not a run folder, as it has no config.json: choose another"
            )
        )


def _check_attributes(system: System, dataset: data.ImageDataset) -> None:
    """Raise ValueError unless the data has the attributes that the system needs, if any."""
    if not system.needs_attributes:
        return
    if dataset.attributes is None:
        raise ValueError(
            f"{system.name} learns from attributes, and {dataset.name!r} has none; accepted: "
            f"{', '.join(data.WITH_ATTRIBUTES)}"
        )
    wanted, there = system.config.attributes, dataset.attributes.shape[1]
    if wanted != there:
        raise ValueError(f"attributes is {wanted}; accepted for {dataset.name!r}: {there}")


def _prepare(seed: int, device: torch.device) -> None:
    """Seed every generator, make the arithmetic repeatable, and keep the CPU at full speed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    if device.type == "cpu":
        # Weights and moments that decay into denormals halve the speed or worse.
        torch.set_flush_denormal(True)
        keep_freed_memory()
    else:
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True


def _named(precision: str, device: torch.device) -> str:
    native = "native" if has_native_bf16(device) else "not native"
    return f"precision: {precision} (bf16 is {native} to this {device.type})"


_Logs = Logs | NoLogs


class _Loop:
    """One run's state: the system, the step, and what to do at it."""

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
        self.batches, self.keep = Batches(dataset, sampler, system), keep
        self.phases = system.phases(plan.steps)
        self.step = 0
        self.saved = -1
        self.seconds = 0.0
        # Reading a loss waits for a GPU, so there it is done only where something is written.
        self.check_every = 1 if system.device.type == "cpu" else plan.log_every
        self.unchecked: list[tuple[int, dict[str, Tensor]]] = []
        self.train_once = GraphedSteps(system) if cuda_graphs else system.step
        if parallel.processes() > 1:
            system.reduce_gradients = parallel.average_gradients

    def run(self, received: list[int], progress: bool) -> None:
        """Train from the last checkpoint, if there is one, to the end."""
        self._restore()
        try:
            self._train(received, progress)
        except OSError as error:
            self._check_there()
            if error.filename is None and error.strerror:  # a full disk, say
                where = str(self.folder.path)
                raise type(error)(error.errno, error.strerror, where) from error
            raise

    def _train(self, received: list[int], progress: bool) -> None:
        started = time.monotonic() - self.seconds
        self.system.train()
        with self._logs(progress) as logs, self.batches.working():
            for phase, updates in self._remaining():
                self._join()
                while self.system.phase_step < updates:
                    # Processes may get a signal between different updates, or only one of them.
                    if signum := parallel.highest(received[0] if received else 0):
                        self._save(logs)
                        raise Interrupted(signum, self.step)
                    losses = self.train_once(*self.batches(self.step))
                    self.step += 1
                    self.seconds = time.monotonic() - started
                    self._after(phase, losses, logs)
            self._save(logs)

    def _logs(self, progress: bool) -> _Logs:
        if parallel.rank() > 0:
            return NoLogs()
        total = sum(updates for _, updates in self.phases)
        return Logs(self.folder, self.step, total, progress)

    def _join(self) -> None:
        """Make the system's networks one with those of the other processes."""
        if parallel.processes() > 1:
            normalize_whole_batches(self.system)
            parallel.copy_from_first(self.system.state_dict().values())

    def _check_there(self) -> None:
        if not self.is_there():
            raise FileNotFoundError(f"{self.folder.path} was removed while the run was trained")

    def _restore(self) -> None:
        # Contents have been looked at when the folder was made ready.
        latest = checkpoints.latest_checkpoint(self.folder.checkpoints, contents=False)
        if latest is None:
            self.system.start_phase(self.phases[0][0])
            return
        state = checkpoints.load_training(latest, self.system, self.plan_sum)
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved = self.step
        with checkpoints.named(latest / "state.json"):
            self._check_position()
            checkpoints.set_rng_state(state["rng"][0])

    def _check_position(self) -> None:
        """Raise ValueError unless the step is one at which the phase can be where it is."""
        names = [phase for phase, _ in self.phases]
        counts = [count for _, count in self.phases]
        number, done = names.index(self.system.phase), self.system.phase_step
        if done > counts[number] or self.step != sum(counts[:number]) + done:
            raise ValueError(f"step is {self.step} at {done} of {self.system.phase}")

    def _remaining(self) -> Iterator[tuple[str, int]]:
        """Yield the current phase and those after it, each started."""
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
            values = self._check()
            if logged:
                self._check_there()
                logs.write(self.step, self.seconds, phase, values)
        logs.advance(phase)
        if self.step % self.plan.checkpoint_every == 0:
            self._save(logs)

    def _check(self) -> dict[str, float]:
        """Return the last step's losses, having looked at all since the last check."""
        values: dict[str, float] = {}
        own = [float(value) for _, losses in self.unchecked for value in losses.values()]
        averages = iter(parallel.averages(own))
        for step, losses in self.unchecked:
            values = {name: next(averages) for name in losses}
            for name, value in values.items():
                if not math.isfinite(value):
                    raise NonFiniteError(f"loss {name!r} is {value} at step {step}; {self._kept()}")
        self.unchecked.clear()
        return values

    def _save(self, logs: _Logs) -> None:
        if self.saved == self.step:
            return
        self._check()
        for name, value in self.system.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NonFiniteError(
                    f"weight {name!r} is not finite after step {self.step}; {self._kept()}"
                )
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
                )
        self.saved = self.step

    def _kept(self) -> str:
        if self.saved < 0:
            return "there is no checkpoint yet"
        last = checkpoints.path_of(self.folder.checkpoints, self.saved)
        return f"the last good checkpoint is {last}"
