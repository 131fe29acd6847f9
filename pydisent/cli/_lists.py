"""The commands that list names and settings, and describe the installation."""

from pydisent._checks import check_one_of
from pydisent.cli._output import say, say_table
from pydisent.cli._tyro import Positional


def list_(system: Positional[str | None] = None, data: str | None = None) -> None:
    """List systems, data sets, presets and metrics, or the settings of a system.

    Parameters
    ----------
    system : str
        Show this system's settings and their values in each preset.
    data : str
        Data set of the presets; the system's own by default.
    """
    from pydisent import systems
    from pydisent.data import names
    from pydisent.evaluation.scoring import metric_names

    if data is not None:
        check_one_of("data", data, names())
    if system is not None:
        _list_settings(system, data)
        return
    rows = []
    for name in systems.names():
        on = data or systems.default_data(name)
        sizes = [systems.preset(name, p, on) for p in systems.PRESETS]
        rows.append([name, on, *(f"{size.steps:,}: {size.note}" for size in sizes)])
    say_table(["system", "data", *systems.PRESETS], rows, title="systems: steps of each preset")
    say(f"data sets: {', '.join(names())}")
    say(f"metrics: {', '.join(metric_names())}")


def _list_settings(system: str, data: str | None) -> None:
    from pydisent import systems

    on = data or systems.default_data(system)
    presets = {name: systems.preset(system, name, on) for name in systems.PRESETS}
    columns = [systems.describe(each.config) for each in presets.values()]
    rows = [[*row[0][:2], *(str(value) for _, _, value in row)] for row in zip(*columns)]
    say_table(["setting", "type", *presets], rows, title=f"{system} on {on}: set with --set")
    options = ("steps", "image_size", "split", "crop", "mirror")
    rows = [[name, *(str(getattr(p, name)) for p in presets.values())] for name in options]
    say_table(["option", *presets], rows, title="of train")
    for name, each in presets.items():
        say(f"{name}: {each.note}")


def info() -> None:
    """Show what is installed, which kernels are active, and why others are not."""
    from pydisent import _info

    _info.info()
