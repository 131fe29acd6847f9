"""Arguments and functions that are refused: the error names what is wrong."""

import numpy as np
import pytest
import torch
from _small_generator import METHODS, draw_codes

import pydisent

_BAD = [
    ("k", {"k": 6}),
    ("k", {"k": 0}),
    ("k", {"k": 2.0}),
    ("k", {"k": True}),
    ("iterations", {"iterations": 0}),
    ("iterations", {"iterations": 1.5}),
    ("tolerance", {"tolerance": 1.0}),
    ("tolerance", {"tolerance": -0.1}),
    ("tolerance", {"tolerance": float("nan")}),
    ("method", {"method": "magic"}),
    ("probe", {"probe": torch.ones(3, 5, 3)}),
    ("probe", {"probe": torch.ones(5, 2)}),
    ("probe", {"probe": [1.0]}),
    ("chunk", {"chunk": 0}),
    ("compute_dtype", {"compute_dtype": torch.int8}),
]


@pytest.mark.parametrize(("name", "given"), _BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(_BAD)])
def test_bad_options_are_named(name, given):
    called = []

    def fn(z):
        called.append(1)
        return z

    with pytest.raises((ValueError, TypeError), match=name):
        pydisent.alignment_penalty(fn, draw_codes(), **{"k": 2, "iterations": 2, **given})
    assert not called, "an error must come before any work"


_OF_A_MODULE = [(n, g) for n, g in _BAD if n != "probe" and g != {"k": 6}]  # 6 of 5: with z only


@pytest.mark.parametrize(("name", "given"), _OF_A_MODULE, ids=[f"{g}" for _, g in _OF_A_MODULE])
def test_a_module_names_bad_options_when_it_is_made(name, given):
    with pytest.raises((ValueError, TypeError), match=name):
        pydisent.AlignmentPenalty(**{"k": 2, "iterations": 2, **given})


@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(0, 5),
        torch.zeros(3, 0),
        torch.ones(3, 5, dtype=torch.long),
        torch.ones(3, 5, dtype=torch.complex64),
        torch.ones(5),
        torch.ones(3, 5, 0),
        torch.eye(3).to_sparse(),
        torch.ones(3, 5).to(torch.float8_e5m2),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(2)]),
        torch.ones(3, 5, device="meta"),
        [[0.0] * 5],
    ],
    ids=[
        "empty batch",
        "empty code",
        "integer",
        "complex",
        "1-d",
        "3-d and empty",
        "sparse",
        "8 bits",
        "nested",
        "meta",
        "list",
    ],
)
def test_bad_latent_codes_are_named(z):
    with pytest.raises((ValueError, TypeError), match=r"\bz\b"):
        pydisent.alignment_penalty(lambda z: z, z, k=1, iterations=1)
    with pytest.raises((ValueError, TypeError), match=r"\bz\b"):
        pydisent.linearize(lambda z: z, z)


_BAD_FUNCTIONS = {
    "nan": lambda z: z * float("nan"),
    "inf": lambda z: z / 0.0,
    "constant": lambda z: torch.ones(len(z), 3),
    "detached": lambda z: z.detach() * 2,
    "no batch": lambda z: z.sum(0),
    "scalar": lambda z: z.sum(),
    "integer": lambda z: z.long(),
    "none": lambda z: None,
    "numpy": lambda z: z.detach().numpy(),
    "empty list": lambda z: [],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", _BAD_FUNCTIONS)
@pytest.mark.filterwarnings("ignore:.*cannot be traced.*")
def test_bad_functions_are_named(kind, method):
    with pytest.raises((ValueError, TypeError), match="fn"):
        pydisent.alignment_penalty(
            _BAD_FUNCTIONS[kind], draw_codes(), k=2, iterations=2, method=method
        )


_TANGENTS = {
    r"\(K, 3, 5\), got \(2, 5\)": torch.ones(2, 5),
    "got torch.complex128": torch.ones(2, 3, 5, dtype=torch.complex128),
    "got ndarray": np.ones((2, 3, 5)),
}


@pytest.mark.parametrize("message", _TANGENTS)
def test_bad_tangents_are_named(message):
    linear = pydisent.linearize(lambda z: z.sin(), draw_codes())
    for product in (linear.jvp, linear.gram_product):
        with pytest.raises((TypeError, ValueError), match=f"tangents must .*{message}"):
            product(_TANGENTS[message])


_COTANGENTS = {
    r"shapes .*got \[\(2, 5\)\]": torch.ones(2, 5),
    r"the same K .*\(2, 3, 5\), \(4, 3, 2\)": [torch.ones(2, 3, 5), torch.ones(4, 3, 2)],
    "real tensors, got dtype torch.complex64": [torch.ones(2, 3, 5), torch.ones(2, 3, 2) * 1j],
}


@pytest.mark.parametrize("message", _COTANGENTS)
def test_bad_cotangents_are_named(message):
    linear = pydisent.linearize(lambda z: [z.sin(), z[:, :2]], draw_codes())
    with pytest.raises((TypeError, ValueError), match=f"cotangents must .*{message}"):
        linear.vjp(_COTANGENTS[message])


class _Unhashable(dict):
    def __call__(self, z):
        return torch.vmap(torch.sin)(z)


class _Slotted:
    __slots__ = ()

    def __call__(self, z):
        return torch.vmap(torch.sin)(z)


@pytest.mark.parametrize("fn", [_Unhashable(), _Slotted()], ids=["unhashable", "slots"])
def test_any_callable_may_be_announced(fn):
    with pytest.warns(UserWarning, match=f"{type(fn).__name__} cannot be traced"):
        pydisent.linearize(fn, draw_codes())


def test_fn_must_be_callable():
    with pytest.raises(TypeError, match="fn"):
        pydisent.alignment_penalty(torch.ones(3, 3), draw_codes(), k=2, iterations=2)


def test_an_error_of_the_function_itself_comes_through():
    def fn(z):
        raise KeyError("theirs")

    for method in METHODS:
        with pytest.raises(KeyError, match="theirs"):
            pydisent.alignment_penalty(fn, draw_codes(), k=2, iterations=2, method=method)
