"""The entry point: dispatches commands, and turns errors into messages and exit codes."""

import os
import sys
from collections.abc import Callable, Sequence

from pydisent._extras import install_command
from pydisent._terminal import readable_output, warnings_of_one_line
from pydisent.cli._demo import demo
from pydisent.cli._doctor import doctor
from pydisent.cli._evaluation import compare, evaluate, select
from pydisent.cli._explain import explain
from pydisent.cli._explore import explore
from pydisent.cli._lists import info, list_
from pydisent.cli._output import fail
from pydisent.cli._pictures import report, rotate, trace, transfer, traverse
from pydisent.cli._reproduce import reproduce
from pydisent.cli._sweep import sweep
from pydisent.cli._training import train
from pydisent.cli._tyro import subcommand_cli_from_dict
from pydisent.cli._zoo import with_run_folders

_COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "traverse": traverse,
    "transfer": transfer,
    "rotate": rotate,
    "trace": trace,
    "explain": explain,
    "report": report,
    "explore": explore,
    "compare": compare,
    "select": select,
    "sweep": sweep,
    "reproduce": reproduce,
    "list": list_,
    "info": info,
    "doctor": doctor,
    "demo": demo,
}


# Flags with a third choice, their absence; the parser requires a value for them.
_FLAGS = {"--mirror": ("--mirror=True",), "--no-mirror": ("--mirror=False",)}
# Options that take several values and may be repeated.
_REPEATABLE = ("--set", "--grid", "--metrics", "--codes", "--official", "--region")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 on failure, 2 on invalid input, or 128 + n on signal n."""
    with readable_output(), warnings_of_one_line():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    try:
        subcommand_cli_from_dict(
            _COMMANDS,
            prog="pydisent",
            description="Disentangled representation learning: train, score, picture.",
            args=_gathered(with_run_folders(argv)),
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("PYDISENT_TRACEBACK") == "1":
            raise
        return fail(*_explain(error))
    return 0


def _gathered(argv: Sequence[str]) -> list[str]:
    """Return `argv` with all values of a repeated option at its first occurrence.

    The parser would keep only the last one of ``--set a=1 --set b=2``.
    """
    gathered: list[str] = []
    values: dict[str, list[str]] = {}
    into: list[str] | None = None
    for word in (part for given in argv for part in _FLAGS.get(given, (given,))):
        option, equals, value = word.partition("=")
        if option in _REPEATABLE:
            if option not in values:
                gathered.append(option)
                values[option] = []
            into = values[option]
            into += [value] if equals else []
        elif word.startswith("--"):
            into = None
            gathered.append(word)
        else:
            (gathered if into is None else into).append(word)
    return [v for word in gathered for v in (word, *values.get(word, ()))]


def _explain(error: Exception) -> tuple[str, int]:
    """Return the message and exit code of an expected error; raise others again."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("pydisent"):
        extra = "sweep" if error.name == "ray" else "all"  # "all" leaves out Ray, for its size
        return f"this needs the package {error.name}: {install_command(extra)}", 2
    if isinstance(error, (ValueError, OSError)):
        return str(error), 2
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # from pathlib
        return str(error), 2
    from pydisent.systems import LeftOutError, NotTrainedError
    from pydisent.training import Interrupted, NonFiniteError
    from pydisent.training.processes import ProcessLostError

    if isinstance(error, NotTrainedError | LeftOutError):
        return str(error), 2
    if isinstance(error, Interrupted):
        return str(error), 128 + error.signum
    if isinstance(error, NonFiniteError | ProcessLostError):
        return str(error), 1
    raise error
