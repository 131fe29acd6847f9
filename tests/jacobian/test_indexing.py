"""Reading and writing parts of a value, by indices of every kind, against central differences."""

import random

import pytest
import torch

from pydisent.jacobian.linearization import linearize_unchecked
from pydisent.jacobian.rules._base import over_tangents, vmap_kind

BATCH, M, STEP = 3, 4, 1e-6
WAYS = ["read", "number", "constant", "traced", "both"]


def part_of_an_index(draw, size):
    places = torch.randperm(size)
    return draw.choice(
        [
            slice(None),
            slice(draw.choice([None, 0, 1]), None, draw.choice([None, 1, 2])),
            draw.randrange(-size, size),
            places[: draw.choice([1, 2])] - draw.choice([0, size]),
            places[:2].reshape(2, 1),
            torch.rand(size) > 0.4,
            [0, size - 1],
            slice(-2, None),
        ]
    )


def random_index(draw, shape):
    """Slices, numbers, tensors, masks, lists, new axes and an ellipsis, in any order."""
    if draw.random() < 0.1 and len(shape) > 1:
        return torch.rand(shape[:2]) > 0.5
    count, from_behind = draw.randrange(len(shape) + 1), draw.random() < 0.3
    sizes = shape[len(shape) - count :] if from_behind else shape[:count]
    parts = [part_of_an_index(draw, size) for size in sizes]
    for place in range(len(parts), -1, -1):
        if draw.random() < 0.15:
            parts.insert(place, None)
    return tuple([Ellipsis, *parts] if from_behind else parts)


def case(seed):
    """A function of z that reads or writes part of a value; None where torch has no such index."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shape = (BATCH, *(draw.choice([2, 3, 4]) for _ in range(draw.choice([1, 2, 3]))))
    index, way = random_index(draw, shape), draw.choice(WAYS)
    weight = torch.randn(M, torch.Size(shape[1:]).numel()).double()
    try:
        region = torch.zeros(shape)[index].shape
    except (IndexError, RuntimeError):
        return None
    sizes = [1 if draw.random() < 0.3 and size else size for size in region]
    while sizes and sizes[0] == 1 and draw.random() < 0.5:
        sizes.pop(0)
    filler = torch.randn(M, max(1, region.numel())).double()
    constant, still = torch.randn(region).double(), torch.randn(shape).double()

    def fn(z):
        x = (z @ weight).reshape(shape).sin()
        if way == "read":
            return x[index].square().sum().expand(BATCH)
        x = (still if way == "traced" else x).clone()
        if way in ("traced", "both"):
            value = (z.sum(0) @ filler)[: torch.Size(sizes).numel()].reshape(sizes).cos()
        else:
            value = constant if way == "constant" else 2.5
        x[index] = value
        return x * x + x + z[(slice(None), 0, *(None,) * (x.dim() - 1))]

    return fn


@pytest.mark.parametrize("start", range(0, 400, 40))
def test_parts_that_are_read_and_written(start):
    for seed in range(start, start + 40):
        fn = case(seed)
        if fn is None:
            continue
        z, tangents = torch.randn(BATCH, M).double(), torch.randn(2, BATCH, M).double()
        got = linearize_unchecked(fn, z, (), {}).push(tangents)[0]
        moved = [(fn(z + STEP * t) - fn(z - STEP * t)) / (2 * STEP) for t in tangents]
        torch.testing.assert_close(got, torch.stack(moved), atol=1e-6, rtol=1e-6, msg=str(seed))


def write_between(target, value):
    """A write that vmap of torch 2.13 gets wrong where K is the size of the index."""
    target = target.clone()
    target[1:, [0, 1], None, torch.tensor([1])] = value
    return target


def test_a_rule_of_vmap_that_is_wrong_is_not_used():
    targets, values = torch.randn(2, 3, 4, 3), torch.randn(2, 2, 1)
    expected = torch.stack(list(map(write_between, targets, values)))
    kind = vmap_kind(write_between, [targets, values], None)
    for _ in range(2):
        got = over_tangents(write_between, [targets, values], kind)
        torch.testing.assert_close(got, expected)
