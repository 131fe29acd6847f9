"""The suite that times every op: its gate, its time, and its tables."""

import json

import pytest


def test_no_time_is_told_of_what_fails_its_gate(bench, monkeypatch, tmp_path, capsys):
    run = bench("run")
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "none"]
    command += ["--ops", "gaussian_kl", "band_gate", "--results", str(tmp_path)]
    real = run.contenders

    def wrong(name, options):
        found = real(name, options)
        if name == "gaussian_kl":
            right = found["pydisent"]
            found["pydisent"] = lambda *args: 1.1 * right(*args)
        return found

    monkeypatch.setattr(run, "contenders", wrong)
    assert run.main(command) == 1
    told = capsys.readouterr()
    assert "RED: gaussian_kl gaussian_kl" in told.err
    (path,) = tmp_path.glob("*/cpu_suite.json")
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 4
    for row in rows:
        assert ("seconds" in row) == (row["op"] == "band_gate")
        assert row["gate"]["reference"]["passes"]
    good = next(row for row in rows if row["op"] == "band_gate")
    assert good["seconds"]["both"].keys() == {"pydisent", "reference"}
    assert 0 < good["work"]["both"]["share"] < 1


def test_a_suite_out_of_time_names_what_it_left_out(bench, tmp_path, capsys):
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "none"]
    assert bench("run").main([*command, "--limit", "0", "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/cpu_suite.json")
    assert len(json.loads(path.read_text())["left_out"]) == 2 * len(bench("_work").OPS)
    assert "left out: the time was up" in capsys.readouterr().out


@pytest.fixture
def measured(bench, tmp_path, monkeypatch):
    """Results of a suite of two ops, in a folder that stands for the committed one."""
    readme = bench("readme")
    command = ["--suite", "cpu", "--size", "tiny", "--seconds", "0.001", "--backend", "eager"]
    command += ["--ops", "gaussian_kl", "activation_tangent_", "--results", str(tmp_path)]
    assert bench("run").main(command) == 0
    (path,) = tmp_path.glob("*/cpu_suite.json")
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    return readme, path


def test_the_suite_has_a_row_an_op_and_a_picture(measured, bench, tmp_path):
    readme, path = measured
    suite, result = bench("_suite"), json.loads(path.read_text())
    lines = suite.table(result)
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["gaussian_kl", "activation_tangent_"]
    assert all(row.count("×)") == 2 and row.count(" %") == 2 for row in rows)
    assert "\n".join(lines).strip() in readme.measured()
    suite.draw_roofline(result, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").stat().st_size > 5000
    del result["rows"][0]["seconds"]  # of gaussian_kl in fp32
    lines = suite.table(result)
    assert any("`gaussian_kl`" in line and "not measured" in line for line in lines)
    result["rows"][0]["torchs_own"] = True
    assert any("`gaussian_kl`" in line and "torch's own" in line for line in suite.table(result))


def test_what_no_gpu_has_measured_is_told(measured):
    readme, path = measured
    result = json.loads(path.read_text())
    told = readme.coverage_lines()[0]
    assert "has not run on a GPU yet" in told
    assert "`gaussian_kl`" in told
    path.unlink()
    result["environment"]["gpu"] = "NVIDIA Some"
    for device in ("cpu", "cuda"):
        changed = json.dumps(result | {"device": device})
        path.with_name("gpu_suite.json").write_text(changed)
        told = readme.coverage_lines()[0]
        assert told.startswith("Measured on: NVIDIA Some.")
        assert ("`gaussian_kl`" in told) == (device == "cpu")
        assert "`cumax`" in told
