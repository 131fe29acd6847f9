import os
import queue
import signal
import threading
import urllib.request

from _command_line import error_line, train_smoke

from pydisent import explore
from pydisent.cli import main


def test_explore_opens_one_run_or_two(digits_run, monkeypatch):
    served = []

    def serve(runs, *, port, browser, announce):
        served.append(([run.path for run in runs], port, browser))

    monkeypatch.setattr(explore, "serve", serve)
    assert main(["explore", str(digits_run)]) == 0
    two = ["explore", str(digits_run), str(digits_run), "--port", "8080", "--no-browser"]
    assert main(two) == 0
    assert served == [([digits_run], 0, True), ([digits_run] * 2, 8080, False)]


def test_runs_that_do_not_fit_are_refused(digits_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)  # or it would not end
    options = ["--data", "digits", "--steps", "2", "--set", "latent_size=3"]
    assert train_smoke("--out", str(tmp_path / "vae"), *options, system="vae") == 0
    capsys.readouterr()
    assert main(["explore", str(digits_run), str(tmp_path / "vae"), "--no-browser"]) == 2
    assert "runs must have codes of one size" in error_line(capsys)


def test_it_serves_the_page_until_it_is_interrupted(digits_run, monkeypatch):
    printed, seen = queue.Queue(), []

    def visit():
        try:
            address = printed.get(timeout=60).split()[0]
            with urllib.request.urlopen(address, timeout=60) as page:
                seen.append(page.read())
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pydisent.cli._explore.say", printed.put)
    visitor = threading.Thread(target=visit)
    visitor.start()
    assert main(["explore", str(digits_run), "--no-browser"]) == 0
    visitor.join()
    assert b"pydisent explore" in seen[0]


def test_without_the_extra_it_says_what_to_install(digits_run, monkeypatch, capsys):
    def missing(*args, **options):
        raise ModuleNotFoundError("No module named 'starlette'", name="starlette")

    monkeypatch.setattr(explore, "serve", missing)
    assert main(["explore", str(digits_run)]) == 2
    assert "this needs the package starlette: pip install" in error_line(capsys)
