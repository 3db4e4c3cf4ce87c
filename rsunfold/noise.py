"""The noise of each band of a hyperspectral image: from the other bands, or from its own finest details."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Real, Samples

RIDGE = 1e-9
"""Added to the correlations of the bands before they are inverted; keeps duplicate bands from making them singular."""
REPEATED = 1e-7
"""A band of whose variance the others leave less than this share repeats them: no sensor measures to 70 dB."""
ROUNDED, ROUNDED_MOST = 1.3, 0.01
"""The same in units of what rounding alone would leave, where samples are in whole steps. At most the share
ROUNDED_MOST of the variance: a class or a mask is no number."""
SHARED = 0.25
"""A band repeats others when what they leave of its variance is less than this share of what independent noise of
theirs would leave: a band with little noise of its own, beside others like it, does not."""
FEWEST_KEPT = 0.2
"""Share of the bands that are left at least; where fewer would be, it is the image that has no noise."""
APART = 1e-4
"""Sum of the squared weights that bands left out at a time may have in one of them."""
FEW = 9
"""With fewer bands than this, noise is estimated from neighbouring pixels instead of from the other bands."""
ENOUGH = 1.5
"""With fewer pixels than this times the bands likewise."""
ROUNDS, ALONE = 5, 0.1
"""Rounds of :func:`residual_noise`; 20 change denoised training cubes by 0.11 dB at most. A band of which less than the
share ALONE lies in the noise directions says too little there and keeps its estimate."""
EXCEEDS, SEAM = 1.5, 32
"""How often the regression leaves more of a band than its finest details have, compared with other bands, where that is
signal; and how many pixels apart rows and columns of a sample may be of distant parts of its image."""
FEW_ALONE, LEAST_SQUARES = 0.1, 16
"""Largest share of the bands of which that is believed, and fewest squares of 2 x 2 pixels that tell it."""
CONFIDENCE = 1.02
"""Factor on the largest eigenvalue that pure noise gives on average; it scatters by less than that."""


def tells_little(bands: int, count: int) -> bool:
    """Whether the noise of a band cannot be told from the others in ``count`` spectra.

    A regression on p others leaves the share 1 - p / count of the variance of noise. Where that is little, signal and
    noise are mixed, which :func:`residual_noise` does not undo.
    """
    return bands < FEW or count < ENOUGH * bands


def regression_noise(covariance: Real) -> Real:
    """Standard deviation (bands,) of what the other bands do not tell about each band, from the covariance.

    The residual of the linear regression of band b on all others has the variance 1 / (C^-1)_bb. It is the noise of
    that band plus the signal that is in no other band, so it errs upwards where bands are few or far apart.
    Source: Roger and Arnold, Int. J. Remote Sensing 17(10), 1996; step 1 of HySime (Bioucas-Dias and Nascimento,
    IEEE TGRS 46(8), 2008). A constant band has 0; with a single band nothing can be told, and it is 0 too.
    """
    spread = np.sqrt(np.diag(covariance))
    sigma = np.zeros(len(spread))
    varies = np.flatnonzero(spread > 0)
    if len(varies) < 2:
        return sigma
    s = spread[varies]
    correlation = covariance[np.ix_(varies, varies)] / np.outer(s, s)
    inverse = np.linalg.inv(correlation + RIDGE * np.eye(len(s)))
    sigma[varies] = s / np.sqrt(np.diag(inverse))
    return sigma


def _residual_weights(covariance: Real) -> Real:
    """W (bands, bands): W (y - mean) is what the linear regression of each band on all others leaves of it,
    C^-1 (y - mean) / diag(C^-1)."""
    scale = np.sqrt(np.diag(covariance))
    safe = np.where(scale > 0, scale, 1)
    inverse = np.linalg.inv(covariance / np.outer(safe, safe) + RIDGE * np.eye(len(safe)))
    return np.asarray(inverse * np.outer(scale / np.diag(inverse), 1 / safe))


def residual_noise(covariance: Real, sigma: Real, count: int) -> Real:
    """Standard deviation (bands,) of the noise of each band, from what no signal explains; begins with ``sigma``.

    The regressors of :func:`regression_noise` are noisy themselves: a band with less noise than the others seems
    noisier than it is, because what they tell of its signal holds their noise. The signal subspace averages over many
    bands and holds less. Let N (bands, bands - rank) be the noise directions of the image whitened by sigma, l their
    eigenvalues. The residual N N' y of band b has the variance sum_j N_bj^2 l_j; if sigma were right it would be
    h_b = sum_j N_bj^2. Hence

        sigma_b <- sigma_b sqrt(sum_j N_bj^2 l_j / h_b),

    and again with the directions of the new sigma. At its fixed points the model of the covariance has the observed
    variance of every band, the condition of maximum likelihood in factor analysis (Lawley and Maxwell, Factor Analysis
    as a Statistical Method, 1971), here with the rank that the eigenvalues support.

    count : number of spectra. With twice as many as bands or more, pure noise is found without the regression's bias
    downwards; with no more than bands some directions have no variance at all, and ``sigma`` is returned as it is, also
    where a band has none and cannot be whitened.
    """
    if count <= len(sigma) or not (sigma > 0).all():
        return sigma
    # What RIDGE leaves where there is no noise: it has to be divided by something.
    least = np.sqrt(RIDGE * np.diag(covariance))
    for _ in range(ROUNDS):
        values, vectors = eigen(covariance / np.outer(sigma, sigma))
        rank = signal_rank(values, count)
        share = vectors[:, rank:] ** 2
        free = share.sum(axis=1)
        told = free > ALONE
        variance = share[told] @ np.maximum(values[rank:], 0) / free[told]
        sigma = sigma.copy()
        sigma[told] = np.maximum(sigma[told] * np.sqrt(variance), least[told])
    return sigma


@dataclass(frozen=True)
class Repeats:
    """Bands that are linear combinations of others, with noise and all: duplicates, and bands that were interpolated.

    kept (bands,): the bands that they are made of, and all others. W (kept, repeated): y_r = m_r + W' (y_k - m_k) with
    the means m.
    """

    kept: NDArray[np.bool_]
    W: Real

    def noise(self, sigma: Real) -> Real:
        """Noise (bands,) of all bands from that of the kept ones: of a repeated band sqrt(sum_k W_kr^2 sigma_k^2)."""
        out = np.empty(len(self.kept))
        out[self.kept], out[~self.kept] = sigma, np.sqrt(np.square(sigma) @ self.W**2)
        return out


def repeats(covariance: Real, step: Real | None = None) -> Repeats:
    """The bands that repeat others; constant ones count among them, with W = 0.

    Those that :func:`independent_bands` leaves out without ``step``, and of those that it leaves out of the rest with
    it, the ones whose noise is SHARED: where a sensor is so quiet that rounding is all the noise there is, the others
    tell any band as well as that.
    """
    variance = np.diag(covariance)
    exact = independent_bands(covariance)
    kept = exact.copy()
    if step is not None:
        kept[exact] = independent_bands(covariance[np.ix_(exact, exact)], step[exact])
    while True:
        inside = covariance[np.ix_(kept, kept)]
        if not (variance[~kept] > 0).any():
            return Repeats(kept, np.zeros((int(kept.sum()), int((~kept).sum()))))
        W = np.linalg.solve(inside, covariance[np.ix_(kept, ~kept)])
        left = variance[~kept] - np.einsum("kr,kr->r", W, covariance[np.ix_(kept, ~kept)])
        own = left > np.maximum(SHARED * (regression_noise(inside) ** 2 @ W**2), REPEATED * variance[~kept])
        own &= exact[~kept]
        if not own.any():
            return Repeats(kept, np.asarray(W, np.float64))
        kept[np.flatnonzero(~kept)[own]] = True


def directions(covariance: Real, share: float = REPEATED) -> int:
    """In how many directions the bands, each scaled to a variance of 1, vary by more than ``share`` of that."""
    varies = np.diag(covariance) > 0
    inside = covariance[np.ix_(varies, varies)]
    spread = np.sqrt(np.diag(inside))
    return int((np.linalg.eigvalsh(inside / np.outer(spread, spread)) > share).sum())


def steps(spectra: Iterable[NDArray[np.floating]]) -> Real:
    """(bands,): the smallest difference of two samples of each band of ``spectra``, bands of (n,), 0 without any.

    Where the samples were whole numbers once this is about the unit; of others it is next to nothing.
    """
    ordered = (np.unique(band) for band in spectra)
    return np.array([np.diff(band).min() if len(band) > 1 else 0.0 for band in ordered], np.float64)


def independent_bands(covariance: Real, step: Real | None = None) -> NDArray[np.bool_]:
    """bool (bands,): True for bands that vary and are not repeated by others, with noise and all.

    Duplicates, and bands interpolated from their neighbours, are linear combinations of others: one of them after the
    other is left out, the one with the smallest weights first, which is between the others and not beyond, until each
    of those that are left has the share REPEATED of its variance to itself. What was rounded afterwards to whole steps
    q (``step``, (bands,); None for none) is no exact combination w of the others any more, but what rounding leaves of
    it is (q_b^2 + sum_j w_j^2 q_j^2) / 12: it has to have ROUNDED times that to itself. Where less than the share
    FEWEST_KEPT would be left, or fewer than FEW and than half, it is the image that has no noise: all are True.
    """
    variance = np.diag(covariance)
    varies = variance > 0
    spread = np.sqrt(np.where(varies, variance, 1))
    correlation = covariance / np.outer(spread, spread)
    rounding = np.zeros(len(spread)) if step is None else ROUNDED * (step / spread) ** 2 / 12
    kept, fewest = varies.copy(), max(min(FEW, varies.sum() / 2), FEWEST_KEPT * varies.sum())
    if directions(covariance, RIDGE) < fewest:
        return np.asarray(varies)
    while True:
        inside = np.flatnonzero(kept)
        inverse = np.linalg.inv(correlation[np.ix_(inside, inside)] + RIDGE * np.eye(len(inside)))
        alone = 1 / np.diag(inverse)
        w = (alone[:, None] * inverse) ** 2  # squared weights, of bands divided by their deviations
        repeated = alone <= np.maximum(REPEATED, np.minimum(w @ rounding[inside], ROUNDED_MOST))
        if not repeated.any():
            return np.asarray(kept)
        w *= np.divide.outer(spread[inside], spread[inside]) ** 2
        weights = np.where(repeated, w.sum(axis=1), np.inf)
        out: list[int] = []
        # All at once that have the smallest weights and no part in each other.
        for b in np.argsort(weights, kind="stable")[: int((weights <= 1.5 * weights.min()).sum())].tolist():
            if w[b, out].sum() < APART:
                out.append(b)
        if kept.sum() - len(out) < fewest:
            return np.asarray(varies)
        kept[inside[out]] = False


def band_noise(covariance: Real, count: int | None = None, step: Real | None = None) -> Real:
    """Standard deviation (bands,) of the noise of each band, 0 where it is constant.

    :func:`regression_noise` of the bands that do not repeat others (:func:`repeats`), refined by :func:`residual_noise`
    where the ``count`` of the spectra is given. The regression of a band that does leaves nothing, though it has the
    noise of these.
    """
    made = repeats(covariance, step)
    inside = covariance[np.ix_(made.kept, made.kept)]
    found = regression_noise(inside)
    return made.noise(found if count is None else residual_noise(inside, found, count))


def whole_squares(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool (rows - 1, cols - 1): where all of the 2 x 2 pixels of ``valid`` (rows, cols) are True."""
    return np.asarray(valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:])


