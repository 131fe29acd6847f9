"""The command that serves the page on which codes are moved by hand."""

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
    """Move the code of a run by hand, and see: a page in the browser of this machine.

    A slider a coordinate; the eigenvectors of the Jacobian at the code, and steps along them; the
    codes of pictures, of the data or of your own; codes to keep, compare and export. The page is
    served to this machine alone, at an address with a secret, until Ctrl-C.

    Parameters
    ----------
    run : Path
        The run folder.
    other : Path
        A second run with codes of the same size, shown beside it at the same code.
    port : int
        Of 127.0.0.1; a free one by default.
    browser : bool
        Open the page in the browser.
    accelerator : str
        cpu, cuda, mps or auto: the GPU where there is one.
    threads : int
        CPU threads of each of the two computations that run at once, frames and eigenvectors.
    """
    set_threads(threads)
    shown = [opened(folder, accelerator) for folder in (run, other) if folder is not None]
    from pydisent.explore import serve

    serve(shown, port=port, browser=browser, announce=lambda to: say(f"{to}  (Ctrl-C ends it)"))
