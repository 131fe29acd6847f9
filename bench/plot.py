"""Draws the committed results, and writes the README's tables from them.

``python bench/plot.py`` draws the pictures in ``bench/results/<machine>`` and rewrites what stands
between the markers in ``README.md``.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

NAMES = {
    "listing_1": "Listing 1 (double backward, batch tiled k times)",
    "listing_1_hoisted": "Listing 1, J'v made once for all products",
    "torch_func": "`torch.func.jvp` and `vjp`, unrolled",
    "gram_fp32": "**pydisent**, Gram route, fp32",
    "gram_bf16": "**pydisent**, Gram route, bf16 tangents",
    "gram_graph_fp32": "**pydisent**, Gram route, fp32, a CUDA graph",
    "gram_graph_bf16": "**pydisent**, Gram route, bf16 tangents, a CUDA graph",
    "matrix_free_fp32": "pydisent, matrix-free, fp32",
    "matrix_free_bf16": "pydisent, matrix-free, bf16 tangents",
}
COLOURS = {
    "listing_1": "#000000",
    "listing_1_hoisted": "#999999",
    "torch_func": "#D55E00",
    "gram_fp32": "#0072B2",
    "gram_bf16": "#56B4E9",
    "gram_graph_fp32": "#E69F00",
    "gram_graph_bf16": "#F0E442",
    "matrix_free_fp32": "#009E73",
    "matrix_free_bf16": "#CC79A7",
}


PICTURES = {
    "alignment.png": "Relative cost of a generator update",
    "constriction.png": "Spatial constriction against PyTorch, and against a plain copy",
    "gpu_suite.png": "Every op on the GPU under the measured ceilings",
    "cpu_suite.png": "Every op on the CPU under the measured ceilings",
    "vae_family.png": "Scores of the VAE family against the reconstruction error",
    "ps_sc_scores.png": "Scores of InfoGAN with PS, with SC and with both",
    "jacobian_ae.png": "What the first two units do: teacher, and students with and without",
    "jacobian_ae_long.png": "The same after longer stages",
    "attribute_ae_tradeoff.png": "Attribute flips against the reconstruction error",
    "attribute_ae.png": "Attributes flipped on held-out faces by the supervised student, α = 2",
    "ib_gan_sprites_information.png": "IB-GAN on sprites: bounds, KL of each dimension, score",
    "ib_gan_sprites.png": "IB-GAN's codes varied one at a time, on sprites",
    "ib_gan_sprites_betas.png": "What β does (Jeon et al., Fig. 3)",
    "ib_gan_color_sprites_information.png": "The same on coloured sprites",
    "ib_gan_color_sprites.png": "IB-GAN's codes varied one at a time, on coloured sprites",
    "ps_sc.png": "Traversals of PS-SC with each code's mask, the longest first",
}


def load(folder: Path, question: str) -> dict[str, Any] | None:
    path = folder / f"{question}.json"
    return json.loads(path.read_text()) if path.exists() else None


def device(environment: dict) -> str:
    """The machine in words."""
    return environment["gpu"] or f"{environment['cpu']}, {environment['cores']} cores"


def machine(environment: dict) -> str:
    """The machine and the software in words."""
    versions = environment["backends"]["versions"]
    threads = counted(environment["threads"], "thread")
    return (
        f"{device(environment)}, {threads}, torch {versions['torch']}, Python {versions['python']}"
    )


def alignment_table(result: dict) -> list[str]:
    lines = [
        "The alignment penalty and its gradient on the paper's DCGAN (base 64, m = 128, 64×64×3), "
        "against the paper's Listing 1 in the same run, float32 unless said "
        f"({machine(result['environment'])}):",
        "",
    ]
    for case in result["headline"].values():
        lines += [
            f"k = {case['k']}, T = {case['iterations']}, batch {case['batch']}:",
            "",
            "| way | time (p50) | speed-up | peak memory | gradient error |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        for name, row in case["methods"].items():
            if "p50" not in row:
                error = f"{row['gradient_error']:.1e}"
                lines.append(f"| {NAMES[name]} | not timed: fails its gate | | | {error} |")
                continue
            lines.append(
                f"| {NAMES[name]} | {row['p50']:.2f} s | {row['speedup']:.1f}× "
                f"| {row['peak_mib']:.0f} MiB | {row['gradient_error']:.1e} |"
            )
        lines.append("")
    lines += [
        "Peak memory is above what the process held before; the gradient error is relative to "
        "float64.",
        "",
    ]
    return lines


def compiled_lines(result: dict) -> list[str]:
    lines = []
    for case in result.get("compiled", []):
        where = f"k = {case['k']}, T = {case['iterations']}, batch {case['batch']}"
        if "failed" in case:
            lines.append(
                f"- `torch.compile` of the `torch.func` version, {where}: {case['failed']}."
            )
        else:
            lines.append(
                f"- `torch.compile` of the `torch.func` version, {where}: {case['p50']:.2f} s."
            )
    return [*lines, ""] if lines else []


def versus(passes: dict, scale: float, unit: str) -> str:
    """Median times in words, ours first, the others with how many times ours they take."""
    times = {name: row["p50"] * scale for name, row in passes.items()}
    ours = times.pop("pydisent")
    others = ", ".join(f"{n} {brief(t)} {unit} ({t / ours:.1f}×)" for n, t in times.items())
    return f"pydisent {brief(ours)} {unit}, {others}"


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def brief(value: float) -> str:
    """Three digits, or all those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def small_lines(result: dict) -> list[str]:
    rows = result["architectures"]
    ratios = {name: row["ratio"] for name, row in rows.items() if "ratio" in row}
    ordered = sorted(ratios.values())
    slower = {
        name: ratio for name, ratio in sorted(ratios.items(), key=lambda r: r[1]) if ratio < 1
    }
    told = ", ".join(f"`{name}` {ratio:.2f}×" for name, ratio in [*slower.items()][:5])
    raised = sum("raises" in row["listing_1"] for row in rows.values())
    off = len(rows) - len(ratios) - raised
    return [
        f"On {len(rows)} small generators of many kinds (a few numbers a layer, k = T = "
        f"{result['k']}, one thread, float32), whose cost is that of calls, penalty and gradient "
        f"run at {ordered[0]:.2f}× to {ordered[-1]:.2f}× Listing 1's speed, "
        f"{statistics.median(ordered):.2f}× in the median, where Listing 1 gives the gradient: in "
        f"{off} its gradient is off by more than {result['gate']:.0e}, by PyTorch's derivatives or "
        f"by other random numbers, in {raised} it raises"
        + (f". Slower in {len(slower)}, by most: {told}." if slower else "; never slower."),
        "",
    ]


