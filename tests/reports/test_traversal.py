import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from pydisent import reports


def decode(codes):
    """Pixel j of a 2 × 2 image is the sigmoid of code j."""
    return torch.sigmoid(codes).view(-1, 1, 2, 2)


BASES = torch.tensor([[0.1, 0.2, 0.3, 0.4], [-1.0, -2.0, -3.0, -4.0]])


def test_one_coordinate_varies_and_the_others_stay():
    found = reports.traverse(decode, BASES, coordinates=[2, 0], span=3.0, steps=5)
    assert found.images.shape == (2, 2, 5, 1, 2, 2)
    assert found.names == ("z3", "z1")
    assert found.labels == ("−3.0", "−1.5", "0", "+1.5", "+3.0")
    for row, coordinate in enumerate((2, 0)):
        for base in range(2):
            for value, at in enumerate((-3.0, -1.5, 0.0, 1.5, 3.0)):
                code = BASES[base].clone()
                code[coordinate] = at
                assert torch.equal(found.images[row, base, value], decode(code[None])[0])
    assert torch.equal(BASES[0], torch.tensor([0.1, 0.2, 0.3, 0.4]))


def test_values_in_units_of_the_codes():
    centre, scale = torch.tensor([0.0, 1, 2, 3]), torch.tensor([1.0, 2, 3, 4])
    found = reports.traverse(decode, BASES, span=2, steps=3, centre=centre, scale=scale)
    expected = [[-2, 0, 2], [-3, 1, 5], [-4, 2, 8], [-5, 3, 11]]
    np.testing.assert_allclose(found.values, expected)
    assert found.labels == ("−2.0 σ", "0 σ", "+2.0 σ")


def test_the_picture_and_how_it_shows_itself(tmp_path):
    title = 'a <b> & "c"'
    found = reports.traverse(decode, BASES[:1], steps=3, title=title, names=[*"<xyz"])
    path = found.save(tmp_path / "a" / "b.png")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
        width = picture.width
    assert pixels.std() > 1
    page = found._repr_html_()
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(data) == path.read_bytes()
    assert 'alt="a &lt;b&gt; &amp; &quot;c&quot;: &lt;, x, y, z"' in page
    assert f'width="{width // 2}"' in page
    assert Image.open(io.BytesIO(found.png)).format == "PNG"
    assert "images (4, 1, 3, 1, 2, 2)" in repr(found)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bases": torch.zeros(4)}, ValueError, r"bases must have shape \(B, d\)"),
        ({"bases": torch.zeros(0, 4)}, ValueError, r"bases must have shape \(B, d\)"),
        ({"bases": torch.zeros(1, 4, dtype=int)}, TypeError, "bases must be float16"),
        ({"coordinates": [4]}, ValueError, r"coordinates must be an integer in \[0, 3\], got 4"),
        ({"coordinates": []}, ValueError, "coordinates must be at least one, or None, got none"),
        ({"span": 0.0}, ValueError, "span must be a finite number > 0, got 0.0"),
        ({"steps": 1}, ValueError, "steps must be an integer >= 2, got 1"),
        ({"names": ["a"]}, ValueError, "names must be of all 4 coordinates, got 1"),
        ({"scale": torch.ones(3)}, ValueError, r"scale must have shape \(4,\)"),
        ({"centre": torch.full((4,), torch.nan)}, ValueError, "centre must be finite"),
        ({"decode": lambda z: z}, ValueError, r"decode must return images \(36, C, H, W\)"),
        ({"decode": lambda z: (z,)}, TypeError, "decode must return a torch.Tensor, got tuple"),
        ({"decode": lambda z: z.new_zeros(36, 2, 4, 4)}, ValueError, "C 1 or 3"),
    ],
)
def test_bad_arguments(options, error, words):
    arguments = {"decode": decode, "bases": BASES[:1]} | options
    with pytest.raises(error, match=words):
        reports.traverse(arguments.pop("decode"), arguments.pop("bases"), **arguments)
