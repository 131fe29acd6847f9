"""Processes of the command line that begin where torch has been imported."""

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# Only the first process of a server imports; the rest are its copies.
_CONTEXT.set_forkserver_preload(["pydisent.cli", "pydisent.training.loop", "torch._dynamo"])


def _main(arguments, folder):
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT), number)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from pydisent.cli import main

    sys.argv = ["pydisent", *arguments]
    sys.exit(main(arguments))


class Process:
    """What `subprocess.Popen` is, of ``python -m pydisent`` with the arguments."""

    def __init__(self, *arguments):
        self._folder = tempfile.TemporaryDirectory()
        self._process = _CONTEXT.Process(target=_main, args=(arguments, self._folder.name))
        self._process.start()
        self.send_signal = lambda signum: os.kill(self._process.pid, signum)
        self.kill = self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def communicate(self, timeout=None):
        self._process.join(timeout)
        assert self.returncode is not None, f"still at work after {timeout} seconds"
        return [Path(self._folder.name, name).read_text() for name in ("output", "errors")]
