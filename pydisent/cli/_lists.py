"""The commands that list names and settings, and describe the installation."""

from pydisent.cli._output import say, say_table
from pydisent.cli._tyro import Positional


def list_(system: Positional[str | None] = None) -> None:
    """List systems, data sets, presets and metrics, or the settings of a system.

    Parameters
    ----------
    system : str
        Show the settings of this system with their values in each preset.
    """
    from pydisent import data, systems
    from pydisent.evaluation.scoring import metric_names

    if system is not None:
        _list_settings(system)
        return
    rows = []
    for name in systems.names():
        sizes = [systems.preset(name, p, "sprites") for p in systems.PRESETS]
        rows.append([name, *(f"{size.steps:,}: {size.note}" for size in sizes)])
    say_table(["system", *systems.PRESETS], rows, title="systems: steps of each preset")
    say(f"data sets: {', '.join(data.names())}")
    say(f"metrics: {', '.join(metric_names())}")


def _list_settings(system: str) -> None:
    from pydisent import systems

    presets = [systems.preset(system, p, "sprites").config for p in systems.PRESETS]
    columns = [systems.describe(config) for config in presets]
    rows = [[*row[0][:2], *(str(value) for _, _, value in row)] for row in zip(*columns)]
    say_table(["setting", "type", *systems.PRESETS], rows, title=f"{system}: set with --set")


def info() -> None:
    """Show what is installed, which kernels are active, and why others are not."""
    from pydisent import _info

    _info.info()
