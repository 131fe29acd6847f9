"""The README's two tables: speedups over what people would write, and the papers' claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _tables import counted, device, load, markdown

from pydisent import reproduce
from pydisent.reproduce.claims import Claim, Verdict
from pydisent.reproduce.entry import Entry
from pydisent.reproduce.results import cases_of


class Line(NamedTuple):
    what: str
    against: str
    ours: float
    theirs: float


def alignment(result: dict[str, Any]) -> Iterator[Line]:
    ways = result["headline"]["k32"]["methods"]
    yield Line(
        "Alignment penalty and its gradient, k = 32, T = 8, the paper's DCGAN, float32",
        "the paper's Listing 1",
        ways["gram_fp32"]["p50"],
        ways["listing_1"]["p50"],
    )


def density(result: dict[str, Any]) -> Iterator[Line]:
    case = max(result["cases"], key=lambda case: case["batch"])
    full = case["seconds"]["full"]
    yield Line(
        f"Total correlation, B = {case['batch']}, d = {result['size']}, forward and backward",
        "the B × B × d broadcast",
        full["pydisent"]["p50"],
        full["eager"]["p50"],
    )


def constriction(result: dict[str, Any]) -> Iterator[Line]:
    case = next(c for c in result["cases"] if c["codes"] == 5 and not c["channels_last"])
    full = case["seconds"]["full"]
    yield Line(
        "Spatial constriction (PS-SC's layer), 5 codes, (16, 64, 64, 64)",
        "its equations in PyTorch",
        full["pydisent"]["p50"],
        full["eager"]["p50"],
    )


def metrics(result: dict[str, Any]) -> Iterator[Line]:
    for case in result["dci"].values():
        yield Line(
            "DCI of 10,000 codes",
            "scikit-learn's boosted trees",
            case["presorted"]["seconds"],
            case["gbt"]["seconds"],
        )


def throughput(result: dict[str, Any]) -> Iterator[Line]:
    seconds = result["systems"]["beta-vae"]["seconds"]
    yield Line(
        "A training step of β-VAE, 64 images of 64×64",
        "a plain PyTorch loop",
        seconds["pydisent"]["p50"],
        seconds["plain"]["p50"],
    )


QUESTIONS = {
    "alignment": alignment,
    "density": density,
    "constriction": constriction,
    "metrics": metrics,
    "throughput": throughput,
}


OUTCOMES = {"hold": "holds", "open": "open", "opposite": "the opposite holds"}

#: Each paper's central claim: its entry, and the claim's text in that entry.
CLAIMS = {
    "ramesh": ("ramesh/table1", "The penalty raises the disentanglement score, %"),
    "kumar": ("kumar/figure1", "DIP-VAE-II is above β-VAE at equal error: SAP"),
    "lezama": (
        "lezama/table2",
        "The student with Jacobian supervision flips more than with cycle losses, %",
    ),
    "zhu": ("zhu/table3", "PS and SC lower the TPL more than SC alone"),
    "jeon": ("jeon/table1", "IB-GAN scores above InfoGAN"),
}


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def table(folders: Sequence[Path]) -> list[str]:
    """The lines, each from the machine without a GPU that has the smallest gain."""
    rows = []
    for question, lines in QUESTIONS.items():
        found = [result for folder in folders if (result := load(folder, question))]
        measured = [
            (line.theirs / line.ours, line, device(result["environment"]))
            for result in found
            if not result["environment"]["gpu"]
            for line in lines(result)
        ]
        if measured:
            ratio, line, where = min(measured)
            times = (seconds(line.theirs), seconds(line.ours))
            rows.append([line.what, line.against, *times, f"**{ratio:.1f}×**", where])
    heads = ["", "against", "theirs", "pydisent", "faster", "measured on"]
    return markdown(heads, rows, left=2)


class Judged(NamedTuple):
    """A claim's verdict from the result with the most seeds."""

    seeds: int
    data: str
    verdict: Verdict


def judged(folders: Sequence[Path], entry: Entry) -> dict[str, Judged]:
    """The verdicts on an entry's claims by their text, each from the result with the most seeds."""
    found: dict[str, Judged] = {}
    for folder in folders:
        result = load(folder, entry.name.replace("/", "_"))
        for case, measured in cases_of(entry, result) if result else ():
            for claim in case.claims:
                verdict = claim.judge(measured["runs"])
                if verdict is None:
                    continue
                new = Judged(_seeds(claim, measured["runs"]), measured["data"], verdict)
                if claim.text not in found or new.seeds > found[claim.text].seeds:
                    found[claim.text] = new
    return found


def _seeds(claim: Claim, runs: Sequence[dict[str, Any]]) -> int:
    """The number of seeds whose runs suffice to judge a claim."""
    seeds = {run["seed"] for run in runs}
    return sum(claim.judge([r for r in runs if r["seed"] == seed]) is not None for seed in seeds)


def claims(folders: Sequence[Path]) -> list[str]:
    rows = []
    for paper, (name, text) in CLAIMS.items():
        entries = {entry.name: judged(folders, entry) for entry in reproduce.find(paper)}
        verdicts = Counter(j.verdict.outcome for found in entries.values() for j in found.values())
        of_all = ", ".join(f"{n} {what}" for what, key in OUTCOMES.items() if (n := verdicts[key]))
        central = entries[name].get(text)
        cells = ["–", "–", "–", "not run"]
        if central is not None:
            verdict = central.verdict
            cells = [central.data, counted(central.seeds, "seed"), verdict.ours, verdict.text]
        rows.append([reproduce.PAPERS[paper].TITLE, text, *cells, of_all or "none"])
    heads = ["paper", "central claim", "on", "over", "ours", "verdict", "of all its claims tested"]
    return markdown(heads, rows, left=4)
