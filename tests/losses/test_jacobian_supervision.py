"""Jacobian supervision against the equations written out, and where it must vanish."""

import re

import pytest
import torch
from torch import nn
from torch.autograd import grad

from pydisent import jacobian_supervision

B, K = 6, 2


class Decoder(nn.Module):
    def __init__(self, code_size, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(code_size, 8), nn.Tanh(), nn.Linear(8, 10), nn.Unflatten(1, (1, 2, 5))
            ).double()

    def forward(self, y, z):
        return self.net(torch.cat([y, z], dim=1))


def draw(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.double).requires_grad_()


@pytest.fixture
def problem():
    codes = draw(B, K, seed=1), draw(B, 3, seed=2), draw(B, K, seed=3), draw(B, 1, seed=4)
    return Decoder(K + 3, 5), Decoder(K + 1, 6), codes


PAIRS = torch.tensor([2, 0, 1, 5, 3, 4])


def test_published_is_equation_9(problem):
    student, teacher, (sy, sz, ty, tz) = problem
    loss, terms = jacobian_supervision(
        student, teacher, sy, sz, ty, tz, weight_y=0.25, weight_diff=0.1, permutation=PAIRS
    )
    total_y = total = 0.0
    for i in range(B):
        j = [int(PAIRS[i])]
        i = [i]
        before = teacher(ty[i], tz[i]), student(sy[i], sz[i])
        after = teacher(ty[j], tz[i]), student(sy[j], sz[i])
        total = total + ((after[0] - before[0]) - (after[1] - before[1])).pow(2).sum() / (B * 10)
        total_y = total_y + (sy[i] - ty[i]).pow(2).sum() / (B * K)
    torch.testing.assert_close(terms["y_error"], total_y)
    torch.testing.assert_close(terms["difference"], total)
    torch.testing.assert_close(loss, 0.25 * total_y + 0.1 * total)
    inputs = [sy, sz, *student.parameters()]
    for a, b in zip(grad(loss, inputs), grad(0.25 * total_y + 0.1 * total, inputs)):
        torch.testing.assert_close(a, b)


def test_exact_is_equation_7(problem):
    """With whole Jacobians by autograd."""
    student, teacher, (sy, sz, ty, tz) = problem
    loss, terms = jacobian_supervision(
        student, teacher, sy, sz, ty, tz,
        weight_y=0.0, weight_diff=2.0, variant="exact", permutation=PAIRS,
    )  # fmt: skip
    jacobian = torch.autograd.functional.jacobian
    total = 0.0
    for i in range(B):
        direction = (ty[PAIRS[i]] - ty[i]).detach()
        parts = []
        for decoder, y, z in ((teacher, ty, tz), (student, sy, sz)):
            found = jacobian(lambda y: decoder(y[None], z[i : i + 1])[0], y[i], create_graph=True)  # noqa: B023
            parts.append(found @ direction)
        total = total + (parts[0].detach() - parts[1]).pow(2).sum() / (B * 10)
    assert set(terms) == {"difference"}
    torch.testing.assert_close(loss, 2 * total)
    inputs = [sy, sz, *student.parameters()]
    found = grad(loss, inputs, allow_unused=True, materialize_grads=True)
    wanted = grad(2 * total, inputs, allow_unused=True, materialize_grads=True)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("variant", ["published", "exact"])
def test_the_teacher_gets_no_gradient(problem, variant):
    student, teacher, (sy, sz, ty, tz) = problem
    loss, _ = jacobian_supervision(
        student, teacher, sy, sz, ty, tz, weight_y=1.0, weight_diff=1.0, variant=variant
    )
    found = grad(loss, [ty, tz, *teacher.parameters()], allow_unused=True)
    assert all(g is None for g in found)


@pytest.mark.parametrize("variant", ["published", "exact"])
def test_a_student_that_does_as_its_teacher_loses_nothing(variant):
    teacher, y, z = Decoder(K, 5), draw(B, K, seed=1), draw(B, 3, seed=2)

    def student(y, z):
        return teacher(y, z[:, :0]) + z.sum(1)[:, None, None, None]

    loss, _ = jacobian_supervision(
        student, teacher, y, z, y, weight_y=1.0, weight_diff=1.0, variant=variant
    )
    assert float(loss.detach()) < 1e-25


