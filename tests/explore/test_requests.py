"""Bad requests and uploads are refused, and what is wrong is said."""

import json

import pytest
from _bad_uploads import BAD
from _explore_client import CODE, TOKEN, ask


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads_are_named(client, name):
    stored, reason = BAD[name]
    found = client.post(f"/{TOKEN}/encode?model=0", content=stored)
    assert found.status_code == 400
    assert reason in found.json()["error"]


def test_uploads_have_a_limit(client, monkeypatch):
    monkeypatch.setattr("pydisent.explore._app.UPLOAD_BYTES", 1000)
    found = client.post(f"/{TOKEN}/encode?model=0", content=bytes(1001))
    assert found.status_code == 413
    assert "at most 1000 bytes" in found.json()["error"]
    monkeypatch.setattr("pydisent.explore._app.LONGEST_MESSAGE", 10)
    assert ask(client, "sample", model=0, more="x" * 10).status_code == 413


GOOD = {"model": 0, "code": CODE, "ordinal": 1, "sense": "forwards", "length": 0.1, "steps": 1}


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("sample", b"", "the message must be JSON"),
        ("sample", b"[1]", "must be a JSON object, got list"),
        ("sample", b'{"model": NaN}', "numbers must be finite, got NaN"),
        ("sample", b"[" * 100_000, "must be JSON"),
        ("sample", b"\xff\xfe\xfa", "must be JSON"),
        ("sample", {"model": 1}, "model must be an integer in [0, 0], got 1"),
        ("sample", {"model": True}, "model must be an integer"),
        ("pictures", {"codes": []}, "codes must be from 1 to 240, got 0"),
        (
            "pictures",
            {"codes": [[10**400, *CODE[1:]]]},
            "must be of numbers in [-10000.0, 10000.0]",
        ),
        ("pictures", {"codes": [CODE] * 241}, "codes must be from 1 to 240, got 241"),
        ("pictures", {"codes": "all"}, "codes must be a list"),
        ("pictures", {"codes": [CODE, CODE[:3]]}, "codes[1] must be a list of 4 numbers, got 3"),
        ("pictures", {"codes": [[1, 2, 3, "4"]]}, "must be a list of numbers, got '4' among them"),
        ("pictures", {"codes": [[1, 2, 3, True]]}, "must be a list of numbers"),
        ("pictures", {"codes": [[1, 2, 3, 1e300]]}, "must be of numbers in [-10000.0, 10000.0]"),
        ("walk", GOOD | {"ordinal": 5}, "ordinal must be an integer in [1, 4], got 5"),
        ("walk", GOOD | {"sense": "up"}, "sense must be one of 'forwards', 'backwards', got 'up'"),
        ("walk", GOOD | {"length": 0}, "length must be a number in (0, 10.0], got 0"),
        ("walk", GOOD | {"steps": 51}, "steps must be an integer in [1, 50], got 51"),
        ("walk", GOOD | {"direction": [1]}, "direction must be a list of 4 numbers, got 1"),
        ("image", {"model": 0, "index": 40}, "index must be an integer in [0, 39], got 40"),
        ("image", {"model": 0, "index": "../x"}, "index must be an integer"),
        ("encode?model=7", b"", "model must be an integer in [0, 0], got 7"),
        ("encode", b"", "model must be an integer"),
        ("encode?model=../..", b"", "model must be an integer"),
        ("png", {"codes": [CODE], "names": []}, "names must be 1 texts, got 0"),
        ("gif", {"codes": [CODE], "names": ["a"], "title": 3}, "names must be a list of texts"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, path, body, reason):
    content = body if isinstance(body, bytes) else json.dumps(body)
    found = client.post(f"/{TOKEN}/{path}", content=content)
    assert found.status_code == 400
    assert reason in found.json()["error"]
