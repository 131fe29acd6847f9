"""Pages that are written of the package itself before each build: ops, systems, command line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from unittest import mock

import torch
from sphinx.application import Sphinx

from pydisent.ops.spec import BACKWARD, Draw, OpSpec

WIDTH = 96
ROOT = Path(__file__).parents[2]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] * len(heads)
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def first_sentence(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def ops() -> str:
    import pydisent
    from pydisent.ops.registry import REGISTRY

    lines = [
        "# Ops",
        "",
        "Every op works on CPU and CUDA, in float16, bfloat16, float32 and float64, with gradients",
        "of any order, `torch.func` transforms and `torch.compile`. Its pure-PyTorch reference is",
        "there without a compiler; `pydisent.backends()` says which implementation is active.",
        "",
    ]
    rows = []
    for name, op in REGISTRY.items():
        if not name.endswith(BACKWARD) and hasattr(pydisent.ops, name):
            about = first_sentence(getattr(pydisent.ops, name).__doc__)
            rows.append([f"`{name}`", about, *homes(op.spec), cost(op.spec)])
    heads = ["op", "what it computes", "CPU", "CUDA", "least traffic and arithmetic"]
    lines += [markdown(heads, rows), ""]
    for name in pydisent.ops.__all__:
        lines += ["```{eval-rst}", f".. autofunction:: pydisent.ops.{name}", "```", ""]
    return "\n".join(lines)


def homes(spec: OpSpec) -> tuple[str, str]:
    """Where an op's kernels are written, by the files of its family."""
    on_cpu = "C++" if (ROOT / "csrc" / "cpu" / f"{spec.family}.cpp").exists() else "PyTorch"
    if spec.triton:
        return on_cpu, "Triton"
    on_gpu = (ROOT / "csrc" / "cuda" / f"{spec.family}.cu").exists()
    return on_cpu, "CUDA C++" if on_gpu else "PyTorch"


def cost(spec: OpSpec) -> str:
    """The traffic and the arithmetic of a call of a training step's size, in float32."""
    args = spec.problem(Draw(torch.float32), spec.sizes.small)
    moved, work = spec.bytes(*args) / 2**20, spec.flops(*args) / 1e6
    return f"{moved:.3g} MiB, {work:.3g} MFLOP at {spec.sizes.label('small')}"


def system_page() -> str:
    from pydisent import systems
    from pydisent.systems._registry import SYSTEMS

    lines = [
        "# Systems",
        "",
        "Each is trained by `pydisent train NAME`. Presets: `smoke` (seconds), `quick` (minutes on",
        "two cores) and `paper` (the published settings); `pydisent list NAME` shows them.",
        "",
    ]
    for name in sorted(systems.names()):
        defaults = systems.preset(name, "paper", systems.default_data(name)).config
        quick = {key: value for key, _, value in systems.describe(
            systems.preset(name, "quick", systems.default_data(name)).config)}  # fmt: skip
        lines += [f"## {name}", "", first_sentence(SYSTEMS[name].__doc__), ""]
        rows = [
            [f"`{key}`", f"`{value}`", "" if quick.get(key) == value else f"`{quick.get(key)}`"]
            for key, _, value in systems.describe(defaults)
        ]
        lines += [markdown(["setting", "`paper`", "`quick`, where it differs"], rows), ""]
    return "\n".join(lines)


def helped(words: Sequence[str]) -> str:
    from pydisent.cli import main

    said = io.StringIO()
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(said):
        main([*words, "--help"])
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines())


def command_line() -> str:
    from pydisent.cli._main import _COMMANDS

    lines = ["# Command line", "", "```text", helped([]), "```", ""]
    for name in _COMMANDS:
        lines += [f"## pydisent {name}", "", "```text", helped([name]), "```", ""]
    return "\n".join(lines)


def models() -> str:
    from pydisent import systems, zoo
    from pydisent.evaluation.scoring import metric_label, metric_names
    from pydisent.training.pretrained import read_description

    lines = [
        "# Trained models",
        "",
        "They come with the package: `pydisent.load(NAME)` opens one, and commands that read runs",
        "take its name, as in `pydisent traverse NAME` or `pydisent explore NAME`. They are small,",
        "trained in minutes on one core, and show what a system does, not how well it can do it.",
        "Where several seeds were trained, the one of the highest scores is here. Times are of a",
        "machine that had other work.",
        "",
    ]
    rows, total = [], 0
    for name in zoo.names():
        folder = Path(zoo.__file__).parent / name
        about = read_description(folder)
        plan, size = about["plan"], sum(file.stat().st_size for file in folder.iterdir())
        total += size
        side = about["image_shape"][1]
        # Those of few images are for the tests, unless there are no others.
        named = {k: v for k, v in about["scores"].items() if k in metric_names()}
        scores = [f"{metric_label(k)} {v:.3g}" for k, v in (named or about["scores"]).items()]
        rows.append([
            f"`{name}`",
            f"{plan['data']}, {side}×{side}",
            f"{size / 1e6:.2f} MB",
            ", ".join(scores),
            str(plan["seed"]),
            f"{about['seconds'] / 60:.0f} min",
        ])  # fmt: skip
    heads = ["name", "data", "size", "scores", "seed", "training"]
    lines += [markdown(heads, rows), "", f"All together are {total / 1e6:.1f} MB.", ""]
    there = {name.partition("/")[0] for name in zoo.names()}
    if missing := [name for name in systems.names() if name not in there]:
        lines += [f"There is none yet of {', '.join(missing)}.", ""]
    lines += [
        "What only training uses, such as a discriminator, is left out: the system encodes and",
        "decodes, and its `step` raises `LeftOutError` where something was left out. Parameters",
        "are stored in float16 and loaded as float32.",
        "",
    ]
    return "\n".join(lines)


PAGES = {"ops": ops, "systems": system_page, "models": models, "command-line": command_line}


def write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "reference" / "generated"
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", page()
        if not path.exists() or path.read_text() != text:  # so that unchanged pages are not rebuilt
            path.write_text(text)


def escape(app: Sphinx, what: str, name: str, of: object, options: object, lines: list) -> None:
    """Keep the star of shapes such as (B, *latent) from beginning an emphasis."""
    lines[:] = [re.sub(r"(?<=[(, ])\*(?=latent|out)", r"\\*", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", escape, priority=1)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
