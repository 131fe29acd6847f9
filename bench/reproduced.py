"""Do the papers' tables and figures reproduce? Saves results of ``pydisent reproduce``.

``python bench/reproduced.py runs/reproduce/small/kumar-table1 ...`` copies the result and the
pictures of each entry to ``bench/results/<machine>``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from _harness import RESULTS, environment, machine_name
from _tables import counted, markdown

from pydisent import reproduce
from pydisent.reproduce.results import (
    cases_of,
    read_result,
    score_table,
    settings_notes,
    summary_table,
    verdict_table,
)

QUESTIONS = {entry.name.replace("/", "_"): entry for entry in reproduce.entries()}


def table(result: dict) -> list[str]:
    (entry,) = reproduce.find(result["entry"])
    about = result["environment"]
    command = f"pydisent reproduce {entry.name} --scale {result['scale']}"
    if result["seeds"] != [0]:
        command += f" --seeds {','.join(map(str, result['seeds']))}"
    lines = [
        f"**{entry.title}** (`{command}`, {counted(len(result['seeds']), 'seed')}; "
        f"{about['gpu'] or about['cpu']}, torch {about['torch']}):",
        "",
    ]
    for case, measured in cases_of(entry, result):
        if not measured["runs"]:
            lines += [f"Not run on {measured['data']}.", ""]
            continue
        size = f" at {measured['image_size']} px" if measured["image_size"] else ""
        official = measured["data"] in {each.data for each in entry.cases}
        said = [f"with `--official {measured['data']}=PATH`"] if official else []
        said += [f"presets: {'; '.join(measured['notes'])}"] if measured["notes"] else []
        here = [*entry.differences, *settings_notes(measured)]
        said += [f"here: {'; '.join(here)}"] if here else []
        seeds = {run["seed"] for run in measured["runs"]}
        said[:0] = [counted(len(seeds), "seed")] if len(seeds) < len(result["seeds"]) else []
        lines += [f"On {measured['data']}{size}" + (f" ({'; '.join(said)})" if said else "") + ":"]
        lines.append("")
        runs = measured["runs"]
        for found in (
            verdict_table(case, runs),
            summary_table(case, runs),
            score_table(case, runs, all_rows=False),
        ):
            if found is not None:
                lines += markdown(*found)
    if entry.remarks:
        lines += [*(f"- {remark[0].upper()}{remark[1:]}." for remark in entry.remarks), ""]
    return lines


def picture(path: Path, caption: str) -> str:
    """The line for a picture on a page in docs/results."""
    return f"![{caption}](../../bench/results/{path.parent.name}/{path.name})"


def pictures(folder: Path, question: str) -> list[str]:
    """The lines for an entry's pictures."""
    lines = []
    for path in sorted(folder.glob(f"{question}-*.png")):
        about = path.stem.removeprefix(f"{question}-").replace("-", " ")
        lines += [picture(path, f"{QUESTIONS[question].title}: {about}"), ""]
    return lines


def keep(folder: Path) -> Path:
    """Copy an entry's result and pictures; earlier cases on other data are kept."""
    result = read_result(folder / "result.json")
    stem = result["entry"].replace("/", "_")
    to = RESULTS / machine_name(environment())
    to.mkdir(parents=True, exist_ok=True)
    written = to / f"{stem}.json"
    if written.exists():
        new = {case["data"] for case in result["cases"] if case["runs"]}
        kept = [c for c in json.loads(written.read_text())["cases"] if c["data"] not in new]
        old = {case["data"] for case in kept}
        result["cases"] = [c for c in result["cases"] if c["runs"] or c["data"] not in old] + kept
    for picture in sorted(folder.glob("*.png")):
        shutil.copy(picture, to / f"{stem}-{picture.name}")
    written.write_text(json.dumps({"question": stem, **result}, indent=1) + "\n")
    return written


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help=f"copied to {RESULTS.name}")
    for folder in parser.parse_args(argv).folders:
        print(keep(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
