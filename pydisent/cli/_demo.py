"""The command that trains, scores and compares two GANs."""

import sys
from pathlib import Path

from pydisent.cli._arguments import set_threads
from pydisent.cli._engines import suited_workers
from pydisent.cli._output import fail, say, say_written
from pydisent.cli._plans import plan_of
from pydisent.cli._tables import print_scores


def demo(
    out: Path = Path("runs/demo"),
    preset: str = "quick",
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train the spectral GAN and its plain twin on sprites, score both, and compare them.

    They train side by side if there are cores for both, with their output in their folders. The
    first pictures come with the first checkpoints. Finished runs are kept, interrupted ones
    resumed.

    Parameters
    ----------
    out : Path
        Folder for both run folders and the report.
    preset : str
        Preset of both runs.
    seed : int
        Seed of both runs.
    threads : int
        CPU threads of each run; networks this small gain little from more, and lose much on a busy
        machine.
    """
    from pydisent.cli._side_by_side import RunsFailedError, train_and_score
    from pydisent.reports import write_report
    from pydisent.sweeps.engine import LocalEngine
    from pydisent.training import RunFolder, open_run

    set_threads(threads)
    asked, plans = {"preset": preset, "seed": seed}, {}
    for name, settings in (("spectral-gan", {}), ("plain-gan", {"penalty_weight": "0"})):
        folder = RunFolder(out / name)
        plans[name] = plan_of(folder, "spectral-gan", asked, settings, resume=True)
    at_once = max(1, min(len(plans), suited_workers("auto") // threads))
    try:
        train_and_score(plans, out, engine=LocalEngine(at_once), threads=threads, say=say)
    except RunsFailedError as error:
        raise SystemExit(fail(str(error), 1)) from None
    opened = [open_run(out / name) for name in plans]
    page = write_report(opened, out / "report", ["pydisent", *sys.argv[1:]])
    print_scores(opened)
    say_written(page)
