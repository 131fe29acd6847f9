"""Serving the page to this machine."""

import contextlib
import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence

from pydisent._checks import check_integer
from pydisent._extras import optional
from pydisent.explore._app import build_app
from pydisent.explore._live import LONGEST_MESSAGE
from pydisent.explore._models import models_of
from pydisent.training.run import Run

with optional("pydisent explore"):
    import uvicorn
    import websockets  # noqa: F401  (uvicorn refuses every socket without it)

ADDRESS = "127.0.0.1"


def serve(
    runs: Sequence[Run],
    *,
    port: int = 0,
    browser: bool = True,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page of one or two runs to this machine, until interrupted.

    Parameters
    ----------
    runs : sequence of Run
        One, or two with codes of one size.
    port : int
        Port on 127.0.0.1; 0 for a free one.
    browser : bool
        Whether to open the page in a graphical browser, if there is one.
    announce : callable
        Called with the address, which has a new secret each time.

    Raises
    ------
    ValueError
        If the runs are not compatible, or the port is not free.
    """
    check_integer("port", port, at_least=0, at_most=2**16 - 1)
    models = models_of(runs)
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(16)
        app = build_app(models, token, [f"{ADDRESS}:{port}", f"localhost:{port}"])
        address = f"http://{ADDRESS}:{port}/{token}/"
        announce(address)
        if browser:
            _open(address)
        config = uvicorn.Config(
            app,
            http="h11",
            ws="websockets-sansio",
            ws_max_size=LONGEST_MESSAGE,
            lifespan="off",
            log_level="warning",
            access_log=False,  # it would print the secret
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        raise ValueError(f"port must be free, got {port}: {error.strerror}") from None


def _open(address: str) -> None:
    """Open the page, unless the browser is text-based, which would take over the terminal."""
    with contextlib.suppress(webbrowser.Error):
        found = webbrowser.get()
        if type(found) is not webbrowser.GenericBrowser:
            found.open(address)
