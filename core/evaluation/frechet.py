"""The Fréchet distance between two sets of images, each taken for a Gaussian in the features of a network.

Its value depends on the features and on the number of images (it falls as 1/n; Chong & Forsyth, arXiv 1911.07023),
so it says something only beside the distance of held-out real images at the same count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gaussian:
    """mean: [d]; covariance: [d d], symmetric; float64."""

    mean: np.ndarray
    covariance: np.ndarray


def fitted(features: np.ndarray) -> Gaussian:
    """The Gaussian with mean and (unbiased) covariance of features [n d], n ≥ 2."""
    exact = np.asarray(features, np.float64)
    mean = exact.mean(axis=0)
    centred = exact - mean
    return Gaussian(mean, centred.T @ centred / (len(exact) - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """‖μ_a − μ_b‖² + Tr(C_a + C_b − 2 (C_a C_b)^½) (Dowson & Landau 1982; Heusel et al., arXiv 1706.08500).

    (C_a C_b)^½ has the trace of the singular values of C_a^½ C_b^½: roots of symmetric matrices alone, which exist
    for singular covariances, too, and no square root of a rounding error.
    """
    overlap = np.linalg.norm(_root(a.covariance) @ _root(b.covariance), "nuc")
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return max(0.0, float(np.sum((a.mean - b.mean) ** 2) + spread))


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root; eigenvalues within rounding of 0 are 0."""
    values, vectors = np.linalg.eigh(covariance)
    negligible = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return (vectors * np.sqrt(np.where(values > negligible, values, 0.0))) @ vectors.T