def spatial_noise(cube: Samples, valid: NDArray[np.bool_] | None = None) -> Real:
    """Standard deviation (bands,) of the noise of each band of (bands, rows, cols), from its finest details alone.

    1.4826 times the median of the absolute diagonal Haar wavelets, (a - b - c + d) / 2 of 2 x 2 pixels (Donoho and
    Johnstone, Biometrika 81(3), 1994). Fine texture counts as noise. valid (rows, cols) : pixels that were measured;
    squares with others do not count, since what fills a hole has no noise. 0 where no square is left.
    """
    whole = whole_squares(np.ones(cube.shape[1:], bool) if valid is None else valid)
    if not whole.any():
        return np.zeros(len(cube))
    diagonal = (cube[:, :-1, :-1] - cube[:, :-1, 1:] - cube[:, 1:, :-1] + cube[:, 1:, 1:]) / 2
    return np.asarray(1.4826 * np.median(np.abs(diagonal)[:, whole], axis=1), np.float64)


def without_own_signal(noise: Real, covariance: Real, sample: Samples, valid: NDArray[np.bool_]) -> Real:
    """``noise`` (bands,) of a regression on other bands, where it is not for the most part signal that no other has.

    Such signal, as of a thermal band or an absorption one band wide, is smooth, and noise is not: the finest details of
    what the regression leaves of a band bound its noise, too. (Those of the band itself hold the texture of the scene.)
    They are the Haar wavelets of 2 x 2 pixels, of which the direction with the largest root mean square counts, as
    stripes are noise. Where ``noise`` exceeds that EXCEEDS times as much as in the median band, or as one that it
    equals, it is taken to exceed it as much as there; unless more bands than the share FEW_ALONE do, which have smooth
    noise, as those that were brought to a finer grid. covariance (bands, bands) : of the image. sample (bands, rows,
    cols), its holes filled; valid (rows, cols).
    """
    whole = whole_squares(valid)
    whole[SEAM - 1 :: SEAM] = whole[:, SEAM - 1 :: SEAM] = False
    if whole.sum() < LEAST_SQUARES:
        return noise
    corners = (sample[:, :-1, :-1], sample[:, :-1, 1:], sample[:, 1:, :-1], sample[:, 1:, 1:])
    residual, squares = _residual_weights(covariance), np.zeros(len(noise))
    for signs in ((1, -1, -1, 1), (1, -1, 1, -1), (1, 1, -1, -1)):
        detail = sum(sign * corner[:, whole] for sign, corner in zip(signs, corners, strict=True))
        squares = np.maximum(squares, np.square(residual @ detail).mean(axis=1))
    finest = np.sqrt(squares) / 2
    ratio = np.divide(noise, finest, where=finest > 0, out=np.ones(len(noise)))
    usual = max(1.0, float(np.median(ratio)))
    alone = ratio > EXCEEDS * usual
    return np.where(alone, usual * finest, noise) if alone.mean() <= FEW_ALONE else noise


