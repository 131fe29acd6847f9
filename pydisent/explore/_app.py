"""The page's server: static files, one socket, and one-off requests."""

import asyncio
import base64
import functools
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pydisent._checks import check_number, check_one_of
from pydisent._extras import optional
from pydisent.evaluation.codes import prior_codes
from pydisent.explore._guard import Guard
from pydisent.explore._live import LONGEST_MESSAGE, Session
from pydisent.explore._models import Model
from pydisent.explore._requests import choice_of, code_of, codes_of, integer_of, names_of, parsed
from pydisent.reports.codes import animate_codes, draw_codes

with optional("pydisent explore"):
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket

UPLOAD_BYTES = 2**24
_STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/explore.css": ("explore.css", "text/css; charset=utf-8"),
    "/explore.js": ("explore.js", "text/javascript; charset=utf-8"),
}
_MOST_STEPS, _LONGEST_STEP = 50, 10.0
_log = logging.getLogger(__name__)


class TooLargeError(ValueError):
    """The body of a request exceeds the size limit."""


class Explorer:
    """Answers the page's one-off requests, in one thread; frames have another.

    Parameters
    ----------
    models : list of Model
        One, or two with codes of one size.
    """

    def __init__(self, models: list[Model]) -> None:
        self.models = models
        self.frames, self.others = (
            ThreadPoolExecutor(1, thread_name_prefix=f"explore-{name}")
            for name in ("frames", "others")
        )
        self._strengths: list[dict[str, Any]] | None = None

    def about(self) -> dict[str, Any]:
        """Return what the page needs at start."""
        return {"models": [model.about() for model in self.models], "upload": UPLOAD_BYTES}

    def strengths(self) -> list[dict[str, Any]]:
        """Return the strengths of each model's coordinates, measured on the first call."""
        if self._strengths is None:
            self._strengths = [model.strengths() for model in self.models]
        return self._strengths

    def sample(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return a code drawn from a model's prior."""
        code = prior_codes(self._model(asked).system, 1, secrets.randbelow(2**32))[0]
        return {"code": code.tolist()}

    def pictures(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return each model's images of codes."""
        codes = codes_of(asked.get("codes"), self.models[0].size)
        made = [model.pictures(codes) for model in self.models]
        return {"pictures": [[_packed(each) for each in images] for images in made]}

    def walk(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the codes along an eigenpath."""
        model, size = self._model(asked), self.models[0].size
        length, direction = asked.get("length"), asked.get("direction")
        check_number("length", length, above=0, at_most=_LONGEST_STEP)
        check_one_of("sense", asked.get("sense"), ("forwards", "backwards"))
        codes, along = model.walk(
            code_of(asked.get("code"), size),
            integer_of(asked, "ordinal", 1, size),
            forwards=asked["sense"] == "forwards",
            length=float(length),  # type: ignore[arg-type]
            steps=integer_of(asked, "steps", 1, _MOST_STEPS),
            direction=None if direction is None else code_of(direction, size, "direction"),
        )
        return {"codes": codes.tolist(), "direction": along.tolist()}

    def image(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the code of an image from the data set."""
        index, code, picture = self._model(asked).encode_image(asked.get("index"))
        return {"index": index, "code": code.tolist(), "picture": _packed(picture)}

    def encode(self, number: str | None, stored: bytes) -> dict[str, Any]:
        """Return the code of an uploaded picture, by a model."""
        model = self._model({"model": int(number) if number and number.isdecimal() else number})
        code, picture = model.encode_stored(stored)
        return {"code": code.tolist(), "picture": _packed(picture)}

    def png(self, asked: dict[str, Any]) -> bytes:
        """Return a picture of codes."""
        codes = codes_of(asked.get("codes"), self.models[0].size)
        return draw_codes(self._drawn(asked), codes, names_of(asked.get("names"), len(codes)))

    def gif(self, asked: dict[str, Any]) -> bytes:
        """Return an animation of codes."""
        codes = codes_of(asked.get("codes"), self.models[0].size)
        (title,) = names_of([asked.get("title")], 1)
        names = names_of(asked.get("names"), len(codes))
        return animate_codes(self._drawn(asked), codes, names, title)

    def _model(self, asked: dict[str, Any]) -> Model:
        return self.models[choice_of(asked, "model", self.models)]

    def _drawn(self, asked: dict[str, Any]) -> list[Any]:
        """Return all runs, or the requested one if their images differ in shape."""
        runs = [model.run for model in self.models]
        shapes = {tuple(run.system.image_shape) for run in runs}
        return runs if len(shapes) == 1 else [self._model(asked).run]


def build_app(models: list[Model], token: str, hosts: Sequence[str]) -> ASGIApp:
    """Return the application that serves the page of some models.

    Parameters
    ----------
    models : list of Model
        One, or two with codes of one size.
    token : str
        The first part of every path.
    hosts : sequence of str
        The accepted values of the Host header, such as "127.0.0.1:8000".
    """
    explorer = Explorer(models)

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await Session(socket, models, explorer.frames, explorer.others).run()

    once = functools.partial(_once, explorer)
    routes = [
        *(Route(path, _file(*about)) for path, about in _FILES.items()),
        Route("/about", once(lambda body, request: explorer.about())),
        Route("/strengths", once(lambda body, request: explorer.strengths())),
        Route(
            "/encode",
            once(lambda body, request: explorer.encode(request.query_params.get("model"), body)),
            methods=["POST"],
        ),
        *(
            Route(f"/{name}", once(_of_json(getattr(explorer, name))), methods=["POST"])
            for name in ("sample", "pictures", "walk", "image", "png", "gif")
        ),
        WebSocketRoute("/live", live),
    ]
    return Guard(Starlette(routes=routes), token, hosts)


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that serves a file of the package, read now: no request names a path."""
    data = (_STATIC / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(data, media_type=kind)

    return answer


def _of_json(answer: Callable[[dict[str, Any]], Any]) -> Callable[[bytes, Request], Any]:
    return lambda body, request: answer(parsed(body))


def _once(
    explorer: Explorer, answer: Callable[[bytes, Request], Any]
) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that answers with bytes or JSON, computed in the explorer's thread."""

    async def respond(request: Request) -> Response:
        try:
            most = UPLOAD_BYTES if request.url.path == "/encode" else LONGEST_MESSAGE
            body = await _body(request, most)
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(explorer.others, answer, body, request)
        except ClientDisconnect:
            return Response(status_code=400)
        except TooLargeError as error:
            return JSONResponse({"error": str(error)}, 413)
        except (OSError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except Exception as error:  # such as running out of memory
            _log.exception("%s failed", request.url.path)
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 500)
        return Response(made) if isinstance(made, bytes) else JSONResponse(made)

    return respond


async def _body(request: Request, most: int) -> bytes:
    """Return the body, reading no more than `most` bytes and one chunk."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise TooLargeError(f"the body must be at most {most} bytes, got more")
    return bytes(body)


def _packed(picture: np.ndarray) -> dict[str, Any]:
    """Return a picture (H, W, 4) as JSON data."""
    height, width, _ = picture.shape
    return {
        "height": height,
        "width": width,
        "pixels": base64.b64encode(picture.tobytes()).decode(),
    }
