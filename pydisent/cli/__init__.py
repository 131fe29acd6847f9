"""The command line: train, sweep, evaluate, compare, select, traverse, report, ..."""

from pydisent.cli._main import main

__all__ = ["main"]
