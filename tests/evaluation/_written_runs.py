"""Run folders with a plan and scores alone, without any training."""

import json


def write_run(path, scores=None, system="beta-vae", seed=0, data="sprites", **config):
    """A run folder as far as a comparison reads it; keys of the plan go before the system's."""
    plan = {"data_path": None, "preset": "quick", "image_size": 64, "steps": 2500}
    plan |= {"partial": False}
    plan |= {name: config.pop(name) for name in list(config) if name in plan}
    path.mkdir(parents=True)
    values = {"system": system, "data": data, "seed": seed, "config": config, "format": 1}
    (path / "config.json").write_text(json.dumps(plan | values))
    if scores is not None:
        entries = {name: {"score": value, "details": {}} for name, value in scores.items()}
        (path / "scores.json").write_text(json.dumps(entries))
    return path


def grid(tmp_path):
    """Two systems over one setting each, three seeds; the larger value is written first."""
    runs = []
    for system, setting in (("beta-vae", "beta"), ("dip-vae-1", "lambda_od")):
        for value in (16.0, 4.0, 1.0):
            for seed in (2, 0, 1):
                scores = {"sap": 0.01 * value + 0.1 * seed, "reconstruction": 0.001 * value}
                path = tmp_path / f"{system}-{value:g}-{seed}"
                runs.append(write_run(path, scores, system, seed, **{setting: value, "other": 3}))
    return runs
