"""A module trained for an epoch or two: what is logged is what the functions find."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pydisent import metrics
from pydisent.data import ArrayDataset, FactorDataset
from pydisent.training.processes import free_port

lightning = pytest.importorskip("pytorch_lightning")
pytest.importorskip("matplotlib")
from pydisent.integrations.lightning import SCORES, DisentanglementCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TAG = "disentanglement/"


class Grid(FactorDataset):
    def __init__(self):
        super().__init__("grid", (1, 2, 2), ("a", "b", "c", "d"), (4, 3, 5, 4))

    def _read(self, indices):
        scaled = self.factors(indices) / (torch.tensor(self.factor_sizes) - 1)
        return scaled.float().view(-1, 1, 2, 2)


class Module(lightning.LightningModule):
    """Codes are the pixels, mixed by a matrix that training moves a little."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.seen = []
        self.norm.eval()

    def encode(self, images):
        self.seen.append((self.training, torch.is_grad_enabled()))
        torch.rand(3)  # of no consequence for training's draws
        return self.mix(images.flatten(1))

    def decode(self, codes):
        return codes.sigmoid().view(-1, 1, 2, 2)

    def training_step(self, batch, _):
        (x,) = batch
        return (self.mix(x.flatten(1)) - x.flatten(1)).square().mean() * torch.rand(())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(callback, folder, module=None, logger=False, epochs=1, more=(), **options):
    torch.manual_seed(0)
    module = module or Module()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=logger,
        default_root_dir=folder,
        callbacks=[*([callback] if callback else []), *more],
        enable_model_summary=False,
        enable_progress_bar=False,
        **{"enable_checkpointing": False, **options},
    )
    batches = DataLoader(TensorDataset(torch.rand(8, 1, 2, 2)), batch_size=4)
    trainer.fit(module, batches)
    return trainer, module


def test_an_epoch_is_scored_and_drawn(tmp_path):
    grid = Grid()
    callback = DisentanglementCallback(grid, scores=tuple(SCORES), seed=3)
    trainer, module = fit(callback, tmp_path)
    codes = metrics.encode_once(module.encode, grid, seed=3)
    samples = metrics.sample_codes(codes.encode, codes, seed=3)
    for name, function in (("mig", metrics.mig), ("mcc", metrics.mcc), ("irs", metrics.irs)):
        assert callback.results[name] == function(*samples[:2])
    assert callback.results["sap"] == metrics.sap(*samples)
    assert callback.results["dci"].details["test_samples"] == 5000
    for name in SCORES:
        logged = trainer.callback_metrics[TAG + name].item()
        assert logged == pytest.approx(callback.results[name].score, abs=1e-6)
    assert module.seen[0] == (False, False)
    pictures = list((tmp_path / "traversals").iterdir())
    assert [path.name for path in pictures] == ["epoch-0000.png"]
    assert pictures[0].read_bytes().startswith(b"\x89PNG")


def test_training_goes_on_as_without_it(tmp_path):
    weights = []
    for callback in (None, DisentanglementCallback(Grid(), scores=["mig"], max_images=90)):
        _, module = fit(callback, tmp_path, epochs=2)
        assert not module.norm.training  # as it was made
        weights.append(module.mix.weight.detach().clone())
    assert torch.equal(*weights)


class Keep(lightning.Callback):
    """Write what each process has logged."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        found = {name: value.item() for name, value in trainer.callback_metrics.items()}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


class Linear(lightning.LightningModule):
    """Without parts that training does not use."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(4, 4, bias=False)

    def encode(self, images):
        return self.mix(images.flatten(1))

    decode = Module.decode
    training_step = Module.training_step
    configure_optimizers = Module.configure_optimizers


@pytest.mark.slow
def test_two_processes_have_the_first_ones_scores(tmp_path, monkeypatch):
    # Lightning leaves its port in the environment, where other tests' processes would take it.
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    torch.manual_seed(0)
    callback = DisentanglementCallback(Grid(), scores=["mig", "mcc"], max_images=90)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        logger=False,
        default_root_dir=tmp_path,
        callbacks=[callback, Keep(tmp_path)],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(Linear(), DataLoader(TensorDataset(torch.rand(8, 1, 2, 2)), batch_size=4))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first.keys() == {f"{TAG}mig", f"{TAG}mcc"}
    names = sorted(path.name for path in (tmp_path / "traversals").iterdir())
    assert names == ["epoch-0000.png", "epoch-0001.png"]


