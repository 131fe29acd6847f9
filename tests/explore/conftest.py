import io
import os
import queue
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Fake runs, and the helper modules beside this file, are imported by name.
sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
sys.path.insert(0, str(Path(__file__).parent))
from _browser import CHROMIUM, SECONDS
from _explore_client import ORIGIN, client_of
from _fake_runs import fake_run, tpl_scores

from pydisent.explore import serve


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path):
    """A run whose images are affine in the code: J is the same everywhere."""
    return fake_run(tmp_path / "a-run")


@pytest.fixture
def picture():
    """Pixels (16, 20, 3) and the bytes of a PNG of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return pixels, data.getvalue()


@pytest.fixture
def client(run):
    with client_of(run, **ORIGIN) as found:
        yield found


@pytest.fixture
def masked(tmp_path):
    """Two runs, the first with masks."""
    first = fake_run(tmp_path / "masked", masks=True)
    with client_of(first, fake_run(tmp_path / "plain"), **ORIGIN) as found:
        yield found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    shape = (3, 16, 16)
    return [
        fake_run(
            folder / "masked",
            masks=True,
            image_shape=shape,
            scores=tpl_scores(0.1, 0.4, 0.2, 0.3),
        ),
        fake_run(folder / "plain", scales=(0.2, 0.4, 0.6, 0.8), image_shape=shape),
    ]


@pytest.fixture(scope="module")
def address(runs):
    """Serve the runs in a thread until the tests are over."""
    import uvicorn

    addresses, servers, start = queue.Queue(), queue.Queue(), uvicorn.Server.run
    patched = pytest.MonkeyPatch()
    patched.setattr(uvicorn.Server, "run", lambda s, **how: (servers.put(s), start(s, **how)))
    thread = threading.Thread(
        target=serve, args=(runs,), kwargs={"browser": False, "announce": addresses.put}
    )
    thread.start()
    yield addresses.get(timeout=SECONDS)
    servers.get(timeout=SECONDS).should_exit = True
    thread.join(SECONDS)
    patched.undo()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox; containers have little shared memory.
        args = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield found
        found.close()


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(1000 * SECONDS)
    found, said = context.new_page(), []
    found.on("pageerror", lambda error: said.append(str(error)))
    found.on("console", lambda message: said.append(message.text) if message.type == "error" else 0)
    found.goto(address)
    found.wait_for_selector("#figures canvas[data-frame]")
    found.wait_for_selector("#eigen[data-analysed]")
    found.said = said
    yield found
    context.close()
    assert not [text for text in said if "status of 4" not in text]  # what a test provokes