def power_iteration_lines(result: dict) -> list[str]:
    return [
        "`masked_power_iteration`, forward and backward, Gram matrices (32, 128, 128), k = T = 8: "
        f"{versus(result['seconds']['full'], 1e3, 'ms')}.",
        "",
    ]


def density_lines(result: dict) -> list[str]:
    lines = [
        f"`total_correlation` ({result['estimator']}, d = {result['size']}), forward and backward, "
        "against the B × B × d broadcast:",
        "",
    ]
    for case in result["cases"]:
        memory = ", ".join(f"{name} {brief(mib)}" for name, mib in case["peak_mib"].items())
        lines.append(
            f"- B = {case['batch']}: {versus(case['seconds']['full'], 1e3, 'ms')}; "
            f"peak MiB: {memory}."
        )
    return [*lines, ""]


def constriction_lines(result: dict) -> list[str]:
    lines = [
        "`spatial_constriction` with `band_mask`, forward and backward, against the same equations "
        "in PyTorch (B, C, H, W; N codes); GB/s are of the bytes that must move:",
        "",
    ]
    for case in result["cases"]:
        rates, memory = case["gb_per_s"], case["peak_mib"]
        peaks = ", ".join(f"{name} {brief(mib)}" for name, mib in memory.items())
        lines.append(
            f"- {case['name']}: {versus(case['seconds']['full'], 1e3, 'ms')}; "
            f"{rates['full']:.1f} GB/s (a plain copy {rates['copy']:.1f}); peak MiB: {peaks}."
        )
    return [*lines, ""]


def covariance_lines(result: dict) -> list[str]:
    lines = ["Penalties on covariances, forward and backward:", ""]
    for question, found in result["questions"].items():
        lines.append(f"- {question}: {versus(found['seconds']['full'], 1e6, 'µs')}.")
    return [*lines, ""]


def metrics_lines(result: dict) -> list[str]:
    seconds = result["seconds"]
    lines = [
        f"Metrics of a network of the published size on 64×64 `sprites`: encoding "
        f"{result['images']:,} images {seconds['encode']:.0f} s, then FactorVAE "
        f"{seconds['factor-vae']:.1f} s, z-diff {seconds['z-diff']:.1f} s, SAP "
        f"{seconds['sap']:.1f} s, MIG {seconds['mig']:.2f} s, modularity "
        f"{seconds['modularity']:.2f} s: {seconds['group of five']:.0f} s together. DCI:",
        "",
    ]
    for name, case in result.get("dci", {}).items():
        lines.append(
            f"- {name}: {case['presorted']['seconds']:.1f} s, scikit-learn's trees "
            f"{case['gbt']['seconds']:.0f} s ({case['speedup']:.0f}×); scores at most "
            f"{case['difference']:.4f} apart."
        )
    return [*lines, ""]