def test_a_checkpoint_is_chosen_by_a_score(tmp_path):
    kept = lightning.callbacks.ModelCheckpoint(
        tmp_path, monitor=f"{TAG}mcc", mode="max", save_on_train_epoch_end=True
    )
    callback = DisentanglementCallback(Grid(), scores=["mcc"], max_images=90, traversals=False)
    fit(callback, tmp_path, more=[kept], epochs=1, enable_checkpointing=True)
    expected = callback.results["mcc"].score
    assert kept.best_model_score.item() == pytest.approx(expected, abs=1e-6)


def test_every_few_epochs_and_the_last(tmp_path):
    callback = DisentanglementCallback(Grid(), scores=["mig"], every_n_epochs=2, max_images=90)
    fit(callback, tmp_path, epochs=3)
    names = sorted(path.name for path in (tmp_path / "traversals").iterdir())
    assert names == ["epoch-0001.png", "epoch-0002.png"]
    callback = DisentanglementCallback(Grid(), scores=["mig"], every_n_epochs=9, max_images=90)
    fit(callback, tmp_path / "steps", epochs=-1, max_steps=2)
    assert callback.results


def test_tensorboard_gets_the_picture(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from pytorch_lightning.loggers import TensorBoardLogger

    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    callback = DisentanglementCallback(Grid(), max_images=90, bases=2, coordinates=[3, 0])
    fit(callback, tmp_path, logger=logger)
    logger.finalize("success")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "version_0")).Reload()
    (image,) = events.Images(f"{TAG}traversals")
    assert image.height > 2 * 2 * 80  # two coordinates from two codes
    (scalar,) = events.Scalars(f"{TAG}mig")
    assert scalar.value == pytest.approx(callback.results["mig"].score, abs=1e-6)
    assert not (tmp_path / "run" / "version_0" / "traversals").exists()


def test_other_loggers_get_files_beside_their_own(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="run", version=0)
    fit(DisentanglementCallback(Grid(), max_images=90, prefix="x/"), tmp_path, logger=logger)
    assert (tmp_path / "run" / "version_0" / "traversals" / "epoch-0000.png").is_file()
    assert "x/mig" in (tmp_path / "run" / "version_0" / "metrics.csv").read_text()


def test_a_module_of_other_names(tmp_path):
    class Other(Module):
        encode = decode = None

    callback = DisentanglementCallback(Grid(), max_images=90)
    with pytest.raises(TypeError, match="Other must have a method encode, or Disent"):
        fit(callback, tmp_path, Other())
    own = DisentanglementCallback(
        Grid(),
        scores=["mcc"],
        max_images=90,
        encode=lambda module, x: module.mix(x.flatten(1)),
        traversals=False,
    )
    fit(own, tmp_path, Other())
    assert own.results.keys() == {"mcc"}
    assert not (tmp_path / "traversals").exists()


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_precisions(tmp_path, precision):
    callback = DisentanglementCallback(Grid(), scores=["mcc"], max_images=90)
    fit(callback, tmp_path, precision=precision)
    assert 0 < callback.results["mcc"].score <= 1
    assert list((tmp_path / "traversals").iterdir())


def test_a_training_that_has_diverged_goes_on(tmp_path):
    callback = DisentanglementCallback(
        Grid(), max_images=90, encode=lambda module, x: module.mix(x.flatten(1)) * torch.nan
    )
    with pytest.warns(UserWarning, match="scores of epoch 0 are left out: encode must return fin"):
        trainer, _ = fit(callback, tmp_path)
    assert not trainer.callback_metrics


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scores": ["mig", "beauty"]}, ValueError, "scores must be one of 'mig', 'sap'"),
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs must be an integer >= 1, got 0"),
        ({"steps": 1}, ValueError, "steps must be an integer >= 2, got 1"),
        ({"span": -1.0}, ValueError, "span must be a finite number > 0, got -1.0"),
        ({"dataset": ArrayDataset("x", np.zeros((2, 1, 2, 2), np.uint8))}, ValueError, "dataset m"),
        ({"dataset": [1]}, ValueError, "dataset must be of images with factors, got list"),
    ],
)
def test_bad_arguments(options, error, words):
    with pytest.raises(error, match=words):
        DisentanglementCallback(**{"dataset": Grid(), **options})
