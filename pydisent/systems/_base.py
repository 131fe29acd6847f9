"""The protocol every system follows, and the registry of systems."""

import abc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent.systems._ranges import stage
from pydisent.systems._size import require_memory

PRESETS = ("smoke", "quick", "paper")


class NotTrainedError(RuntimeError):
    """A part of a system was used before the phase that trains it."""


@dataclass(frozen=True)
class Preset:
    """A system's settings at one size of experiment.

    `steps` counts updates of the first phase; `image_size` is in pixels (None keeps the data's
    own); `note` says in one line what departs from the paper; `held_out` is the share of the
    images that are for tests alone.
    """

    config: Any
    steps: int
    image_size: int | None
    log_every: int
    checkpoint_every: int
    note: str
    held_out: float = 0.0


class System(nn.Module, abc.ABC):
    """A trainable model: `step` trains it, `encode`, `decode` and `sample_code` use it.

    Training runs through `phases` in order; `start_phase` prepares the next one, and may change
    networks and optimisers, but only as a function of the configuration, so that a checkpoint
    is restored by starting the same phases again and loading tensors.

    Several processes may train a system together: each calls `step` with its rows of the batch,
    and all must get the gradients of one process that has the whole batch. For that an `update`
    draws codes by `draw_codes` and other random numbers by `parallel.draw` and
    `parallel.randn_like`; takes means over its own rows, and whatever else depends on several
    images of the batch from `parallel.gather`, the whole of it; and steps optimisers by
    `descend`. Batch norms see to themselves, after `nn.normalize_whole_batches`, which the
    training loop calls when a phase has started.

    Attributes
    ----------
    optimizers : dict of str to Optimizer
        Every optimiser; saved with the weights. Made by `make_optimizers` when first asked for.
    phase, phase_step : str, int
        The current phase, and the updates done in it.
    dataset_size : int or None
        Images in the training data; the training loop sets it before the first step.
    attribute_names : tuple of str
        Names of the data's attributes, where known; set like `dataset_size`.
    needs_attributes : bool
        Whether `step` and `update` also take attributes (B, A) in {-1, +1}, A being the
        configuration's `attributes`.
    precision : str or None
        "fp32" or "bf16", whatever the configuration says: the training loop sets it, where there
        is such a setting, to what the run began with. None goes by the configuration.
    reduce_gradients : callable or None
        Called with the parameters before each optimiser step; averages over processes.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    config: Any
    needs_attributes: ClassVar[bool] = False

    def __init__(self, config: Any, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if not isinstance(config, self.Config):
            raise TypeError(
                f"config is a {type(config).__name__}; accepted by {self.name}: "
                f"{self.Config.__name__}"
            )
        channels, height, width = image_shape
        if height != width:
            raise ValueError(f"image_shape is {tuple(image_shape)}; accepted: square images")
        require_memory(type(self), config, (channels, height, width))
        self.config = config
        self.image_shape = (channels, height, width)
        self._optimizers: dict[str, Optimizer] | None = None
        self.phase = "train"
        self.phase_step = 0
        self.dataset_size: int | None = None
        self.attribute_names: tuple[str, ...] = ()
        self.precision: str | None = None
        self.reduce_gradients: Callable[[list[Tensor]], None] | None = None

    @classmethod
    @abc.abstractmethod
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return the settings of preset `name` for the data set `data_name`."""

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return new optimisers of the parameters as they are in this phase."""
        return {}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """Return every optimiser by name."""
        # PyTorch's optimisers bring torch._dynamo, which only training should wait for.
        if self._optimizers is None:
            self._optimizers = self.make_optimizers()
        return self._optimizers

    @optimizers.setter
    def optimizers(self, optimizers: dict[str, Optimizer] | None) -> None:
        self._optimizers = optimizers

    @property
    def batches_per_step(self) -> int:
        """Return how many batches `step` takes, one after the other in one tensor."""
        return 1

    @property
    def images_per_step(self) -> int:
        """Return how many images `step` takes, of all processes that train together."""
        return self.config.batch_size * self.batches_per_step

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return (phase, updates) in the order of training; `steps` belong to the first."""
        return (("train", steps),)

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`; deterministic given the configuration."""
        self.phase, self.phase_step = phase, 0

    def step(self, batch: Tensor, *attributes: Tensor) -> dict[str, Tensor]:
        """Train on images (B, C, H, W) in [0, 1] once and return detached scalars to log.

        Of several processes each takes its rows; its scalars' means over processes are the logs.

        A system that needs them takes the images' attributes (B, A) in {-1, +1} as well.
        """
        self.prepare_step()
        logs = self.update(batch, *attributes)
        self.phase_step += 1
        return logs

    def prepare_step(self) -> None:
        """Set what changes from step to step, in tensors that stay; nothing unless overridden."""

    def graph_key(self) -> Hashable | None:
        """Return what tells this update from others in its operations; None if it may be any.

        Updates of one key do the same to the same tensors, whatever the step, and do not wait for
        the device: they can be captured as one CUDA graph.
        """
        return None

    @abc.abstractmethod
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Make the optimiser updates of one step of the current phase."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, d) of images (N, C, H, W) in [0, 1]."""

    @abc.abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, d)."""

    @abc.abstractmethod
    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, d) drawn from the prior."""

    def draw_codes(self, n: int) -> Tensor:
        """Return codes (n, d) from the prior for a step: this process's rows of the batch's."""
        return parallel.draw(self.sample_code, n)

    def code_masks(self, code: Tensor) -> Tensor | None:
        """Return where in the image each coordinate of codes (N, d) acts, (N, d, H, W) in [0, 1].

        None unless the system learns such masks.
        """
        return None

    @property
    def factor_columns(self) -> Sequence[int]:
        """Return which coordinates of the code are its factors; none unless a system says so."""
        return ()

    @property
    @abc.abstractmethod
    def code_names(self) -> list[str]:
        """Return one name a coordinate of the code."""

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.parameters()).device

    @stage("descent")
    def descend(self, loss: Tensor, *optimizers: str, clip: float | None = None) -> None:
        """Step the named optimisers down `loss`, their gradients' joint norm at most `clip`."""
        self._clear(optimizers)
        loss.backward()
        self._step(optimizers, clip)

    @stage("descent")
    def descend_each(self, losses: Mapping[tuple[str, ...], Tensor]) -> None:
        """Step the named optimisers down their own loss, all gradients taken at the same weights.

        A loss reaches the parameters of its optimisers alone, so that adversaries may share one
        forward pass; a second gradient through weights that a step has changed would be wrong.
        """
        for number, (names, loss) in enumerate(losses.items(), start=1):
            self._clear(names)
            loss.backward(inputs=self._learned(names), retain_graph=number < len(losses))
        for names in losses:
            self._step(names)

    def _learned(self, optimizers: Sequence[str]) -> list[Tensor]:
        """Return the parameters of the named optimisers."""
        groups = [group for name in optimizers for group in self.optimizers[name].param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def _clear(self, optimizers: Sequence[str]) -> None:
        for name in optimizers:
            self.optimizers[name].zero_grad(set_to_none=True)

    def _step(self, optimizers: Sequence[str], clip: float | None = None) -> None:
        """Step the named optimisers by the gradients that there are, those of all processes."""
        parameters = self._learned(optimizers)
        if self.reduce_gradients is not None:
            self.reduce_gradients(parameters)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        for name in optimizers:
            self.optimizers[name].step()


class GaussianCodes(System):
    """A system with the prior N(0, I) on codes of `latent_size`."""

    @property
    def latent_size(self) -> int:
        """Return the size m of the code: the configuration's, unless a system says otherwise."""
        return self.config.latent_size

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, m) from N(0, I)."""
        device = generator.device if generator is not None else self.device
        z = torch.randn(n, self.latent_size, generator=generator, device=device)
        return z.to(self.device)

    @property
    def code_names(self) -> list[str]:
        """Return z1, z2, ..."""
        return [f"z{i + 1}" for i in range(self.latent_size)]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients from the parameters of `module`, which still passes them to its input."""
    learned = [p for p in module.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


_SYSTEMS: dict[str, type[System]] = {}
_S = TypeVar("_S", bound=type[System])


def register(system: _S) -> _S:
    """Make a system known by its name."""
    _SYSTEMS[system.name] = system
    return system


def _find(name: str) -> type[System]:
    if name not in _SYSTEMS:
        raise ValueError(f"system is {name!r}; accepted: {', '.join(names())}")
    return _SYSTEMS[name]


def names() -> tuple[str, ...]:
    """Return the names of all systems."""
    return tuple(sorted(_SYSTEMS))


def config_class(name: str) -> type:
    """Return the configuration dataclass of system `name`; ValueError if there is none."""
    return _find(name).Config


def build(name: str, config: Any, image_shape: tuple[int, int, int]) -> System:
    """Return system `name` with fresh weights for images (C, H, W).

    Raises
    ------
    ValueError
        If there is no such system, the images do not suit it, or its weights do not fit in the
        memory of this machine.
    TypeError
        If `config` is not of the system's configuration class.
    """
    return _find(name)(config, image_shape)


def preset(name: str, preset_name: str, data_name: str) -> Preset:
    """Return the settings of system `name` at size `preset_name` for data set `data_name`.

    Raises
    ------
    ValueError
        If there is no such system or preset.
    """
    system = _find(name)
    if preset_name not in PRESETS:
        raise ValueError(f"preset is {preset_name!r}; accepted: {', '.join(PRESETS)}")
    return system.preset(preset_name, data_name)
