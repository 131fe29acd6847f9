"""The protocol that every system follows."""

import abc
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pydisent import parallel
from pydisent._checks import check, check_one_of
from pydisent.systems._left_out import LeftOut, LeftOutError, left_out_words
from pydisent.systems._presets import OTHER_DATA, DataSettings, Preset, Presets, Recipe
from pydisent.systems._ranges import stage
from pydisent.systems._size import require_memory
from pydisent.systems.pretrained import write_pretrained


class NotTrainedError(RuntimeError):
    """A part of a system was used before the phase that trains it."""


class System(nn.Module, abc.ABC):
    """A trainable model: `step` trains it; `encode`, `decode` and `sample_code` use it.

    A subclass has a `name`, a dataclass `Config`, networks, `make_optimizers`, `update`, `encode`
    and `decode`, and `presets`. Its prior is N(0, I) unless it overrides `sample_code`.

    Training runs through `phases` in order. `start_phase` prepares the next one and may change
    networks and optimisers, but only as a function of the configuration: a checkpoint is restored
    by starting the same phases again and loading tensors.

    Several processes may train a system together. Each calls `step` with its shard of the batch,
    and all must get the gradients of a single process that has the whole batch. So an `update`

    - draws codes by `draw_codes`, and other random numbers by `parallel.draw` and
      `parallel.randn_like`;
    - averages over its own shard, and takes whatever else depends on several images from
      `parallel.gather`, the whole batch;
    - steps optimisers by `descend` or `descend_each`.

    Batch norms need nothing: the training loop calls `nn.normalize_whole_batches` in every phase.

    Attributes
    ----------
    presets : Presets
        The table of presets.
    default_data : str
        The data set that commands take where none is named.
    data_settings : mapping of str to mapping
        By data set, settings for all presets, which a preset's own override.
    added_settings : mapping of str to object
        What older runs, which did not record these settings, were trained with, where that is not
        the configuration's default.
    optimizers : dict of str to Optimizer
        Every optimiser, saved with the weights; made by `make_optimizers` on first use.
    phase, phase_step : str, int
        The current phase, and the number of updates done in it.
    dataset_size : int or None
        Number of training images; set by the training loop before the first step.
    attribute_names : tuple of str
        Names of the data's attributes, where known; set like `dataset_size`.
    needs_attributes : bool
        Whether `step` and `update` also take attributes (B, A) in {-1, +1}, where A is the
        configuration's `attributes`.
    precision : str or None
        "fp32" or "bf16", which overrides the configuration's `precision`: the training loop sets
        it to what the run began with. None leaves it to the configuration.
    reduce_gradients : callable or None
        Called with the parameters before each optimiser step, to average over processes.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    config: Any
    presets: ClassVar[Presets]
    default_data: ClassVar[str] = "sprites"
    data_settings: ClassVar[DataSettings] = {}
    added_settings: ClassVar[Mapping[str, Any]] = {}
    needs_attributes: ClassVar[bool] = False

    def __init__(self, config: Any, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if not isinstance(config, self.Config):
            raise TypeError(
                f"config must be of {self.name}'s {self.Config.__name__}, "
                f"got {type(config).__name__}"
            )
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
        # What the data itself determines comes first, such as its number of attributes.
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
            If parts were left out that only training uses.
        """
        self._require_all_parts()
        # PyTorch's optimisers import torch._dynamo, which only training should wait for.
        if self._optimizers is None:
            self._optimizers = self.make_optimizers()
        return self._optimizers

    @optimizers.setter
    def optimizers(self, optimizers: dict[str, Optimizer] | None) -> None:
        self._optimizers = optimizers

    @property
    def batches_per_step(self) -> int:
        """Return how many batches `step` takes, concatenated."""
        return 1

    @property
    def images_per_step(self) -> int:
        """Return how many images `step` takes, over all processes."""
        return self.config.batch_size * self.batches_per_step

    def phases(self, steps: int) -> tuple[tuple[str, int], ...]:
        """Return (phase, updates) in the order of training; the first has `steps`."""
        return (("train", steps),)

    def start_phase(self, phase: str) -> None:
        """Prepare for `phase`; deterministic given the configuration."""
        self._require_all_parts()
        self.phase, self.phase_step = phase, 0

    def step(self, batch: Tensor, *attributes: Tensor) -> dict[str, Tensor]:
        """Update once on images (B, C, H, W) in [0, 1] and return detached scalars to log.

        With several processes each takes its shard, and the logs are the scalars' means. A system
        that `needs_attributes` also takes those of the images, (B, A) in {-1, +1}.

        Raises
        ------
        LeftOutError
            If parts were left out that only training uses.
        """
        self._require_all_parts()
        self.prepare_step()
        logs = self.update(batch, *attributes)
        self.phase_step += 1
        return logs

    def prepare_step(self) -> None:
        """Write what changes from step to step, such as a schedule, into fixed tensors."""

    def graph_key(self) -> Hashable | None:
        """Return a key of the operations that this update runs; None if it cannot be captured.

        Updates with the same key run the same operations on the same tensors, without waiting for
        the device, so that they can be captured as one CUDA graph.
        """
        return None

    @abc.abstractmethod
    def update(self, batch: Tensor) -> dict[str, Tensor]:
        """Step the optimisers once in the current phase; return detached scalars to log."""

    @abc.abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return codes (N, d) of images (N, C, H, W) in [0, 1]."""

    @abc.abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] of codes (N, d)."""

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
        """Return codes (n, d) from the prior, this process's shard of the batch's."""
        return parallel.draw(self.sample_code, n)

    def code_masks(self, code: Tensor) -> Tensor | None:
        """Return the mask in which each coordinate of codes (N, d) acts, (N, d, H, W) in [0, 1].

        None unless the system learns masks.
        """
        return None

    @property
    def factor_columns(self) -> Sequence[int]:
        """Return the coordinates of the code that are factors, where the system has such."""
        return ()

    @property
    def code_names(self) -> list[str]:
        """Return a name for each coordinate of the code: z1, z2, ..."""
        return [f"z{i + 1}" for i in range(self.latent_size)]

    @property
    def training_parts(self) -> Sequence[str]:
        """Return the names of the modules that only training uses, such as a discriminator.

        `encode`, `decode`, `sample_code` and `code_masks` do without them.
        """
        return ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the names of the `training_parts` that this system is without."""
        return tuple(name for name, part in self.named_children() if isinstance(part, LeftOut))

    def leave_out(self, parts: Iterable[str]) -> None:
        """Remove parts that only training uses; the system cannot be trained on without them.

        Parameters
        ----------
        parts : iterable of str
            Some of `training_parts`.

        Raises
        ------
        ValueError
            If one is none of them.
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
            The folder, made if it is not there.
        license : str, optional
            Of the weights, by its name on the Hugging Face hub, such as ``"cc-by-4.0"``.
        inference_only : bool
            Whether `training_parts` are left out, without which it cannot be trained on.
        dtype : dtype, optional
            In which the parameters are stored, such as ``torch.float16``; by default their own.
            Buffers keep theirs, and reading gives float32.

        Raises
        ------
        ValueError
            If the folder is a file, the licence no name, or a weight beyond the dtype's range.
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
        """Step the named optimisers down `loss`, the joint gradient norm clipped at `clip`."""
        self._clear(optimizers)
        loss.backward()
        self._step(optimizers, clip)

    @stage("descent")
    def descend_each(self, losses: Mapping[tuple[str, ...], Tensor]) -> None:
        """Step the named optimisers each down their own loss, all from the same weights.

        A loss reaches the parameters of its own optimisers only, so that adversaries can share a
        forward pass: the gradients are all taken before the first step changes any weight.
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