def robust_statistics(
    spectra: NDArray[np.floating], missing: NDArray[np.bool_] | None = None
) -> tuple[Real, Real, Real]:
    """(mean, noise, spectra without outliers) of ``spectra`` (bands, n) of which some samples are outliers.

    The residual of the regression of each band on all others shows an outlier in its own band. Its spread is taken from
    the median absolute deviation; samples whose residual exceeds three of it are replaced by what the other bands
    predict, and everything is taken anew from what results (a redescending estimator; Huber, Robust Statistics, 1981,
    section 4.8). Where outliers are too many to stand out, such as salt in most pixels of a dark band, they pull the
    mean, which the median of the residuals takes back, and count as noise.

    ``missing`` (bands, n) : samples that hold nothing; they begin at the median of the others and are always replaced.
    """
    y = spectra.astype(np.float64)
    if missing is not None:
        start = [np.median(line[~lost]) for line, lost in zip(y, missing, strict=True)]
        y = np.where(missing, np.array(start)[:, None], y)
    for _ in range(4):
        mean = y.mean(axis=1)
        x = y - mean[:, None]
        residual = _residual_weights(x @ x.T / x.shape[1]) @ x
        middle = np.median(residual, axis=1)
        sigma = 1.4826 * np.median(np.abs(residual - middle[:, None]), axis=1)
        outlying = np.abs(residual) > 3 * sigma[:, None]
        y -= np.where(outlying if missing is None else outlying | missing, residual, 0)
    return y.mean(axis=1) + middle, np.maximum(sigma, band_noise(np.cov(y, bias=True))), y


def eigen(covariance: Real) -> tuple[Real, Real]:
    """(eigenvalues (n,), eigenvectors (n, n) in columns) of a symmetric matrix, the largest first."""
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1], vectors[:, ::-1]


def signal_rank(values: Real, count: float) -> int:
    """How many of the eigenvalues (bands,) of a whitened covariance exceed those that ``count`` spectra of noise alone
    give, at least 1: the edge (1 + sqrt(bands / count))^2 of Marchenko and Pastur, times CONFIDENCE."""
    edge = CONFIDENCE * (1 + np.sqrt(len(values) / max(count, 1))) ** 2
    return max(1, int((values > edge).sum()))
