"""Draws the committed results, and writes README's and docs/gpu.md's tables; measures nothing.

``python bench/readme.py`` draws the pictures in ``bench/results/<machine>`` and rewrites what
stands between the markers in ``README.md``. Each bench has ``table``, the README's lines of its
result; one with pictures has their ``CAPTIONS`` by file name, and in ``FIGURES``, by what follows
the question in the file's name, the functions that draw them of the result alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import _gpu_page
import _suite
import alignment
import constriction
import covariance
import density
import metrics
import power_iteration
import precision
import reproduced
import small
import throughput
from _harness import RESULTS
from _tables import device, load
from _work import is_torchs_own

from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import BACKWARD

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

#: The bench of each result, in the order of the tables.
QUESTIONS: dict[str, ModuleType] = {
    "alignment": alignment,
    "alignment_avx2": alignment,
    "small": small,
    "power_iteration": power_iteration,
    "density": density,
    "constriction": constriction,
    "covariance": covariance,
    "metrics": metrics,
    "throughput": throughput,
    "precision": precision,
    "gpu_suite": _suite,
    "cpu_suite": _suite,
    **dict.fromkeys(reproduced.QUESTIONS, reproduced),
}
#: Pictures stand after the tables of a machine, in an order of their own.
ILLUSTRATED = (alignment, constriction, _suite)


def folders() -> list[Path]:
    """The machines' folders that hold results."""
    return sorted({path.parent for path in RESULTS.glob("*/*.json")})


def answers(folder: Path) -> Iterator[tuple[str, ModuleType, dict[str, Any]]]:
    """The results of one machine with their benches, in the order of the tables."""
    for question, bench in QUESTIONS.items():
        if result := load(folder, question):
            yield question, bench, result


def environment_of(folder: Path) -> dict[str, Any]:
    return json.loads(min(folder.glob("*.json")).read_text())["environment"]


def measured_on_gpu() -> set[str]:
    """Ops whose speed on a GPU is in the committed results."""
    return {
        op
        for folder in folders()
        for _, bench, result in answers(folder)
        if result["environment"]["gpu"] and hasattr(bench, "ops_on_gpu")
        for op in bench.ops_on_gpu(result)
    }


def coverage_lines() -> list[str]:
    """Which machines were measured, and which kernels still have no figures of a GPU."""
    machines = [device(environment_of(folder)) for folder in folders()]
    lines = [f"Measured on: {'; '.join(machines)}."]
    if not any(RESULTS.glob("*/gpu_suite.json")):
        lines.append("The suite of all ops (`python bench/gpu_check.py`) has not run on a GPU yet.")
    wanted = {name for name in REGISTRY if not is_torchs_own(name)} - measured_on_gpu()
    missing = sorted({name.removesuffix(BACKWARD) for name in wanted})
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        lines.append(f"Not measured on a GPU yet, forward or backward: {names}.")
    else:
        lines.append("Every kernel was measured on a GPU.")
    return [" ".join(lines), ""]


def tables() -> str:
    """The README's results, machine by machine."""
    lines = coverage_lines()
    for folder in folders():
        lines += [f"### {device(environment_of(folder))}", ""]
        for question, bench, result in answers(folder):
            lines += bench.table(result)
            lines += reproduced.pictures(folder, question) if bench is reproduced else []
        for bench in ILLUSTRATED:
            for picture, caption in bench.CAPTIONS.items():
                if (folder / picture).exists():
                    lines += [f"![{caption}](bench/results/{folder.name}/{picture})", ""]
    return "\n".join(lines).strip()


def readme_with(text: str, results: str, begin: str = BEGIN, end: str = END) -> str:
    """``text`` with what stands between the markers replaced."""
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{results}\n{end}{after}"


def gpu_page() -> str:
    """docs/gpu.md as it should be."""
    return readme_with(
        _gpu_page.PAGE.read_text(), _gpu_page.tables(), _gpu_page.BEGIN, _gpu_page.END
    )


def main() -> None:
    for folder in folders():
        for question, bench, result in answers(folder):
            for ending, draw in getattr(bench, "FIGURES", {}).items():
                path = folder / f"{question}{ending}.png"
                draw(result, path)
                if path.exists():  # a result may lack the part that is drawn
                    print(path)
    README.write_text(readme_with(README.read_text(), tables()))
    _gpu_page.PAGE.write_text(gpu_page())
    print(README, _gpu_page.PAGE)


if __name__ == "__main__":
    main()
