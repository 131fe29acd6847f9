"""The README's two tables: speedups over what people would write, and the papers' claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _tables import counted, device, load, markdown

from pydisent import reproduce
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


#: Each paper's central claim: its entry, and the claim's text in that entry.
CLAIMS = {
    "ramesh": ("ramesh/table1", "The penalty raises the disentanglement score, %"),
    "kumar": ("kumar/figure1", "DIP-VAE-II is above β-VAE at equal error: SAP"),
    "lezama": (
        "lezama/table2",
        "The student with Jacobian supervision flips more than with cycle losses, %",
    ),
    "zhu": ("zhu/table3", "Both lower it more than PS: TPL"),
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


def judged(folders: Sequence[Path], name: str, text: str) -> list[str] | None:
    """Data, seeds, figures and verdict of a claim, from the result with the most seeds."""
    (entry,) = reproduce.find(name)
    found = []
    for folder in folders:
        result = load(folder, name.replace("/", "_"))
        for case, measured in cases_of(entry, result) if result else ():
            runs = measured["runs"]
            for claim in case.claims:
                verdict = claim.judge(runs) if claim.text == text else None
                if verdict is not None:
                    by_seed = [
                        [r for r in runs if r["seed"] == n] for n in {r["seed"] for r in runs}
                    ]
                    seeds = sum(claim.judge(alone) is not None for alone in by_seed)
                    cells = [measured["data"], counted(seeds, "seed"), verdict.ours, verdict.text]
                    found.append((seeds, cells))
    return max(found, key=lambda each: each[0])[1] if found else None


def claims(folders: Sequence[Path]) -> list[str]:
    rows = []
    for paper, (name, text) in CLAIMS.items():
        cells = judged(folders, name, text) or ["–", "–", "–", "not run"]
        rows.append([reproduce.PAPERS[paper].TITLE, text, *cells])
    return markdown(["paper", "claim", "on", "over", "ours", "verdict"], rows, left=4)
