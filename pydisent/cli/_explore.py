"""The command that serves the page for moving codes by hand."""

from pathlib import Path

from pydisent.cli._arguments import opened, set_threads
from pydisent.cli._output import say
from pydisent.cli._tyro import Positional


def explore(
    run: Positional[Path],
    other: Positional[Path | None] = None,
    port: int = 0,
    browser: bool = True,
    accelerator: str = "auto",
    threads: int | None = None,
) -> None:
    """Move the code of a run by hand, on a page in this machine's browser.

    It has a slider for each coordinate; the eigenvectors of J'J at the code, and steps along them;
    the codes of pictures, from the data or your own; codes to keep, compare and export. The page is
    served to this machine only, at an address with a secret, until Ctrl-C.

    Parameters
    ----------
    run : Path
        The run folder.
    other : Path
        A second run with codes of the same size, shown beside it at the same code.
    port : int
        Port on 127.0.0.1; a free one by default.
    browser : bool
        Open the page in the browser.
    accelerator : str
        cpu, cuda, mps, or auto for the GPU if there is one.
    threads : int
        CPU threads for each of two concurrent computations, frames and eigenvectors.
    """
    set_threads(threads)
    shown = [opened(folder, accelerator) for folder in (run, other) if folder is not None]
    from pydisent.explore import serve

    serve(shown, port=port, browser=browser, announce=lambda to: say(f"{to}  (Ctrl-C ends it)"))
