"""Which of PyTorch's operators does the Jacobian engine differentiate? Tests all of them.

``python bench/operators.py`` tests the engine on up to eight samples of every operator in PyTorch's
own database (``op_db``), in float64, in complex128 and in place: the Jacobian, the alignment
penalty and its gradient against central differences (see ``tests/jacobian/_operators.py``). It
writes ``bench/results/operators.json`` and a table of the same, and fails if an answer is wrong or
a refusal is not in ``tests/jacobian/operators_refused.toml``. Operators can be selected by name.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from _harness import RESULTS, environment

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "jacobian"))
import _operators as cases

WORKERS = 2
HEADINGS = {
    "float64": "float64",
    "complex128": "complex128 inside",
    "in place": "float64, in place",
}


def judged(name: str) -> dict[str, Any]:
    """Per kind of sample: counts of each verdict, and remarks on those not right."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for kind in cases.KINDS:
        reason = cases.left_out(cases.operators()[name], kind)
        if reason:
            found[kind] = {"left_out": reason}
            continue
        verdicts = dict(cases.verdicts(name, kind))
        said = {
            str(place): [verdict.outcome, verdict.detail, verdict.torch]
            for place, verdict in verdicts.items()
            if verdict.outcome not in (cases.RIGHT, cases.NONE)
        }
        counts = Counter(verdict.outcome for verdict in verdicts.values())
        found[kind] = {"samples": dict(counts)} | ({"said": said} if said else {})
        if not counts:
            found[kind] = {"left_out": "no sample has a dense input and output with a derivative"}
    return found


def everything(names: Sequence[str], workers: int) -> dict[str, dict[str, Any]]:
    """Judge operators in parallel; each process imports the database once."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        found = {}
        for name, result in zip(names, pool.map(judged, names)):
            found[name] = result
            print(f"{len(found):4} of {len(names)}  {name:48} {summary(result)}", flush=True)
    return found


def summary(result: dict[str, Any]) -> str:
    total: Counter[str] = Counter()
    for of_kind in result.values():
        total.update(of_kind.get("samples", {}))
    return ", ".join(f"{count} {verdict}" for verdict, count in total.items()) or "left out"


def totals(operators: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Operators and samples by kind."""
    table = {}
    for kind in cases.KINDS:
        counts = [r[kind]["samples"] for r in operators.values() if "samples" in r[kind]]
        sums: Counter[str] = Counter()
        for count in counts:
            sums.update(count)
        table[kind] = {"operators": len(counts), "samples": sums.total()} | {
            verdict: sums[verdict] for verdict in cases.VERDICTS
        }
    return table


def remarks(operators: dict[str, dict[str, Any]], outcome: str) -> Iterable[tuple[str, str, list]]:
    """Operator, kind and remarks wherever the verdict is ``outcome``."""
    for name, result in operators.items():
        for kind in cases.KINDS:
            said = [row[1:] for row in result[kind].get("said", {}).values() if row[0] == outcome]
            if said:
                yield name, kind, said


def report(result: dict[str, Any], listed: dict[str, str]) -> str:
    """The results as markdown."""
    columns = ["operators", "samples", *cases.VERDICTS]
    lines = [
        "# PyTorch's operators through the Jacobian engine",
        "",
        f"torch {result['torch']}; {len(result['operators'])} entries of its database; written by "
        "`python bench/operators.py`. A sample is right if its Jacobian, its alignment penalty and "
        "the penalty's gradient agree with central differences.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for kind, row in result["totals"].items():
        lines.append(f"| {HEADINGS[kind]} | {' | '.join(str(row[c]) for c in columns)} |")
    sections = {
        cases.REFUSED_BY_US: "Refused",
        cases.WRONG: "Wrong",
        cases.WHOLE: "Right, but differentiated whole, with a warning",
        cases.ROUGH: "Not smooth where it was tried: central differences of two steps disagree",
    }
    for outcome, heading in sections.items():
        rows = list(remarks(result["operators"], outcome))
        lines += ["", f"## {heading}", ""]
        if not rows:
            lines.append("None.")
            continue
        lines += [
            "| operator | | samples | | torch's own double backward |",
            "|---|---|---:|---|---|",
        ]
        for name, kind, said in rows:
            what = "; ".join(_worst([detail for detail, _ in said]))
            if outcome == cases.REFUSED_BY_US:
                what = f"{listed.get(name, 'not in the list of refusals')} ({what})"
            torch_is = ", ".join(dict.fromkeys(verdict for _, verdict in said))
            lines.append(
                f"| `{name}` | {HEADINGS[kind]} | {len(said)} | {_cell(what)} | {torch_is} |"
            )
    lines += ["", "## Left out", ""]
    for kind in cases.KINDS:
        reasons: dict[str, list[str]] = {}
        for name, of in result["operators"].items():
            if "left_out" in of[kind]:
                reasons.setdefault(of[kind]["left_out"], []).append(name)
        for reason, names in reasons.items():
            shown = ": " + ", ".join(f"`{n}`" for n in names) if kind == "float64" else ""
            lines.append(f"- {HEADINGS[kind]}: {len(names)}, {reason}{shown}")
    return "\n".join(lines) + "\n"


def _worst(details: list[str]) -> list[str]:
    """Distinct remarks; of those that differ only in the last figure, the one with the largest."""
    kept: dict[str, str] = {}
    for detail in details:
        stem, _, last = detail.rpartition(" off by ")
        before = kept.get(stem or detail, "").rpartition(" off by ")[2]
        if not stem or not before or float(last) > float(before):
            kept[stem or detail] = detail
    return list(kept.values())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:400]


def write(result: dict[str, Any], listed: dict[str, str], folder: Path) -> Path:
    """Write both files, one operator per line, for readable diffs."""
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps({k: v for k, v in result.items() if k != "operators"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(n)}: {json.dumps(r)}" for n, r in result["operators"].items())
    path = folder / "operators.json"
    path.write_text(head.removesuffix("\n}") + ',\n "operators": {\n' + rows + "\n }\n}\n")
    path.with_suffix(".md").write_text(report(result, listed))
    return path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="full operator names; by default all")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the two files")
    args = parser.parse_args(argv)
    begun = time.perf_counter()
    unknown = sorted(set(args.names) - cases.operators().keys())
    if unknown:
        parser.error(f"torch {torch.__version__} has no operators {', '.join(unknown)}")
    operators = everything(args.names or list(cases.operators()), args.workers)
    about = environment()
    about = {key: about[key] for key in ("cpu", "cores", "platform")}
    result = {
        "question": "operators",
        "torch": torch.__version__,
        "totals": totals(operators),
        "seconds": round(time.perf_counter() - begun),
        "environment": about,
        "operators": operators,
    }
    listed = cases.refused_operators()
    path = write(result, listed, args.results)
    print(path.with_suffix(".md").read_text().partition("\n## ")[0])
    refused = {name for name, *_ in remarks(operators, cases.REFUSED_BY_US)}
    unlisted, stale = refused - listed.keys(), operators.keys() & listed.keys() - refused
    wrong = {n for o in (cases.WRONG, cases.WHOLE) for n, *_ in remarks(operators, o)}
    for what, names in {
        "wrong, or right with a warning": wrong,
        "refused, but not in the list of refusals": unlisted,
        "in the list of refusals, but not refused": stale,
    }.items():
        if names:
            print(f"{what}: {', '.join(sorted(names))}", file=sys.stderr)
    print(path)
    return int(bool(wrong or unlisted or stale))


if __name__ == "__main__":
    sys.exit(main())