def test_for_linear_decoders_both_variants_are_one(problem):
    _, _, (sy, sz, _, tz) = problem
    maps = [draw(K + 3, 7, seed=8), draw(K + 1, 7, seed=9)]
    student, teacher = (lambda y, z, m=m: torch.cat([y, z], 1) @ m for m in maps)
    losses = [
        jacobian_supervision(
            student, teacher, sy, sz, sy, tz,
            weight_y=1.0, weight_diff=1.0, variant=variant, permutation=PAIRS,
        )[0]
        for variant in ("published", "exact")
    ]  # fmt: skip
    torch.testing.assert_close(*losses)


def test_a_given_reconstruction_changes_nothing(problem):
    student, teacher, (sy, sz, ty, tz) = problem
    options = {"weight_y": 0.5, "weight_diff": 0.5, "permutation": PAIRS}
    plain = jacobian_supervision(student, teacher, sy, sz, ty, tz, **options)[0]
    saved = jacobian_supervision(
        student, teacher, sy, sz, ty, tz, reconstruction=student(sy, sz), **options
    )[0]
    torch.testing.assert_close(plain, saved)
    for a, b in zip(*(grad(x, student.parameters()) for x in (plain, saved))):
        torch.testing.assert_close(a, b)


def test_pairs_are_drawn_at_random(problem):
    student, teacher, codes = problem
    losses = set()
    for seed in range(5):
        torch.manual_seed(seed)
        options = {"weight_y": 0.0, "weight_diff": 1.0}
        losses.add(jacobian_supervision(student, teacher, *codes, **options)[0].item())
    assert len(losses) > 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "other"}, "variant must .*got 'other'"),
        ({"weight_y": -1.0}, "weight_y must .*got -1.0"),
        ({"weight_diff": torch.tensor(1.0)}, "weight_diff must .*got Tensor"),
        (
            {"permutation": torch.zeros(3, dtype=torch.long)},
            r"permutation must have shape .*got \(3,\)",
        ),
        ({"permutation": [0, 1]}, "permutation must .*got list"),
        ({"permutation": torch.ones(B, dtype=torch.bool)}, "permutation must .*got torch.bool"),
        ({"student_y": [1.0]}, "student_y must .*got list"),
        ({"teacher_z": "z"}, "teacher_z must .*got str"),
        ({"student_y": torch.zeros(B, 3).double()}, "teacher_y must have shape "),
        ({"student_z": torch.zeros(2, 3).double()}, r"student_z must have shape .*got \(2, 3\)"),
    ],
)
def test_bad_arguments(problem, change, message):
    student, teacher, (sy, sz, ty, tz) = problem
    given = {"student_y": sy, "student_z": sz, "teacher_y": ty, "teacher_z": tz}
    given |= {"weight_y": 1.0, "weight_diff": 1.0} | change
    with pytest.raises((ValueError, TypeError), match=message):
        jacobian_supervision(student, teacher, **given)


def linear(outputs):
    weight = torch.ones(4, outputs)
    return lambda y, z: torch.cat([y, z], 1) @ weight


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": linear(1)}, "student and teacher must return images of one shape, got (5, 3)"),
        ({"reconstruction": torch.ones(1, 3)}, "reconstruction must have shape (5, 3), as decoded"),
        ({"reconstruction": torch.ones(5, 1)}, "reconstruction must have shape (5, 3), as decoded"),
        ({"permutation": torch.arange(1, 6)}, "permutation must be in [0, 4], got values in [1,"),
        ({"permutation": torch.arange(-5, 0)}, "permutation must be in [0, 4], got values in [-5,"),
    ],
)  # fmt: skip
def test_what_would_be_broadcast_or_wrapped_is_refused(change, words):
    given = {"student": linear(3), "teacher": linear(3), "reconstruction": torch.ones(5, 3)}
    given |= {f"{of}_{part}": torch.ones(5, 2) for of in ("student", "teacher") for part in "yz"}
    weights = {"weight_y": 1.0, "weight_diff": 1.0}
    jacobian_supervision(**given, **weights)
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        jacobian_supervision(**(given | change), **weights)
