"""The README's table: one line each for what is fastest against what people would write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _tables import device, load, markdown


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


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def table(folders: Sequence[Path]) -> list[str]:
    """The lines, each of the last machine without a GPU whose results have it."""
    rows = []
    for question, lines in QUESTIONS.items():
        found = [result for folder in folders if (result := load(folder, question))]
        measured = [result for result in found if not result["environment"]["gpu"]]
        for result in measured[-1:]:
            rows += [
                [line.what, line.against, seconds(line.theirs), seconds(line.ours),
                 f"**{line.theirs / line.ours:.1f}×**", device(result["environment"])]
                for line in lines(result)
            ]  # fmt: skip
    heads = ["", "against", "theirs", "pydisent", "faster", "measured on"]
    return markdown(heads, rows, left=2)
