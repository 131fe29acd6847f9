"""Posteriors, and their aggregate from scipy's densities."""

import numpy as np
import pytest
import torch
from _native import needs_native
from scipy.special import logsumexp
from scipy.stats import norm

IMPLEMENTATIONS = [pytest.param("native", marks=needs_native), "reference"]


def weights_by_hand(batch, dataset_size, estimator):
    """Row by row, with exact fractions of Python's integers."""
    if estimator == "mws":
        return np.full((batch, batch), 1 / (batch * dataset_size))
    if batch == 1:
        return np.ones((1, 1))
    others = batch - 1
    rows = []
    for i in range(batch):
        row = [1 / others] * batch
        row[(i + 1) % batch] = (dataset_size - others) / (dataset_size * others)
        row[i] = 1 / dataset_size
        rows.append(row)
    return np.array(rows)


def by_scipy(z, mu, logvar, dataset_size, estimator):
    """log q(z_i), log q(z_id) from scipy's normal density, one sample at a time."""
    weights = weights_by_hand(len(z), dataset_size, estimator)
    joint, marginals = [], []
    for i in range(len(z)):
        densities = norm.logpdf(z[i], loc=mu, scale=np.exp(logvar / 2))
        joint.append(logsumexp(densities.sum(1), b=weights[i]))
        marginals.append(logsumexp(densities, b=weights[i][:, None], axis=0))
    return np.array(joint), np.array(marginals)


def posteriors(batch, d, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    mu, logvar = rng.standard_normal((batch, d)), spread * rng.standard_normal((batch, d)) - 1
    return mu + np.exp(logvar / 2) * rng.standard_normal((batch, d)), mu, logvar


def tensors(arrays, dtype=torch.float64):
    return [torch.from_numpy(x).to(dtype) for x in arrays]
