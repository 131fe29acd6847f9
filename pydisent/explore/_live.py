"""The page's socket: frames and eigenvectors of the newest code only."""

import asyncio
import struct
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from pydisent._checks import check_one_of
from pydisent._extras import optional
from pydisent.explore._models import Model
from pydisent.explore._requests import choice_of, code_of, integer_of, parsed

with optional("pydisent explore"):
    from starlette.websockets import WebSocket, WebSocketDisconnect

# Request number, model, kind, height and width, and two padding bytes to align the pixels.
HEADER = struct.Struct("<IBBHHH")
LONGEST_MESSAGE = 2**20  # bytes
Answer = list[bytes | dict[str, Any]]


class Newest:
    """A queue of length one: a newer job replaces one that has not started."""

    def __init__(self) -> None:
        self._job: Callable[[], Answer] | None = None
        self._put = asyncio.Event()

    def put(self, job: Callable[[], Answer]) -> None:
        """Enqueue a job in place of the waiting one."""
        self._job = job
        self._put.set()

    async def take(self) -> Callable[[], Answer]:
        """Wait for a job and return the newest."""
        await self._put.wait()
        self._put.clear()
        job, self._job = self._job, None
        assert job is not None
        return job


class Session:
    """One open page.

    The page sends JSON: `{"type": "show", "id": n, "code": [...], "mask": i or null}`, answered
    by one binary message per frame, `HEADER` followed by pixels; and `{"type": "analyse", "id": n,
    "code": [...], "model": i}`, answered by JSON of type "analysis". On failure the answer is JSON
    of type "error", with the type of the request, if it was valid, in "of".

    Parameters
    ----------
    socket : WebSocket
        An accepted socket.
    models : list of Model
        The models shown.
    frames, others : Executor
        The threads for frames, and for everything else.
    """

    def __init__(
        self, socket: WebSocket, models: list[Model], frames: Executor, others: Executor
    ) -> None:
        self._socket, self._models = socket, models
        self._show, self._analyse = Newest(), Newest()
        self._workers = (("show", self._show, frames), ("analyse", self._analyse, others))

    async def run(self) -> None:
        """Answer until the page is closed."""
        tasks = [asyncio.create_task(self._answer(*each)) for each in self._workers]
        try:
            while True:
                await self._receive()
        except WebSocketDisconnect:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self) -> None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        try:
            if message.get("text") is None:
                raise ValueError("the message must be text, got bytes")
            self._take(parsed(message["text"]))
        except (TypeError, ValueError) as error:
            await self._socket.send_json({"type": "error", "message": str(error)})

    def _take(self, asked: dict[str, Any]) -> None:
        """Enqueue a request."""
        kind = asked.get("type")
        check_one_of("type", kind, ("show", "analyse"))
        number = integer_of(asked, "id", 0, 2**32 - 1)
        code = code_of(asked.get("code"), self._models[0].size)
        if kind == "analyse":
            model = self._models[choice_of(asked, "model", self._models)]
            about = {"type": "analysis", "id": number, "model": asked["model"]}
            self._analyse.put(lambda: [about | model.analysis(code)])
            return
        names, wants = self._models[0].names, asked.get("mask") is not None
        mask = choice_of(asked, "mask", names) if wants else None
        self._show.put(lambda: _frames(self._models, number, code, mask))

    async def _answer(self, kind: str, newest: Newest, worker: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = await newest.take()
            try:
                answer = await loop.run_in_executor(worker, job)
            except Exception as error:  # such as a non-finite Jacobian, or no memory
                reason = str(error) or type(error).__name__
                answer = [{"type": "error", "of": kind, "message": reason}]
            for part in answer:
                if isinstance(part, bytes):
                    await self._socket.send_bytes(part)
                else:
                    await self._socket.send_json(part)


def _frames(models: list[Model], number: int, code: Any, mask: int | None) -> Answer:
    frames: Answer = []
    for i, model in enumerate(models):
        for kind, pixels in model.frames(code, mask):
            frames.append(HEADER.pack(number, i, kind, *pixels.shape[:2], 0) + pixels.tobytes())
    return frames
