"""The protocol of all systems."""

import abc
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check, check_one_of
from pydisent.systems._config import check_types
from pydisent.systems._inputs import check_inputs
from pydisent.systems._left_out import LeftOut, LeftOutError, left_out_words
from pydisent.systems._presets import OTHER_DATA, DataSettings, Preset, Presets, Recipe
from pydisent.systems._ranges import stage
from pydisent.systems._size import require_memory
from pydisent.systems.pretrained import write_pretrained


class NotTrainedError(RuntimeError):
    """Part of a system was used before the phase that trains it."""


class System(nn.Module, abc.ABC):
    """A trainable model: `step` trains it; `encode`, `decode` and `sample_code` use it.

    A subclass has a `name`, a dataclass `Config`, networks, `make_optimizers`, `update`, `encode`
    and `decode`, and `presets`. Its prior is N(0, I) unless it overrides `sample_code`.

    Training runs through `phases` in order. `start_phase` prepares the next one and may change
    networks and optimisers, but only as a function of the configuration: a checkpoint is restored
    by starting the same phases again and loading tensors.

    Several processes may train a system together. Each calls `step` with its shard of the batch,
    and all must get the gradients that one process would get from the whole batch. So an `update`

    - draws codes with `draw_codes`, and other random numbers with `parallel.draw` and
      `parallel.randn_like`;
    - averages over its own shard, and computes anything else that depends on several images from
      the whole batch, given by `parallel.gather`;
    - steps optimisers with `descend` or `descend_each`.

    Batch norms need no special care: the training loop calls `nn.normalize_whole_batches` in every
    phase.

    Attributes
    ----------
    presets : Presets
        The table of presets.
    default_data : str
        The data set that commands use by default.
    data_settings : mapping of str to mapping
        Settings by data set, for all presets; a preset's own settings override them.
    added_settings : mapping of str to object
        Values used by older runs, which did not record these settings, where they differ from the
        configuration's defaults.
    optimizers : dict of str to Optimizer
        All optimisers, saved with the weights; made by `make_optimizers` on first use.
    phase, phase_step : str, int
        The current phase, and the number of updates done in it.
    dataset_size : int or None
        Number of training images; set by the training loop before the first step.
    attribute_names : tuple of str
        Names of the data's attributes, if known; set like `dataset_size`.
    needs_attributes : bool
        Whether `step` and `update` also take attributes (B, A) in {-1, +1}, where A is the
        configuration's `attributes`.
    precision : str or None
        "fp32" or "bf16", overriding the configuration's `precision`: the training loop sets it to
        the precision that the run started with. None defers to the configuration.
    reduce_gradients : callable or None
        Called with the parameters before each optimiser step, to average gradients over processes.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    config: Any
    presets: ClassVar[Presets]
    default_data: ClassVar[str] = "sprites"
    data_settings: ClassVar[DataSettings] = {}
    added_settings: ClassVar[Mapping[str, Any]] = {}
    needs_attributes: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_inputs(cls)

    def __init__(self, config: Any, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if not isinstance(config, self.Config):
            accepted, given = self.Config.__name__, type(config).__name__
            raise TypeError(f"config must be of {self.name}'s {accepted}, got {given}")
        check_types(config)
        channels, height, width = image_shape
        check(height == width, "image_shape", "that of square images", tuple(image_shape))
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
    def preset(cls, name: str, data_name: str) -> Preset:
        """Return preset `name` for the data set `data_name`."""
        row: Recipe = getattr(cls.presets, name)
        recipe, table = row.on(data_name), cls.data_settings
        # Settings that the data itself determines, such as its number of attributes, come first.
        keys = (data_name, row.source(data_name), OTHER_DATA)
        by_data = table.get(next((key for key in keys if key in table), OTHER_DATA), {})
        return recipe.preset(cls.Config(**{**by_data, **recipe.settings}))

    def make_optimizers(self) -> dict[str, Optimizer]:
        """Return new optimisers for the current phase's parameters."""
        return {}

    @property
    def optimizers(self) -> dict[str, Optimizer]:
        """Return every optimiser by name.

        Raises
        ------
        LeftOutError
            If training-only parts were left out.
        """
        self._require_all_parts()
        # PyTorch's optimisers import torch._dynamo; only training should pay for that.
        if self._optimizers is None:
            self._optimizers = self.make_optimizers()
        return self._optimizers

    @optimizers.setter
    def optimizers(self, optimizers: dict[str, Optimizer] | None) -> None:
        self._optimizers = optimizers

    @property
    def batches_per_step(self) -> int:
        """Return the number of concatenated batches that `step` takes."""
        return 1

    @property
    def images_per_step(self) -> int:
        """Return the number of images that `step` takes, over all processes."""
        return self.config.batch_size * self.batches_per_step

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return (phase, updates) in training order; the first phase has `steps` updates."""
        return (("train", steps),)

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`; deterministic given the configuration."""
        self._require_all_parts()
        self.phase, self.phase_step = phase, 0

    def step(self, batch: Tensor, *attributes: Tensor) -> dict[str, Tensor]:
        """Update once on images (B, C, H, W) in [0, 1] and return detached scalars to log.

        With several processes each takes its shard, and the logs are the means over processes. A
        system that `needs_attributes` also takes the images' attributes, (B, A) in {-1, +1}.

        Raises
        ------
        LeftOutError
            If training-only parts were left out.
        """
        self._require_all_parts()
        self.prepare_step()
        logs = self.update(batch, *attributes)
        self.phase_step += 1
        return logs

    def prepare_step(self) -> None:
        """Write values that change from step to step, such as a schedule's, into fixed tensors."""

    def graph_key(self) -> Hashable | None:
        """Return a key of the operations that this update runs; None if it cannot be captured.

        Updates with the same key run the same operations on the same tensors, without synchronising
        with the device, so that they can be captured as one CUDA graph.
        """
        return None

    @abc.abstractmethod
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Step the optimisers once in the current phase; return detached scalars to log."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, d) for images (N, C, H, W) in [0, 1]."""

    @abc.abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] for codes (N, d)."""

    @property
    def latent_size(self) -> int:
        """Return the size d of the code."""
        return self.config.latent_size

    def sample_code(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes (n, d) drawn from the prior, N(0, I)."""
        return self.normal(n, self.latent_size, generator)

    def normal(self, n: int, size: int, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, size) standard normal numbers, drawn on the generator's device."""
        device = generator.device if generator is not None else self.device
        return torch.randn(n, size, generator=generator, device=device).to(self.device)

    def draw_codes(self, n: int) -> Tensor:
        """Return codes (n, d) from the prior: this process's shard of the batch's codes."""
        return parallel.draw(self.sample_code, n)

    def code_masks(self, code: Tensor) -> Tensor | None:
        """Return the mask in which each coordinate of codes (N, d) acts, (N, d, H, W) in [0, 1].

        None unless the system learns masks.
        """
        return None

    @property
    def factor_columns(self) -> Sequence[int]:
        """Return the coordinates of the code that are factors, if the system has any."""
        return ()

    @property
    def code_names(self) -> list[str]:
        """Return a name for each coordinate of the code: z1, z2, ..."""
        return [f"z{i + 1}" for i in range(self.latent_size)]

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the names of training-only modules, such as a discriminator.

        `encode`, `decode`, `sample_code` and `code_masks` do not use them.
        """
        return ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the names of the `training_parts` that this system lacks."""
        return tuple(name for name, part in self.named_children() if isinstance(part, LeftOut))

    def leave_out(self, parts: Iterable[str]) -> None:
        """Remove training-only parts; without them the system cannot be trained further.

        Parameters
        ----------
        parts : iterable of str
            Some of `training_parts`.

        Raises
        ------
        ValueError
            If one of them is not in `training_parts`.
        """
        parts = tuple(parts)
        for part in parts:
            check_one_of("parts", part, self.training_parts)
        for part in parts:
            setattr(self, part, LeftOut(self.name, part))

    def _require_all_parts(self) -> None:
        if parts := self.left_out:
            raise LeftOutError(left_out_words(self.name, parts))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        license: str | None = None,
        inference_only: bool = False,
        dtype: torch.dtype | None = None,
    ) -> Path:
        """Write weights, configuration and a model card into a folder; return the folder.

        `pydisent.from_pretrained` reads it. `Run.save_pretrained` also records the training.

        Parameters
        ----------
        folder : path
            The folder, created if necessary.
        license : str, optional
            Licence of the weights, by its name on the Hugging Face hub, such as ``"cc-by-4.0"``.
        inference_only : bool
            Whether to leave out `training_parts`, without which it cannot be trained further.
        dtype : dtype, optional
            Dtype in which parameters are stored, such as ``torch.float16``; by default their own.
            Buffers keep theirs, and reading gives float32.

        Raises
        ------
        ValueError
            If the folder is a file, the licence is not a name, or a weight exceeds the dtype's
            range.
        """
        return write_pretrained(
            self, folder, license=license, inference_only=inference_only, dtype=dtype
        )

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return next(self.parameters()).device

    @stage("descent")
    def descend(self, loss: Tensor, *optimizers: str, clip: float | None = None) -> None:
        """Step the named optimisers down `loss`, with the joint gradient norm clipped at `clip`."""
        self._clear(optimizers)
        loss.backward()
        self._step(optimizers, clip)

    @stage("descent")
    def descend_each(self, losses: Mapping[tuple[str, ...], Tensor]) -> None:
        """Step the named optimisers each down their own loss, all from the same weights.

        A loss affects only the parameters of its own optimisers, so that adversaries can share a
        forward pass: all gradients are computed before the first step changes any weight.
        """
        for number, (names, loss) in enumerate(losses.items(), start=1):
            self._clear(names)
            loss.backward(inputs=self._learned(names), retain_graph=number < len(losses))
        for names in losses:
            self._step(names)

    def _learned(self, optimizers: Sequence[str]) -> list[Tensor]:
        """Return the named optimisers' parameters."""
        groups = [group for name in optimizers for group in self.optimizers[name].param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def _clear(self, optimizers: Sequence[str]) -> None:
        for name in optimizers:
            self.optimizers[name].zero_grad(set_to_none=True)

    def _step(self, optimizers: Sequence[str], clip: float | None = None) -> None:
        """Step the named optimisers by the rank-averaged gradients."""
        parameters = self._learned(optimizers)
        if self.reduce_gradients is not None:
            self.reduce_gradients(parameters)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        for name in optimizers:
            self.optimizers[name].step()
