"""The benches that train, at their smallest."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from pydisent.evaluation.scoring import score
from pydisent.training import Plan, RunFolder, open_run, train

ROOT = Path(__file__).parents[1]


def test_precisions_are_compared_over_seeds(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("pydisent.evaluation.scoring.MAX_IMAGES", 1000)
    for precision in ("fp32", "bf16"):
        plan = Plan.from_preset(
            "beta-vae", preset="smoke", steps=5, settings={"precision": precision}
        )
        path = tmp_path / "runs" / precision
        train(plan, path, accelerator="cpu", progress=False)
        folder = RunFolder(path)
        folder.add_scores(score(open_run(path), ["reconstruction"]))
        about = json.loads(folder.environment.read_text())
        folder.environment.write_text(json.dumps(about | {"precision": precision}))
    bench_of = bench("precision")
    written = {}
    monkeypatch.setattr(
        bench_of, "write_result", lambda *args: written.update({args[0]: args[1]}) or "there"
    )
    monkeypatch.setattr("sys.argv", ["precision.py", str(tmp_path / "runs")])
    assert bench_of.main() == 0
    result = written["precision"]
    assert {run["precision"] for run in result["runs"]} == {"fp32", "bf16"}
    result["runs"] += [{**run, "seed": 1, "scores": {**run["scores"]}} for run in result["runs"]]
    for run in result["runs"]:
        run["scores"] |= {"mig": 0.5, "factor-vae": 0.5, "sap": 0.25 * run["seed"]}
    lines = bench_of.table(result | {"environment": bench("_harness").environment()})
    assert any(line.startswith("| beta-vae | fp32 | 0.500 ± 0.000 |") for line in lines)
    assert "| 0.125 ± 0.177 |" in lines[-2]


@pytest.mark.slow
def test_throughput_is_measured_behind_a_gate(bench, monkeypatch, tmp_path):
    throughput = bench("throughput")
    monkeypatch.setattr(throughput, "WARM_UP", 1)
    monkeypatch.setattr(throughput, "has_native_bf16", lambda device: True)
    written = {}
    monkeypatch.setattr(
        throughput, "write_result", lambda *args: written.update({args[0]: args[1]}) or "there"
    )
    command = ["--seconds", "0.05", "--threads", "1", "--preset", "smoke", "--gate-steps", "5"]
    assert throughput.main(["--systems", "beta-vae", *command, "--trace", str(tmp_path)]) == 0
    timed = {"p20": 1.0, "p50": 1.0, "p80": 1.0, "calls": 1}
    monkeypatch.setattr(
        throughput, "timed_in_turns", lambda which, *_: {key: {**timed} for key in which}
    )
    row = written["throughput"]["systems"]["beta-vae"]
    assert row["gate"]["error"] <= 1e-9  # in double precision: one and the same training
    assert row["seconds"].keys() == {"plain", "pydisent", "pydisent bf16"}
    assert "descent" in row["profile"]["milliseconds_by_stage"]
    assert sum(row["profile"]["share_by_operation"].values()) < 1
    assert (tmp_path / "beta-vae.json").stat().st_size > 1000
    shown = written["throughput"] | {"environment": throughput.environment()}
    (line,) = [t for t in throughput.table(shown) if t.startswith("| beta-vae")]
    assert "8 of sprites, 16 px" in line
    real = throughput.plain_loop

    def wrong(system):
        step = real(system)
        return lambda *batch: {name: loss * 1.0001 for name, loss in step(*batch).items()}

    monkeypatch.setattr(throughput, "plain_loop", wrong)
    assert throughput.main(["--systems", "beta-vae", *command]) == 1
    assert "pydisent" not in written["throughput"]["systems"]["beta-vae"]["seconds"]


def test_overhead_is_that_of_every_op_and_told_where_it_is_too_much(bench, monkeypatch):
    overhead = bench("overhead")
    ticks = iter(range(10**9))
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: next(ticks))
    result = overhead.measured(rounds=2)  # each burst takes as long by this clock
    assert result["ops"].keys() == set(overhead.public_ops())
    for name, row in result["ops"].items():
        if not name.endswith("_"):  # which writes in place, and has no gradient
            assert row["both_same_inputs"] == {"of_fastest": 1.0, "median": 1.0}, name
    assert overhead.over(result) == []
    row = result["ops"]["cumax"]
    row["forward"]["of_fastest"], row["both"]["of_fastest"] = 2.5, 1.51
    assert overhead.over(result) == ["cumax both: 1.51"]
    assert sum(line.startswith("minimal, ") for line in overhead.table(result)) == 4


def test_regularizers_are_timed_behind_a_gate(bench, monkeypatch, capsys):
    regularizers = bench("regularizers")
    monkeypatch.setattr(torch, "set_flush_denormal", lambda mode: None)  # it would stay
    monkeypatch.setattr(regularizers, "peak", lambda *case, **sizes: 1.0)
    written = {}
    monkeypatch.setattr(
        regularizers, "write_result", lambda *args: written.update({args[0]: args[1]}) or "there"
    )
    command = ["regularizers.py", "--smallest", "--m", "4", "5", "--rounds", "1"]
    monkeypatch.setattr("sys.argv", command)
    assert regularizers.main() == 0
    found = written["regularizers"]["regularizers"]
    assert found.keys() == regularizers.REGULARIZERS.keys()
    assert [case["m"] for case in found[regularizers.ORTHOGONAL]] == [4, 5]
    for name, by_size in found.items():
        for way, row in by_size[0]["ways"].items():
            assert row["updates"] > 0, (name, way)
            exact = way != regularizers.PUBLISHED or name == "path length"
            assert not exact or max(row["value_error"], row["gradient_error"]) < 1e-3, (name, way)
    ways = found["orthogonal Jacobian, 2 directions"][0]["ways"]
    ours, theirs = (
        ways[way]["directional_error"] for way in (regularizers.OURS, regularizers.PUBLISHED)
    )
    assert theirs > 100 * ours  # no step to choose
    lines = regularizers.table(
        written["regularizers"] | {"environment": regularizers.environment()}
    )
    assert any(line.startswith("| path length | 4 | `autograd.grad` | ") for line in lines)

    def wrong(generator, z, given):
        return 1.01 * regularizers.REGULARIZERS["path length"].reference(generator, z, given)

    changed = dataclasses.replace(
        regularizers.REGULARIZERS["path length"],
        ways={regularizers.PUBLISHED: wrong},
    )
    monkeypatch.setitem(regularizers.REGULARIZERS, "path length", changed)
    case = regularizers.measured(
        "path length", 4, 1, "cpu", {regularizers.PUBLISHED}, **regularizers.SMALLEST
    )
    assert "p50" not in case["ways"][regularizers.PUBLISHED]
    own = ["--peak", "log-determinant", "--way", regularizers.OURS, "--smallest", "--m", "4"]
    monkeypatch.setattr("sys.argv", ["regularizers.py", *own])
    capsys.readouterr()
    assert regularizers.main() == 0
    assert float(capsys.readouterr().out) >= 0


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_help_runs_and_writes_nothing(bench, monkeypatch, capsys, path):
    """Two programs read no options: one rewrote the README when asked for help."""
    program = bench(path.stem)
    monkeypatch.setattr("sys.argv", [path.name, "--help"])
    monkeypatch.setattr(Path, "write_text", lambda *_: pytest.fail("a file was written"))
    with pytest.raises(SystemExit) as stopped:
        program.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")
