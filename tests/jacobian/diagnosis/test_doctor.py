"""``doctor``: its arguments, and the forms of what it returns."""

import json

import pytest
import torch

import pydisent
from pydisent import doctor
from pydisent.jacobian.diagnosis import Diagnosis, Verdict, catalogue


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((3, torch.ones(2, 3)), "fn must be callable, got int"),
        ((torch.sin, torch.ones(2, 3).long()), "z must be a floating-point tensor"),
        ((torch.sin, torch.full((2, 3), torch.nan)), "z must be finite, got NaN or infinity"),
        ((torch.sin, torch.ones(3)), r"z must have shape \(B, m\)"),
        ((lambda z: torch.ones(2), torch.ones(2, 3)), "fn must depend on z"),
    ],
)
def test_bad_arguments(arguments, named):
    with pytest.raises((TypeError, ValueError), match=named):
        doctor(*arguments)
    with pytest.raises(ValueError, match=r"names must be among layer_norm, .* got norm_layer"):
        catalogue(["norm_layer"])


def test_the_forms_of_a_diagnosis():
    found = catalogue(["linear", "glu", "logcumsumexp"])
    assert isinstance(found, Diagnosis)
    said = json.loads(found.to_json())
    assert [row["operation"] for row in said["rows"]] == ["linear", "glu", "logcumsumexp"]
    assert said["rows"][0]["native"].keys() == Diagnosis.KINDS.keys()
    lines = str(found).splitlines()
    assert lines[0].split()[:2] == ["operation", "calls"]
    assert lines[2].startswith("linear")
    assert sum(found.by_outcome().values()) == 3
    page = found._repr_html_()
    assert page.count("<tr") == 4
    assert "∇‖Jq‖²" in page
    assert str(Verdict("wrong", float("nan"))) == "NaN"
    assert str(Verdict("wrong", 0.123)) == "1.2e-01"


def test_the_package_offers_it():
    assert pydisent.doctor is doctor
    assert {"doctor", "Diagnosis", "correct_derivatives"} <= set(pydisent.__all__)
