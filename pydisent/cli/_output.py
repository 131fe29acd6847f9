"""Output of commands."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydisent._extras import optional
from pydisent.parallel import is_first


def say(what: Any, *, whole: bool = False) -> None:
    """Print text or a table; a `whole` table may be wider than the terminal."""
    with optional():
        from rich.console import Console
        from rich.measure import Measurement

    if not is_first():
        return
    console = Console(soft_wrap=isinstance(what, str), highlight=False, markup=False)
    if whole:
        wide = console.options.update(width=10_000)
        console.width = max(console.width, Measurement.get(console, wide, what).maximum)
    console.print(what)


def say_table(
    header: Iterable[str], rows: Iterable[Iterable[str]], *, title: str, whole: bool = False
) -> None:
    """Print a table; see `say`."""
    with optional():
        from rich.table import Table

    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    say(table, whole=whole)


def say_written(paths: Path | Sequence[Path]) -> None:
    """Print the paths of written files, one per line."""
    for path in [paths] if isinstance(paths, Path) else paths:
        say(f"wrote {path}")


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callable that shows the progress of a task: its name, the amount done, the total.

    Nothing is shown outside of a terminal.
    """
    with optional():
        from rich.console import Console
        from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    shown = console.is_terminal and is_first()
    with Progress(console=console, transient=True, disable=not shown) as bars:
        tasks: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield report


def fail(message: str, code: int) -> int:
    """Print an error message and return the exit code."""
    if is_first():
        with suppress(OSError):
            print(f"pydisent: {message}", file=sys.stderr)
    return code
