"""Draw the committed results, and write the tables of the README and the docs; measure nothing.

``python bench/readme.py`` draws the pictures in ``bench/results/<machine>`` and rewrites the text
between the markers in each of ``PAGES``. Each bench has ``table``, the lines for its result; one
with pictures has ``CAPTIONS`` by file name, and ``FIGURES``, which maps the part of the file name
after the question to a function that draws it from the result alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import _gpu_page
import _headlines
import _suite
import alignment
import constriction
import covariance
import density
import metrics
import power_iteration
import precision
import public
import regularizers
import reproduced
import small
import throughput
from _harness import RESULTS
from _tables import device, load
from _work import is_torchs_own

from pydisent import reproduce
from pydisent.ops.registry import REGISTRY
from pydisent.ops.spec import BACKWARD

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

#: The bench of each result, in the order of the tables.
QUESTIONS: dict[str, ModuleType] = {
    "alignment": alignment,
    "alignment_avx2": alignment,
    "small": small,
    "public": public,
    "regularizers": regularizers,
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
#: Pictures follow the tables of a machine, in their own order.
ILLUSTRATED = (alignment, constriction, _suite)


def folders() -> list[Path]:
    """The machines' folders that contain results."""
    return sorted({path.parent for path in RESULTS.glob("*/*.json")})


def answers(folder: Path) -> Iterator[tuple[str, ModuleType, dict[str, Any]]]:
    """The results of one machine with their benches, in table order."""
    for question, bench in QUESTIONS.items():
        if result := load(folder, question):
            yield question, bench, result


def environment_of(folder: Path) -> dict[str, Any]:
    return json.loads(min(folder.glob("*.json")).read_text())["environment"]


def measured_on_gpu() -> set[str]:
    """Ops whose GPU speed is in the committed results."""
    return {
        op
        for folder in folders()
        for _, bench, result in answers(folder)
        if result["environment"]["gpu"] and hasattr(bench, "ops_on_gpu")
        for op in bench.ops_on_gpu(result)
    }


def coverage_lines() -> list[str]:
    """The measured machines, and the kernels without GPU figures."""
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


def measured() -> str:
    """Measured costs, machine by machine."""
    lines = coverage_lines()
    for folder in folders():
        found = [
            line
            for _, bench, result in answers(folder)
            if bench is not reproduced
            for line in bench.table(result)
        ]
        for bench in ILLUSTRATED:
            for picture, caption in bench.CAPTIONS.items():
                if (folder / picture).exists():
                    found += [reproduced.picture(folder / picture, caption), ""]
        if found:
            lines += [f"## {device(environment_of(folder))}", "", *found]
    return "\n".join(lines).strip()


def papers() -> str:
    """The papers' tables and figures, paper by paper."""
    lines: list[str] = []
    for paper, module in reproduce.PAPERS.items():
        lines += [f"## {module.TITLE}", ""]
        missing = []
        for entry in reproduce.find(paper):
            question = entry.name.replace("/", "_")
            found = [(folder, r) for folder in folders() if (r := load(folder, question))]
            for folder, result in found:
                lines += [*reproduced.table(result), *reproduced.pictures(folder, question)]
            if not found:
                missing.append(f"{entry.title} (`{entry.name}`)")
        if missing:
            lines += [f"Not run here: {'; '.join(missing)}.", ""]
    return "\n".join(lines).strip()


def headlines() -> str:
    lines = [
        *_headlines.table(folders()),
        "What the papers claim, trained here in minutes a run:",
        "",
    ]
    return "\n".join([*lines, *_headlines.claims(folders())]).strip()


#: Functions that write each page's part between the markers.
PAGES: dict[str, Callable[[], str]] = {
    "README.md": headlines,
    "docs/results/measured.md": measured,
    "docs/results/papers.md": papers,
    "docs/gpu.md": _gpu_page.tables,
}


def page(name: str) -> str:
    """A page's text, with the part between the markers replaced."""
    before, rest = (ROOT / name).read_text().split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{PAGES[name]()}\n{END}{after}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for folder in folders():
        for question, bench, result in answers(folder):
            for ending, draw in getattr(bench, "FIGURES", {}).items():
                path = folder / f"{question}{ending}.png"
                draw(result, path)
                if path.exists():  # a result may lack the drawn part
                    print(path)
    for name in PAGES:
        (ROOT / name).write_text(page(name))
        print(name)


if __name__ == "__main__":
    main()
