import pytest


def test_the_capacity_grows_linearly_and_stays(smoke, images):
    system = smoke("annealed-vae", capacity=6.0, capacity_steps=3, gamma=5.0)
    capacities = []
    for _ in range(5):
        logs = system.step(images(system))
        distance = abs(float(logs["kl"]) - float(logs["capacity"]))
        expected = float(logs["reconstruction"]) + 5 * distance
        assert float(logs["loss"]) == pytest.approx(expected, rel=1e-6)
        capacities.append(float(logs["capacity"]))
    assert capacities == [0, 2, 4, 6, 6]


def test_the_kl_follows_the_capacity(smoke, images):
    system = smoke("annealed-vae", capacity=3.0, capacity_steps=200, gamma=50.0, learning_rate=3e-3)
    x = (images(system) > 0.5).float()
    logs = [system.step(x) for _ in range(300)]
    assert float(logs[99]["kl"]) == pytest.approx(1.5, abs=0.5)
    assert float(logs[-1]["kl"]) == pytest.approx(3.0, abs=0.5)
