"""A client of the server without a socket, and what it asks and reads."""

import base64
import struct

import numpy as np
from starlette.testclient import TestClient

from pydisent.explore import build_app, models_of

HOST, TOKEN = "127.0.0.1:8123", "secret"
ORIGIN = {"origin": f"http://{HOST}"}
CODE = [0.3, -1.0, 2.0, 0.5]


def client_of(*runs, **headers):
    app = build_app(models_of(runs), TOKEN, [HOST, "localhost:8123"])
    return TestClient(app, base_url=f"http://{HOST}", headers=headers)


def ask(client, path, **body):
    return client.post(f"/{TOKEN}/{path}", json=body)


def pixels_of(packed):
    data = np.frombuffer(base64.b64decode(packed["pixels"]), np.uint8)
    return data.reshape(packed["height"], packed["width"], 4)


def frame(data):
    number, model, kind, height, width, _ = struct.unpack_from("<IBBHHH", data)
    pixels = np.frombuffer(data, np.uint8, offset=12).reshape(height, width, 4)
    return number, model, kind, pixels


def live(client):
    return client.websocket_connect(f"ws://{HOST}/{TOKEN}/live")
