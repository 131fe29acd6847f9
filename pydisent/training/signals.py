"""Deferred signals."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Training stopped on signal `signum`, after saving."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} at step {step}; saved")
        self.signum = signum


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP; a second SIGINT or SIGTERM has its usual effect.

    A closing terminal may send SIGHUP several times; under nohup it stays ignored.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    usual: dict[int, Any] = {}

    def receive(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, usual[signum])

    watched = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    for each in watched:
        usual[each] = signal.signal(each, receive)
    try:
        yield received
    finally:
        for signum, handler in usual.items():
            signal.signal(signum, handler)
