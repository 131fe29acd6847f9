"""How the benches time calls on a GPU, on a stand-in for one."""

import torch


def test_a_graph_replays_the_call(bench):
    gpu = bench("_gpu")
    x, total = torch.ones(3), torch.zeros(())
    replay, why = gpu.as_graph(lambda: total.copy_((2 * x).sum()), gpu.StandIn)
    assert not why
    x.fill_(5)
    replay()
    assert total == 6  # what lies between is made anew, but what is read of it is that of before
    total.zero_()
    _, why = gpu.as_graph(lambda: x.sum().item(), gpu.StandIn)
    assert why == "_local_scalar_dense cannot be captured"


def test_a_capture_that_is_refused_is_timed_behind_a_sleep(bench, monkeypatch):
    gpu = bench("_gpu")
    left = []

    class Refused(gpu.StandIn):
        class graph(gpu.StandIn.graph):
            def __exit__(self, *raised):
                super().__exit__(*raised)
                raise RuntimeError("operation not permitted when stream is capturing\nmore")

        set_stream = staticmethod(left.append)

    monkeypatch.setattr(gpu, "gpu_of", lambda device: Refused)
    x = torch.ones(3)
    found = gpu.measure_kernels({"it": x.sum}, "cpu", 0.001)["it"]
    assert found["how"] == "gated"
    assert found["why"] == "operation not permitted when stream is capturing"
    assert len(left) == 1  # the stream of before is current again
    monkeypatch.setattr(gpu._Event, "query", lambda self: True)
    assert gpu.measure_kernels({"it": x.sum}, "cpu", 0.001)["it"]["how"] == "waits"


def test_what_writes_is_reset_before_each_time(bench):
    gpu = bench("_gpu")
    x, before = torch.ones(()), []
    gpu.measure_kernels(
        {"it": lambda: x.mul_(2)}, "cpu", 0.001, reset=lambda: before.append(x.fill_(1))
    )
    assert before
    assert x == 2
