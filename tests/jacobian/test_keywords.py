"""Keywords that are neither pydisent's nor the function's."""

import functools
import inspect

import pytest
import torch
from torch import nn

import pydisent

Z = torch.randn(3, 4)


def plain(z):
    return z.sin()


class Network(nn.Module):
    def forward(self, z, *, scale=1.0):
        return scale * z.sin()


CALLS = {
    "alignment_penalty": functools.partial(pydisent.alignment_penalty, k=2, iterations=1),
    "AlignmentPenalty": pydisent.AlignmentPenalty(k=2, iterations=1),
    "linearize": pydisent.linearize,
    "directional_derivative": lambda fn, z, **keywords: pydisent.directional_derivative(
        fn, z, torch.ones_like(z), **keywords
    ),
    "doctor": pydisent.doctor,
    "eigenvector_heatmap": pydisent.eigenvector_heatmap,
    "gram_penalty": lambda fn, z, **keywords: pydisent.gram_penalty(
        fn, z, lambda gram: gram.sum((1, 2)), **keywords
    ),
    "hessian_penalty": pydisent.hessian_penalty,
    "second_directional_derivative": lambda fn, z, **keywords: (
        pydisent.second_directional_derivative(fn, z, torch.ones_like(z)[None], **keywords)
    ),
    "trace_eigenpath": functools.partial(pydisent.trace_eigenpath, steps=1),
}


def test_all_that_pass_keywords_on_are_tried():
    for name in pydisent.__all__:
        function = getattr(pydisent, name)
        if inspect.isfunction(function):
            parameters = inspect.signature(function).parameters
            passes = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            assert passes == (name in CALLS), name


def own_names(name):
    function = CALLS[name]
    function = getattr(pydisent, name) if name[0].islower() else type(function).forward
    kinds = (inspect.Parameter.KEYWORD_ONLY,)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind in kinds]


@pytest.mark.parametrize("fn", [plain, Network(), Network().forward, functools.partial(plain)])
@pytest.mark.parametrize("name", CALLS)
def test_a_mistyped_name_of_ours_is_named_with_the_nearest(name, fn):
    assert own_names(name)
    for right in own_names(name):
        if right in ("k", "iterations", "steps"):  # asked for before
            continue
        wrong = right[:-1] + right[-1] * 2
        message = f"got an unexpected keyword argument '{wrong}'.*did you mean '{right}'"
        with pytest.raises(TypeError, match=message):
            CALLS[name](fn, Z, **{wrong: 1})


@pytest.mark.parametrize("name", CALLS)
def test_what_the_function_takes_is_passed_on(name):
    CALLS[name](Network(), Z, scale=2.0)
    CALLS[name](lambda z, **keywords: keywords["tolerence"] * z, Z, tolerence=2.0)
    # What does not tell its arguments is asked by calling it.
    CALLS[name](torch.jit.script(plain), Z)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'positional'"):
        CALLS[name](lambda positional, /: positional.sin(), Z, positional=1)


def test_what_linearize_takes_reaches_it():
    def mixing(z):
        return (z - z.mean(0)).sin()

    for follow in (pydisent.eigenvector_heatmap, CALLS["trace_eigenpath"]):
        follow(mixing, Z, coupled="hold", compute_dtype=torch.float64)
        with pytest.raises(ValueError, match="mixes the samples"):
            follow(mixing, Z)


def test_an_option_of_the_module_is_for_its_constructor():
    with pytest.raises(TypeError, match=r"forward got an unexpected keyword argument 'tolerance'"):
        CALLS["AlignmentPenalty"](plain, Z, tolerance=0.1)
    with pytest.raises(TypeError, match="did you mean 'tolerance'"):
        CALLS["AlignmentPenalty"](plain, Z, tolerence=0.1)
