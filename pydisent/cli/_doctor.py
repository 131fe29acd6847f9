"""The command that finds derivatives that PyTorch gets wrong."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydisent._checks import check
from pydisent.cli._arguments import opened, set_threads
from pydisent.cli._output import say, say_table, say_written
from pydisent.cli._tyro import Positional

if TYPE_CHECKING:
    from pydisent import Diagnosis

_CODES = 2


def doctor(
    target: Positional[str | None] = None,
    latent: str | None = None,
    out: Path | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Show which derivatives PyTorch gets wrong here, and what pydisent does about it.

    A number in the table is the relative error, against central differences, of a silently wrong
    derivative: first, second and third order, by forward and reverse mode and under vmap.

    Parameters
    ----------
    target : str
        A run folder, for its decoder; or MODULE:NAME of a function, a torch module or a module
        class, imported from the current folder and called with latent codes. By default, a
        catalogue of layers.
    latent : str
        Shape of the standard normal codes passed to MODULE:NAME, such as 4x8: four codes of eight
        numbers.
    out : Path
        Also write all findings to this file, as JSON.
    seed : int
        Seed of the codes, and of weights that MODULE:NAME draws when it is created.
    accelerator : str
        Device for a target: cpu, cuda, mps, or auto for the GPU if there is one.
    threads : int
        CPU threads.
    """
    set_threads(threads)
    from pydisent._atomic import write_atomic

    if out is not None:
        check(out.parent.is_dir() and not out.is_dir(), "out", "a file in an existing folder", out)
    if target is None:
        if latent is not None:
            raise ValueError("latent must be left out without MODULE:NAME")
        from pydisent.jacobian.diagnosis import catalogue

        found = catalogue()
    else:
        found = _of_target(target, latent, seed, accelerator)
    say_table(found.header(), map(found.cells, found.table()), title=f"torch {found.torch}",
              whole=True)  # fmt: skip
    for note in found.notes():
        say(note)
    if out is not None:
        write_atomic(out, found.to_json() + "\n")
        say_written(out)


def _of_target(target: str, latent: str | None, seed: int, accelerator: str) -> "Diagnosis":
    import torch

    from pydisent.evaluation.devices import device_of
    from pydisent.jacobian import doctor as diagnose

    generator = torch.Generator("cpu").manual_seed(seed)
    module, colon, name = target.partition(":")
    if Path(target).exists() or not colon:
        if latent is not None:
            raise ValueError("latent must be left out for a run, whose codes come from its prior")
        system = opened(Path(target), accelerator).system
        return diagnose(system.decode, system.sample_code(_CODES, generator))
    shape = _shape(latent)
    check(bool(module and name), "target", "a run folder or MODULE:NAME", target)
    torch.manual_seed(seed)  # for weights drawn on import
    fn = _imported(module, name)
    device = device_of(accelerator)
    z = torch.randn(shape, generator=generator)
    if isinstance(fn, torch.nn.Module):
        fn = fn.to(device)
        z = z.to(next((p.dtype for p in fn.parameters()), z.dtype))
    return diagnose(fn, z.to(device))


def _shape(latent: str | None) -> tuple[int, ...]:
    """(4, 8) of "4x8"."""
    try:
        shape = tuple(int(part) for part in (latent or "").split("x"))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"latent must be the shape of the codes, such as 4x8 for four of eight, got {latent}"
        )
    return shape


def _imported(module: str, name: str) -> Callable[..., Any]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target {module}:{name} cannot be imported: {error}") from error
    finally:
        sys.path.remove(folder)
    if isinstance(found, type):
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            rule = "a class that takes no arguments, or an instance"
            raise ValueError(f"target {module}:{name} must be {rule}: {error}") from None
        except ValueError:
            pass  # no signature, as it is written in C: calling it will tell
        found = found()
    if not callable(found):
        raise ValueError(
            f"target {module}:{name} must be callable with latent codes, got {type(found).__name__}"
        )
    return found
