from _command_line import error_line

from pydisent.cli import main
from pydisent.training import open_run


def written(capsys):
    return [line.removeprefix("wrote ") for line in capsys.readouterr().out.split("\n") if line]


def test_traverse_draws_masks_where_there_are_any(digits_run, masked_run, tmp_path, capsys):
    for path, masks in ((digits_run, False), (masked_run, True)):
        out = tmp_path / path.name
        assert main(["traverse", str(path), "--out", str(out)]) == 0
        names = {"traversals.png", "traversals-bases.png", "traversals.gif"}
        assert {p.name for p in out.iterdir()} == names | ({"masks.png"} if masks else set())
        assert len(written(capsys)) == 3 + masks
    assert main(["traverse", str(masked_run), "--sort", "code", "--out", str(tmp_path / "c")]) == 0
    by_code = (tmp_path / "c" / "traversals.gif").read_bytes()
    assert by_code != (tmp_path / "ps-sc" / "traversals.gif").read_bytes()
    assert main(["traverse", str(masked_run), "--sort", "size"]) == 2


def test_transfer(masked_run, tmp_path, capsys):
    command = ["transfer", str(masked_run), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    lengths = open_run(masked_run).scores["tpl"]["details"]["per_dimension"]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:3]
    expected = [str(tmp_path / "out" / f"transfer-z{i + 1}.png") for i in longest]
    assert written(capsys) == expected
    assert main([*command, "--from", "data", "--codes", "z1,z2", "--codes", "z3"]) == 0
    assert [p.rsplit("/")[-1] for p in written(capsys)] == [
        "transfer-z1-z2.png",
        "transfer-z3.png",
    ]
    assert main([*command, "--codes", "z99"]) == 2
    assert "got 'z99'" in error_line(capsys)


def test_rotate(masked_run, tmp_path, capsys, monkeypatch):
    asked = []

    def distance(decode, code, dimensions, angles, *, distance):
        asked.append(dimensions)
        return [1.0] * len(angles)

    monkeypatch.setattr("pydisent.reports.rotation.accumulated_distance", distance)
    command = ["rotate", str(masked_run), "--out", str(tmp_path)]
    assert main([*command, "--codes", "z2,z1"]) == 0
    assert asked == [(1, 0)]
    assert (tmp_path / "rotation-z2-z1.png").is_file()
    assert main([*command, "--codes", "z2"]) == 2
    assert "must be two different ones" in error_line(capsys)
