"""Signals that are noted instead of obeyed at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying; a second one has its usual effect."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    usual: dict[int, Any] = {}

    def receive(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signum, usual[signum])

    for watched in (signal.SIGINT, signal.SIGTERM):
        usual[watched] = signal.signal(watched, receive)
    try:
        yield received
    finally:
        for signum, handler in usual.items():
            signal.signal(signum, handler)