FAMILY_SCORES = {
    "reconstruction": "squared error a pixel",
    "mig": "MIG",
    "sap": "SAP",
    "dci": "DCI",
    "factor-vae": "FactorVAE",
    "z-diff": "z-diff",
    "modularity": "modularity",
}


def family_table(result: dict) -> list[str]:
    lines = [
        f"The VAE family, preset `{result['preset']}` ({result['data']} at "
        f"{result['image_size']} px, {result['steps']:,} updates):",
        "",
        f"| system | seed | {' | '.join(FAMILY_SCORES.values())} |",
        "| --- |" + " ---: |" * (len(FAMILY_SCORES) + 1),
    ]
    for run in result["runs"]:
        digits = {name: 4 if name == "reconstruction" else 2 for name in FAMILY_SCORES}
        cells = [f"{run['scores'][name]:.{count}f}" for name, count in digits.items()]
        lines.append(f"| {run['system']} | {run['seed']} | {' | '.join(cells)} |")
    return [*lines, ""]


# "gan" as it was once called.
DEMO = dict.fromkeys(("plain-gan", "gan"), "the same without the penalty")


def demo_table(result: dict) -> list[str]:
    systems = result["systems"]
    first = next(iter(systems.values()))
    lines = [
        f"`make demo` (preset `quick`: {first['data']} at {first['image_size']} px, "
        f"{first['updates']} updates, seed {first['seed']}, {first['threads']} thread):",
        "",
        f"| system | mean of the first {first['k']} diagonal entries of F | z-diff "
        "| FactorVAE score | minutes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in systems.items():
        scores = row["scores"]
        lines.append(
            f"| {DEMO.get(name, name)} | {scores['f-diagonal']:.2f} | {scores['z-diff']:.2f} "
            f"| {scores['factor-vae']:.2f} | {row['seconds'] / 60:.1f} |"
        )
    return [*lines, ""]


ABLATION_COLOURS = {
    "infogan": "#999999",
    "ps": "#56B4E9",
    "sc": "#E69F00",
    "both": "#0072B2",
    "softmax": "#CC79A7",
}
VARIANTS = {
    "infogan": "InfoGAN",
    "ps": "+ PS loss",
    "sc": "+ SC module",
    "both": "+ both",
    "softmax": "+ both, softmax masks",
}
# score: its title, whether less is better, digits
ABLATION_SCORES = {
    "tpl": ("TPL", True, 2),
    "ppl": ("PPL", True, 2),
    "fid": ("FID", True, 3),
    "factor-vae": ("FactorVAE", False, 3),
    "mask-overlap": ("mask overlap", True, 2),
}


def by_variant(result: dict) -> dict[str, list[dict]]:
    """The runs of each variant, in the order of the table."""
    runs = {v: [run for run in result["runs"] if run["variant"] == v] for v in VARIANTS}
    return {variant: found for variant, found in runs.items() if found}


def spread(values: list[float], digits: int) -> str:
    """The mean, and the standard deviation of several; a dash for none."""
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def ablation_table(result: dict) -> list[str]:
    runs = result["runs"]
    seeds = sorted({run["seed"] for run in runs})
    lines = [
        f"PS and SC apart and together (Zhu et al., Table 3), preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, "
        f"{counted(runs[0]['threads'], 'thread')} a run). TPL, PPL and FID are by the feature net "
        f"`{runs[0]['measured_by']}`: they are not to be compared with published figures. "
        f"{'' if len(seeds) == 1 else 'Mean ± standard deviation over seeds. '}"
        "Arrows point to better.",
        "",
        "| system | "
        + " | ".join(f"{t} {'↓' if less else '↑'}" for t, less, _ in ABLATION_SCORES.values())
        + " | active dimensions | minutes |",
        "| --- |" + " ---: |" * (len(ABLATION_SCORES) + 2),
    ]
    for variant, found in by_variant(result).items():
        cells = [
            spread([run["scores"][name] for run in found if name in run["scores"]], digits)
            for name, (_, _, digits) in ABLATION_SCORES.items()
        ]
        cells.append(spread([run["active"] for run in found], 0 if len(found) == 1 else 1))
        cells.append(spread([run["seconds"] / 60 for run in found], 1))
        lines.append(f"| {VARIANTS[variant]} | {' | '.join(cells)} |")
    return [*lines, ""]


def draw_ablation(result: dict, path: Path) -> None:
    """A panel a score, a bar a variant (the mean over seeds), a dot a seed."""
    from matplotlib.figure import Figure

    variants = by_variant(result)
    scores = {
        name: titled
        for name, titled in ABLATION_SCORES.items()
        if any(name in run["scores"] for run in result["runs"])
    }
    figure = Figure(figsize=(1.6 + 1.9 * len(scores), 1.2 + 0.36 * len(variants)),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axis, (name, (title, less, digits)) in zip(axes, scores.items()):
        for row, (variant, found) in enumerate(variants.items()):
            values = [run["scores"][name] for run in found if name in run["scores"]]
            if not values:
                continue
            mean, colour = statistics.fmean(values), ABLATION_COLOURS[variant]
            axis.barh(row, mean, 0.62, color=colour)
            if len(values) > 1:
                axis.plot(values, [row] * len(values), "o", color="black", markersize=3)
            axis.annotate(f"{mean:.{digits}f}", (max(mean, *values) if len(values) > 1 else mean,
                          row), (4, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
        axis.set_title(f"{title}\n{'less' if less else 'more'} is better", fontsize=9)
        axis.margins(x=0.28)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(range(len(variants)), [VARIANTS[v] for v in variants])
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=150)


ROWS = {
    "teacher": "Teacher",
    "supervised-14": "Student with Jacobian supervision",
    "supervised-18": "Student with Jacobian supervision",
    "unsupervised-14": "Student without",
    "random-14": "Random weights",
}


def _weights(run: dict) -> str:
    """Name a run by the weights that are not the preset's."""
    told = ", ".join(f"{name} {value:g}" for name, value in run["settings"].items())
    return f"Student with {told}"


def swaps_table(result: dict) -> list[str]:
    lines = [
        f"Jacobian supervision (Lezama, Table 1), preset `{result['preset']}`, {result['data']}, "
        f"{result['steps']:,} updates a stage ({machine(result['environment'])}). Class swaps and "
        "squared errors a pixel are of the images held out; the first column's targets are what "
        "the classifier says of the reconstructions, as in the authors' code, the second's the "
        "true classes.",
        "",
        "| model | d | class swaps, % ↑ | to the true class, % ↑ | squared error ↓ | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    others = {run["row"]: _weights(run) for run in result["runs"] if run["row"] not in ROWS}
    for row, name in (ROWS | others).items():
        found = [run for run in result["runs"] if run["row"] == row]
        if not found:
            continue
        cells = [
            spread([100 * run["author_code"] for run in found if run["author_code"]], 1),
            spread([100 * run["scores"]["class-swaps"] for run in found], 1),
            spread([run["reconstruction_mse"] for run in found], 4),
            spread([run["seconds"] / 60 for run in found if "seconds" in run], 1),
        ]
        size = 0 if row == "teacher" else row.split("-")[1] if row in ROWS else 14
        lines.append(f"| {name} | {size} | {' | '.join(cells)} |")
    return [*lines, ""]


FLIPPED = {
    "teacher": "Teacher",
    "jacobian": "Student with Jacobian supervision",
    "cycle": "Student with cycle losses",
    "none": "Student with neither",
}


def flips_table(result: dict) -> list[str]:
    lines = [
        f"Attributes set on {result['data']} (Lezama, Table 2), preset `{result['preset']}`, "
        f"{result['image_size']} px ({machine(result['environment'])}). On images held out; the "
        "attribute classifier is right in "
        f"{100 * result['runs'][0]['classifier_accuracy']:.1f} % of them. A flip counts, as "
        "published, if the classifier then is on the wanted side; 'changed' leaves out those where "
        "it was there before; 'others kept' is the share of all other attributes that stay.",
        "",
        "| model | d | attribute flips, % ↑ | changed, % ↑ | others kept, % ↑ | α "
        "| squared error ↓ | minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    others = {run["row"]: run["row"] for run in result["runs"] if run["row"] not in FLIPPED}
    for row, name in (FLIPPED | others).items():
        found = [run for run in result["runs"] if run["row"] == row]
        if not found:
            continue
        cells = [
            str(found[0]["z_size"]),
            spread([100 * run["scores"]["attribute-flips"] for run in found], 1),
            spread([100 * run["changed"] for run in found], 1),
            spread([100 * run["others_kept"] for run in found], 1),
            spread([run["alpha"] for run in found], 0),
            spread([run["reconstruction_mse"] for run in found], 4),
            spread([run["seconds"] / 60 for run in found], 1),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


BOTTLENECKS = {"gan": "GAN", "infogan": "InfoGAN", "ib-gan": "IB-GAN"}


def bottleneck_table(result: dict) -> list[str]:
    seeds = counted(len({run["seed"] for run in result["runs"]}), "seed")
    lines = [
        f"IB-GAN and its baselines (Jeon et al., Table 1), preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates; "
        f"{seeds}; {machine(result['environment'])}). These are early scores: the paper trains "
        "15 to 50 times as long. FactorVAE scores are with Jeon et al.'s settings and with "
        "disentanglement_lib's; the bounds on the information, in nats, are medians over "
        "training; active are codes whose variance over the data is at least 0.05.",
        "",
        "| system | FactorVAE, Jeon ↑ | FactorVAE ↑ | MIG ↑ | lower bound | upper bound | active "
        "| minutes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    variants = list(dict.fromkeys(run["variant"] for run in result["runs"]))
    for variant in variants:
        found = [run for run in result["runs"] if run["variant"] == variant]
        name = BOTTLENECKS.get(variant, "IB-GAN")
        if "beta" in found[0]:
            name = f"{name}, β = {found[0]['beta']:g}"
        bounds = [[r[b] for r in found if r[b] is not None] for b in ("mi_lower", "mi_upper")]
        cells = [
            spread([run["factor_vae_jeon"] for run in found], 2),
            spread([run["scores"]["factor-vae"] for run in found], 2),
            spread([run["scores"]["mig"] for run in found], 2),
            *(spread(values, 2) for values in bounds),
            spread([run["active"] for run in found], 0 if len(found) == 1 else 1),
            spread([run["seconds"] / 60 for run in found], 1),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def draw_betas(result: dict, path: Path) -> None:
    """Both bounds and the score against β (Jeon et al., Fig. 3): a dot a run."""
    from matplotlib.figure import Figure

    runs = sorted((run for run in result["runs"] if "beta" in run), key=lambda run: run["beta"])
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    panels = figure.subplots(1, 3)
    betas = sorted({run["beta"] for run in runs})
    for panel, (key, title) in zip(
        panels,
        (
            ("mi_upper", "upper bound, nats"),
            ("mi_lower", "lower bound, nats"),
            ("factor_vae_jeon", "FactorVAE score"),
        ),
    ):
        means = [statistics.fmean(r[key] for r in runs if r["beta"] == b) for b in betas]
        places = range(len(betas))  # 0 has no place on a logarithmic scale
        panel.plot(places, means, color="#0072B2")
        panel.scatter([betas.index(r["beta"]) for r in runs], [r[key] for r in runs],
                      color="#0072B2", s=16)  # fmt: skip
        panel.set(title=title, xlabel="β")
        panel.set_xticks(places, [f"{beta:g}" for beta in betas], fontsize=7)
        panel.set_ylim(bottom=min(0, *means))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def precision_table(result: dict) -> list[str]:
    scores = {
        "factor-vae": ("FactorVAE ↑", 3),
        "mig": ("MIG ↑", 3),
        "sap": ("SAP ↑", 3),
        "reconstruction": ("squared error ↓", 5),
    }
    seeds = sorted({run["seed"] for run in result["runs"]})
    lines = [
        f"Scores after training in either precision, preset `{result['preset']}` "
        f"({result['data']} at {result['image_size']} px, {result['steps']:,} updates, seeds "
        f"{', '.join(map(str, seeds))}; {machine(result['environment'])}): mean ± standard "
        "deviation over seeds.",
        "",
        f"| system | precision | {' | '.join(title for title, _ in scores.values())} | minutes |",
        "| --- | --- |" + " ---: |" * (len(scores) + 1),
    ]
    for key in dict.fromkeys((run["system"], run["precision"]) for run in result["runs"]):
        found = [run for run in result["runs"] if (run["system"], run["precision"]) == key]
        cells = [
            spread([run["scores"][name] for run in found], digits)
            for name, (_, digits) in scores.items()
        ]
        cells.append(spread([run["seconds"] / 60 for run in found], 1))
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return [*lines, ""]


def throughput_table(result: dict) -> list[str]:
    rows = result["systems"]
    ways = dict.fromkeys(way for row in rows.values() for way in row["seconds"] if way != "plain")
    sizes = dict.fromkeys(row["networks"] for row in rows.values())
    presets = "; ".join(
        f"`{size}` ({', '.join(name for name, row in rows.items() if row['networks'] == size)})"
        for size in sizes
    )
    lines = [
        f"Training steps against a plain PyTorch loop in the same run "
        f"({machine(result['environment'])}). For beta-vae and ib-gan the plain loop is written "
        "from the papers; for any other it is the system without channels-last weights, fused "
        "steps and compiled kernels. Each has a process of its own; ours keeps the memory it "
        f"frees, as training has it. Networks are those of the preset {presets}; data is the "
        "share of a step's time in which its images are made.",
        "",
        f"| system | images | plain, ms a step | {' | '.join(ways)} | images/s | data, % |",
        "| --- | --- |" + " ---: |" * (len(ways) + 3),
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["networks"] != "paper"):
        seconds = row["seconds"]
        plain = seconds["plain"]["p50"]
        cells = [
            f"{1e3 * seconds[key]['p50']:.1f} ({plain / seconds[key]['p50']:.2f}×)"
            if key in seconds
            else "–"
            for key in ways
        ]
        best = max(found["images_per_second"] for found in seconds.values())
        fastest = min(found["p50"] for found in seconds.values())
        share = row["data_seconds"] / (row["data_seconds"] + fastest)
        images = f"{row['images_a_step']} of {row['data']}, {row['image_size']} px"
        lines.append(
            f"| {name} | {images} | {1e3 * plain:.1f} | {' | '.join(cells)} | {best:,.0f} "
            f"| {100 * share:.1f} |"
        )
    return [*lines, ""]


SUITES = ("gpu_suite", "cpu_suite")
SUITE_COLOURS = {"fp32": "#0072B2", "bf16": "#E69F00"}


def suite_row(result: dict, op: str, size: str, dtype: str) -> dict | None:
    """What was measured of an op, if it was."""
    for row in result["rows"]:
        if (row["op"], row["size"], row["dtype"]) == (op, size, dtype) and "seconds" in row:
            return row
    return None


def suite_pass(row: dict) -> tuple[dict[str, float], dict]:
    """Microseconds of each contender and the work of both passes, or of the one there is."""
    key = "both" if "both" in row["seconds"] else "forward"
    times = {name: 1e6 * found["p50"] for name, found in row["seconds"][key].items()}
    return times, row["work"][key]


def suite_cells(row: dict | None) -> list[str]:
    """Ours, what the others take, and the rate with its share of the ceiling."""
    if row is None:
        return ["not measured", "–", "–", "–"]
    times, work = suite_pass(row)
    rate = f"{brief(work['gb_s'])} GB/s"
    if work["bound_by"] == "operations":
        rate = f"{brief(work['tflop_s'])} TFLOP/s"
    others = [
        f"{brief(times[name])} ({times[name] / times['pydisent']:.1f}×)" if name in times else "–"
        for name in ("reference", "torch.compile")
    ]
    return [brief(times["pydisent"]), *others, f"{rate}, {100 * work['share']:.0f} %"]


def suite_narrow(row: dict | None) -> str:
    """Ours and its share."""
    if row is None:
        return "–"
    times, work = suite_pass(row)
    return f"{brief(times['pydisent'])}, {100 * work['share']:.0f} %"


def suite_step(row: dict | None) -> str:
    """Ours and the faster of the others."""
    if row is None:
        return "–"
    times, _ = suite_pass(row)
    ours = times.pop("pydisent")
    return f"{brief(ours)} ({min(times.values()) / ours:.1f}×)" if times else brief(ours)


def suite_table(result: dict) -> list[str]:
    """A row an op: the larger size in both dtypes, and that of a training step."""
    top = result["ceilings"]
    large, *small = dict.fromkeys(row["size"] for row in result["rows"])
    lines = [
        "Every op, forward and backward (forward alone if it has no backward pass), in "
        f"microseconds ({machine(result['environment'])}); brackets hold the others in units of "
        "ours, of a training step the faster one. Shares are of the least time that a copy at "
        f"{brief(top['copy_gb_s'])} GB/s and products at {brief(top['fp32_tflop_s'])} (bf16: "
        f"{brief(top['bf16_tflop_s'])}) TFLOP/s, measured in the same run, allow; a launch takes "
        f"{brief(top['launch_us'])} µs.",
        "",
        "| op | size | pydisent | reference | torch.compile | rate, share | bf16 | a step's size |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for op in dict.fromkeys(row["op"] for row in result["rows"]):
        shape = next(r["shape"] for r in result["rows"] if r["op"] == op)
        cells = suite_cells(suite_row(result, op, large, "fp32"))
        cells.append(suite_narrow(suite_row(result, op, large, "bf16")))
        cells.append(suite_step(suite_row(result, op, small[0], "fp32")) if small else "–")
        lines.append(f"| `{op}` | {shape} | {' | '.join(cells)} |")
    return [*lines, "", *suite_alignment(result.get("alignment", []))]


def suite_alignment(rows: list[dict]) -> list[str]:
    """What a generator update with the penalty costs, a row a k and T."""
    if not rows:
        return []
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines = [
        f"An update of the paper's generator with the alignment penalty (batch {rows[0]['batch']}),"
        " in units of one without; CUDA graphs in units of a graph without:",
        "",
        f"| k | T | {' | '.join(NAMES[way] for way in ways)} |",
        "| ---: | ---: |" + " ---: |" * len(ways),
    ]
    for k, steps in dict.fromkeys((row["k"], row["iterations"]) for row in rows):
        found = {r["way"]: r for r in rows if (r["k"], r["iterations"]) == (k, steps)}
        cells = [
            f"{found[way]['relative_cost']:.1f}×"
            if "relative_cost" in found.get(way, {})
            else found.get(way, {}).get("failed", "not timed")
            for way in ways
        ]
        lines.append(f"| {k} | {steps} | {' | '.join(cells)} |")
    return [*lines, ""]


def measured_on_gpu() -> set[str]:
    """Ops whose speed on a GPU is in the committed results."""
    found: set[str] = set()
    for path in RESULTS.glob("*/*.json"):
        result = json.loads(path.read_text())
        if not result["environment"]["gpu"]:
            continue
        if path.stem == "constriction":
            for op in ("band_mask", "spatial_constriction"):
                found |= {op, f"{op}_backward"}
        if path.stem == "gpu_suite" and result["device"] == "cuda":
            for row in result["rows"]:
                for key in row.get("seconds", {}):
                    found.add(row["op"] + ("_backward" if key == "both" else ""))
    return found


def coverage_lines() -> list[str]:
    """Which machines were measured, and which kernels still have no figures of a GPU."""
    import pydisent.ops  # noqa: F401  # registers them
    from pydisent.ops._registry import REGISTRY

    folders = sorted(path.parent for path in RESULTS.glob("*/*.json"))
    machines = [
        device(json.loads(next(iter(sorted(folder.glob("*.json")))).read_text())["environment"])
        for folder in dict.fromkeys(folders)
    ]
    lines = [f"Measured on: {'; '.join(machines)}."]
    if not any(RESULTS.glob("*/gpu_suite.json")):
        lines.append("The suite of all ops (`bash bench/gpu_check.sh`) has not run on a GPU yet.")
    missing = sorted({name.removesuffix("_backward") for name in set(REGISTRY) - measured_on_gpu()})
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        lines.append(f"Not measured on a GPU yet, forward or backward: {names}.")
    else:
        lines.append("Every kernel was measured on a GPU.")
    return [" ".join(lines), ""]


def tables() -> str:
    """The README's results, machine by machine."""
    lines = coverage_lines()
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        if results:
            lines += [f"### {device(results[0]['environment'])}", ""]
        found = load(folder, "alignment")
        if found:
            lines += [*alignment_table(found), *compiled_lines(found)]
        for question, write in (
            ("small", small_lines),
            ("power_iteration", power_iteration_lines),
            ("density", density_lines),
            ("constriction", constriction_lines),
            ("covariance", covariance_lines),
            ("metrics", metrics_lines),
            ("demo", demo_table),
            ("vae_family", family_table),
            ("ps_sc", ablation_table),
            ("ib_gan_sprites", bottleneck_table),
            ("ib_gan_color_sprites", bottleneck_table),
            ("throughput", throughput_table),
            ("precision", precision_table),
            ("gpu_suite", suite_table),
            ("cpu_suite", suite_table),
            ("jacobian_ae", swaps_table),
            ("jacobian_ae_long", swaps_table),
            ("attribute_ae", flips_table),
        ):
            result = load(folder, question)
            lines += write(result) if result else []
        for picture, caption in PICTURES.items():
            if (folder / picture).exists():
                lines += [f"![{caption}](bench/results/{folder.name}/{picture})", ""]
    return "\n".join(lines).strip()


def readme_with(text: str, results: str) -> str:
    """``text`` with what stands between the markers replaced."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{results}\n{END}{after}"


def draw(grid: dict, path: Path) -> None:
    """Fig. 4: a generator update relative to one without the penalty, against k, one panel a T."""
    from matplotlib.figure import Figure

    rows = grid["rows"]
    steps = sorted({row["iterations"] for row in rows})
    figure = Figure(figsize=(3.2 * len(steps), 3.8), layout="constrained")
    axes = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
    for axis, count in zip(axes, steps):
        for method, colour in COLOURS.items():
            points = [(r["k"], r["relative_cost"]) for r in rows
                      if r["method"] == method and r["iterations"] == count]  # fmt: skip
            if points:
                label = NAMES[method].replace("*", "").replace("`", "")
                axis.plot(*zip(*sorted(points)), "o-", color=colour, label=label, markersize=4)
        axis.set(title=f"T = {count}", xlabel="eigenvectors k", xscale="log", yscale="log")
        axis.set_xticks(sorted({row["k"] for row in rows}), labels=sorted({r["k"] for r in rows}))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("cost of an update\nrelative to one without")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def draw_constriction(result: dict, path: Path) -> None:
    """Times of both passes in units of ours, and the memory traffic beside that of a copy."""
    from matplotlib.figure import Figure

    cases = result["cases"]
    figure = Figure(figsize=(9, 1.1 + 0.75 * len(cases)), layout="constrained")
    times, rates = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    looks = {"eager": "#999999", "torch.compile": "#E69F00", "pydisent": "#0072B2"}
    for row, case in enumerate(cases):
        full = case["seconds"]["full"]
        for i, (name, colour) in enumerate(looks.items()):
            ratio = full[name]["p50"] / full["pydisent"]["p50"]
            where = row + 0.26 * (i - 1)
            times.barh(where, ratio, 0.24, color=colour, label=None if row else name)
            text = f"{ratio:.1f}× ({brief(1e3 * full[name]['p50'])} ms)"
            times.annotate(text, (ratio, where), (3, 0), textcoords="offset points",
                           va="center", fontsize=7)  # fmt: skip
        for i, (name, key, colour) in enumerate(
            (("pydisent, both passes", "full", "#0072B2"), ("a plain copy", "copy", "#999999"))
        ):
            where, rate = row + 0.3 * (i - 0.5), case["gb_per_s"][key]
            rates.barh(where, rate, 0.28, color=colour, label=None if row else name)
            rates.annotate(f"{rate:.1f}", (rate, where), (3, 0), textcoords="offset points",
                           va="center", fontsize=7)  # fmt: skip
    times.set_yticks(range(len(cases)), [case["name"] for case in cases], fontsize=8)
    times.invert_yaxis()
    times.set_xlabel("forward and backward, in units of pydisent's time")
    rates.set_xlabel("GB/s")
    for axis in (times, rates):
        axis.margins(x=0.25)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    figure.savefig(path, dpi=150)


def draw_roofline(result: dict, path: Path) -> None:
    """Operations a second against operations a byte, under the measured ceilings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axis = figure.subplots()
    top, largest = result["ceilings"], result["rows"][0]["size"]
    shown = [r for r in result["rows"] if "seconds" in r and r["size"] == largest]
    points = []
    for row in shown:
        done = list(row["work"].values())[-1]
        points.append((done["operations"] / done["bytes"], done["tflop_s"], row))
        axis.plot(*points[-1][:2], "o", color=SUITE_COLOURS[row["dtype"]], markersize=4)
    named = sorted(((x, y, r["op"]) for x, y, r in points if r["dtype"] == "fp32"))
    for place, (x, y, op) in enumerate(named):  # neighbours above and below
        axis.annotate(op, (x, y), (4, -9 if place % 2 else 3), textcoords="offset points",
                      fontsize=6)  # fmt: skip
    low, high = 1e-2, 1e4
    for dtype, colour in SUITE_COLOURS.items():
        speed, copy = top[f"{dtype}_tflop_s"], top["copy_gb_s"] / 1e3
        axis.plot([low, speed / copy, high], [low * copy, speed, speed], color=colour, label=dtype)
    axis.set(xlabel="operations a byte that must move", ylabel="TFLOP/s", xscale="log",
             yscale="log", xlim=(low, high))  # fmt: skip
    axis.legend(title="a copy, and products in", frameon=False, fontsize=8, title_fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def draw_tradeoff(result: dict, path: Path) -> None:
    """Draw how well attributes are set against the reconstruction error (Lezama, Fig. 4)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5.2, 3.4), layout="constrained")
    colours = dict(zip(FLIPPED, ("#000000", "#0072B2", "#D55E00", "#999999")))
    for row, name in FLIPPED.items():
        found = [run for run in result["runs"] if run["row"] == row]
        if found:
            flips = [100 * run["scores"]["attribute-flips"] for run in found]
            errors = [1e3 * run["reconstruction_mse"] for run in found]
            axis.scatter(errors, flips, color=colours[row], label=name, s=42)
    axis.set_xlabel("squared error a pixel, thousandths (left is better)")
    axis.set_ylabel("attribute flips, % (up is better)")
    axis.margins(0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        found = load(folder, "alignment")
        if found and "grid" in found:
            draw(found["grid"], folder / "alignment.png")
            print(folder / "alignment.png")
        if constriction := load(folder, "constriction"):
            draw_constriction(constriction, folder / "constriction.png")
            print(folder / "constriction.png")
        if ablation := load(folder, "ps_sc"):
            draw_ablation(ablation, folder / "ps_sc_scores.png")
            print(folder / "ps_sc_scores.png")
        if any("beta" in r for r in (load(folder, "ib_gan_sprites") or {"runs": []})["runs"]):
            draw_betas(load(folder, "ib_gan_sprites"), folder / "ib_gan_sprites_betas.png")
            print(folder / "ib_gan_sprites_betas.png")
        for suite in SUITES:
            if measured := load(folder, suite):
                draw_roofline(measured, folder / f"{suite}.png")
                print(folder / f"{suite}.png")
        if flips := load(folder, "attribute_ae"):
            draw_tradeoff(flips, folder / "attribute_ae_tradeoff.png")
            print(folder / "attribute_ae_tradeoff.png")
    README.write_text(readme_with(README.read_text(), tables()))
    print(README)


if __name__ == "__main__":
    main()
