"""The signal subspace of a hyperspectral image, from its mean and covariance alone.

Everything follows from the second moments of the spectra, which one pass over an image of any size gathers in float64
(:class:`rsunfold.moments.Moments`), and from the noise of each band (:mod:`rsunfold.noise`). In the whitened image,
each band divided by the standard deviation of its noise, noise has unit variance in every direction: the eigenvalues of
its covariance say how much signal there is, and a method that works there needs neither a noise level nor a number of
bands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.fft import dct
from scipy.ndimage import binary_erosion, correlate1d, median_filter

from rsunfold.arrays import Real, Samples
from rsunfold.lines import ColumnSummary, Lines, column_summary, find_lines
from rsunfold.moments import Moments
from rsunfold.noise import (
    Repeats,
    band_noise,
    eigen,
    regression_noise,
    repeats,
    robust_statistics,
    signal_rank,
    spatial_noise,
    steps,
    tells_little,
    without_own_signal,
)

CENTRE, SQUARES = (2 / 4) ** 2, (6 / 16) ** 2
"""Weight of the pixel itself in :func:`smooth`, and the sum of its squared weights: mean and variance of the product of
white noise and its smoothed self."""
CENTRE_TWICE, SQUARES_TWICE = (6 / 16) ** 2, (70 / 256) ** 2
"""The same of :func:`smooth` applied twice, or of the products of two smoothed images."""
TURNS, SLIGHT = 2, 0.01
"""Rounds of :func:`signal_directions` after the first, and the least covariance with the neighbours that a direction
counts with, in units of the noise."""
LEAST, MOST = 9, 45
"""Directions that a subspace has at least, for networks that work on 9 eigen-images at a time, and at most."""
MOST_ROBUST = 12
"""The same for images with outliers, of which what cannot be told from signal would add directions of its own."""
WINDOW, CUT = 16, 3.0
"""Bands of the windows in which spectral directions are freed of noise, and the threshold in its deviations."""
CONTRAST = 1e4
"""Largest ratio of two noise levels that such a window tells apart, which keeps its equations solvable."""
LOUD, FAINT = 10.0, 0.3
"""Noise of a band, in units of the median of the WINDOW bands on either side, from which it has no say in theirs, where
its signal is not as much stronger too: its ratio to the noise is below the median's by LOUD FAINT."""
MANY = 3
"""Spectra for each band from which on a band that was interpolated and rounded can be told from a quiet one."""
FILLS = 10
"""Rounds of filling dead samples. Each leaves the share of the error that A keeps among the dead bands, about 0.1."""


def smooth(cube: NDArray[Any]) -> NDArray[np.floating]:
    """Each band of (bands, rows, cols) smoothed by the binomial 1 2 1 along rows and columns, mirrored at the edges, so
    that a pixel there has no more weight than CENTRE in its own result; float32, or the wider type of ``cube``."""
    kind = np.promote_types(cube.dtype, np.float32)
    kernel = np.array([0.25, 0.5, 0.25], kind)
    half = correlate1d(cube.astype(kind, copy=False), kernel, axis=1, mode="mirror")
    return np.asarray(correlate1d(half, kernel, axis=2, mode="mirror"))


@dataclass(frozen=True)
class Lined:
    """The columns of an image that has outliers, and which of them those of its sample are."""

    summary: ColumnSummary
    columns: NDArray[np.integer]


@dataclass(frozen=True)
class Subspace:
    """Where the signal of an image lies: y = mean + sigma * (A g + unit noise), spectrum by spectrum.

    mean, sigma (bands,) in units of the image. basis (bands, bands) : orthonormal eigenvectors of the covariance of the
    whitened image, those of the largest eigenvalues first; rank, how many of them hold signal.
    A (bands, k), orthonormal: the directions estimated with what is known of signal, see :func:`signal_directions`.
    lines : stripes and dead columns of the image, where these were looked for.

    made : where some bands of the image repeat others, everything above is of the others alone, and so is the whitened
    image; their means are in ``centre`` (bands of the image,).
    """

    mean: Real
    sigma: Real
    basis: Real
    rank: int
    A: Real
    lines: Lines | None = None
    made: Repeats | None = None
    centre: Real | None = None

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """Bands of the image that repeat others."""
        return np.zeros(len(self.mean), bool) if self.made is None else ~self.made.kept

    @property
    def noise(self) -> Real:
        """Standard deviation of the noise of every band of the image, in its units."""
        return self.sigma if self.made is None else self.made.noise(self.sigma)

    def scaled(self, cube: NDArray[np.floating]) -> NDArray[np.float32]:
        """(cube - mean) / sigma, float32 (bands, rows, cols), computed in the type of ``cube``."""
        if self.made is not None:
            cube = cube[self.made.kept]
        shift, scale = (v.astype(cube.dtype)[:, None, None] for v in (self.mean, 1 / self.sigma))
        return np.asarray((cube - shift) * scale, np.float32)

    def whiten(self, cube: NDArray[np.floating], columns: NDArray[np.integer] | None = None) -> NDArray[np.float32]:
        """:meth:`scaled`, without the lines: stripes subtracted, dead columns filled from the other bands.

        columns : which of the image's columns those of ``cube`` are; None for the first ones. A dead sample gets the
        value that A says it has, given the other bands of its pixel: y <- A A' y there until it stays.
        """
        y = self.scaled(cube)
        if not self.lines:
            return y
        columns = np.arange(y.shape[2]) if columns is None else columns
        y -= (self.lines.offset[:, columns] / self.sigma[:, None]).astype(np.float32)[:, None]
        dead = self.lines.dead[:, columns]
        some = np.flatnonzero(dead.any(axis=0))
        if some.size:
            hit = np.broadcast_to(dead[:, None, some], (len(y), y.shape[1], some.size)).reshape(len(y), -1)
            part, A = np.where(hit, np.float32(0), y[:, :, some].reshape(len(y), -1)), self.A.astype(np.float32)
            for _ in range(FILLS):
                part = np.where(hit, A @ (A.T @ part), part)
            y[:, :, some] = part.reshape(len(y), y.shape[1], some.size)
        return y

    def colour(self, whitened: NDArray[np.floating], kind: DTypeLike = np.float32) -> NDArray[Any]:
        """Back from :meth:`whiten`, in units of the image and the floating-point type ``kind``."""
        shift, scale = (v.astype(kind)[:, None, None] for v in (self.mean, self.sigma))
        found = np.asarray(whitened * scale, kind)
        if self.made is None or self.centre is None:
            return np.asarray(found + shift, kind)
        every = np.empty((len(self.centre), *found.shape[1:]), kind)
        every[self.made.kept] = found
        every[~self.made.kept] = np.tensordot(self.made.W.T.astype(kind), found, axes=1)
        return np.asarray(every + self.centre.astype(kind)[:, None, None], kind)


def signal_subspace(
    mean: Real,
    covariance: Real,
    near: Real | None,
    sigma: Real,
    count: int,
    *,
    near_count: int | None = None,
    robust: bool = False,
    lines: Lines | None = None,
) -> Subspace:
    """The signal subspace of an image with ``mean`` and ``covariance`` from ``count`` spectra and noise ``sigma`` > 0.

    near : covariance of the image with what :func:`smooth` makes of it; None where no pixel has all its neighbours:
    then the covariance stands in. near_count : spectra that ``near`` is from; None for ``count``. robust : see
    :func:`signal_directions`. A direction holds signal when its variance in the whitened image exceeds the largest that
    unit noise alone would give in so many spectra,
    (1 + sqrt(bands / count))^2 (Marchenko and Pastur, 1967). The rank is at least 1.
    """
    if not (sigma > 0).all():
        raise ValueError("every band needs noise above 0; leave out constant bands")
    scale = np.outer(sigma, sigma)
    values, vectors = eigen(covariance / scale)
    rank, most = signal_rank(values, count), MOST
    if near is None:
        centre = CENTRE_TWICE if robust else CENTRE
        near, near_count, most = covariance - (1 - centre) * np.diag(sigma**2), count, min(MOST, max(LEAST, rank))
    A = signal_directions(near / scale, sigma, near_count or count, least=rank, most=most, robust=robust)
    return Subspace(mean, sigma, vectors, rank, A, lines)


def signal_directions(
    near: Real,
    sigma: Real,
    count: int,
    *,
    least: int = 1,
    most: int = MOST,
    robust: bool = False,
) -> Real:
    """Orthonormal directions (bands, k) of signal from ``near``, the covariance of the image with its smoothed self,
    whitened by ``sigma``.

    Two things are known of signal and not of noise. Neighbouring pixels are alike, and their noise is not: with
    C = near - CENTRE I only signal is left in the mean, and its directions are the eigenvectors of C. Neighbouring
    bands are alike, in the units of the image: divided by a noise that jumps from band to band they are not. So each
    eigenvector goes back to these units, where its noise is sigma_b sqrt((w + SQUARES) / count) / w at eigenvalue w;
    :func:`_smooth_spectrum` takes it away. Both in turn: directions with less noise, A, make better regressors of the
    bands, and C A U / w, w and U from the eigenvectors of A'CA, are what the bands say of them.

    k is the number of eigenvalues that noise alone would not give, or ``least`` where that is more, within LEAST and
    ``most``, or the number of bands.

    robust : the image had outliers, and what was put in their place has not quite the noise ``sigma``, so that CENTRE I
    is not what noise adds. ``near`` is then the covariance of the smoothed image with itself, where less is added,
    there are at most MOST_ROBUST directions, and they are not used as regressors.
    """
    bands = len(near)
    centre, squares = (CENTRE_TWICE, SQUARES_TWICE) if robust else (CENTRE, SQUARES)
    effective = max(1.0, count * centre**2 / squares)
    C = near - centre * np.eye(bands)
    w, A = eigen(C)
    most = min(most, MOST_ROBUST) if robust else most
    k = min(bands, most, max(LEAST, least, signal_rank(w / centre + 1, effective)))
    w, A = w[:k], A[:, :k]
    if bands < WINDOW:
        return np.ascontiguousarray(A)
    loud = _loud(sigma, np.sqrt(np.maximum(np.diagonal(C), SLIGHT)))
    for turn in range(1 if robust else 1 + TURNS):
        if turn:
            w, U = eigen(A.T @ C @ A)
            A = C @ A @ U / np.maximum(w, SLIGHT)
        signal = np.maximum(w, SLIGHT)
        noise = np.clip(np.sqrt((signal + squares) / count) / signal, 1e-9, bands**-0.5)
        columns = [_smooth_spectrum(sigma * a, e * sigma, loud) for a, e in zip(A.T, noise, strict=True)]
        A, _ = np.linalg.qr(np.stack(columns, axis=1) / sigma[:, None])
    return np.asarray(A)


def _loud(noise: Real, signal: Real) -> NDArray[np.bool_]:
    """Bands of LOUD ``noise`` whose ``signal`` (a deviation in units of the noise) is FAINT."""

    def usual(x: Real) -> Real:
        return np.asarray(median_filter(x, 2 * WINDOW + 1, mode="reflect"))

    loud = (noise > LOUD * usual(noise)) & (LOUD * FAINT * signal < usual(signal))
    return np.asarray(loud & ~loud.all())


def _smooth_spectrum(spectrum: Real, noise: Real, loud: NDArray[np.bool_]) -> Real:
    """``spectrum`` (bands,), whose noise has the standard deviations ``noise`` (bands,), without most of it.

    In windows of WINDOW bands at every offset the spectrum is the sum of the cosines whose coefficients exceed CUT
    times their noise (hard thresholding, Donoho and Johnstone, Biometrika 81(3), 1994), and of the mean. Their
    coefficients are fitted again by least squares weighted by 1 / noise^2, so that a noisy band does not spoil a clean
    neighbour. Windows overlap in the mean weighted by the inverse variance of their fit, band by band.

    Of ``loud`` bands (bands,), such as those of water vapour, the others say more than they do themselves, and which
    cosines exceed their noise must not depend on them: they are interpolated linearly before.
    """
    if loud.any():
        places = np.arange(len(noise))
        spectrum, noise = (np.interp(places, places[~loud], v[~loud]) for v in (spectrum, noise))
    C = dct(np.eye(WINDOW), axis=0, norm="ortho")
    padded = np.pad(spectrum, WINDOW, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)  # (places, WINDOW)
    level = np.lib.stride_tricks.sliding_window_view(np.pad(noise, WINDOW, mode="symmetric"), WINDOW)
    level = np.maximum(level, level.max(axis=1, keepdims=True) / CONTRAST)
    kept = np.abs(windows @ C.T) > CUT * np.sqrt(level**2 @ (C**2).T)
    kept[:, 0] = True
    # In units of the quietest band of a window, all numbers stay near 1.
    quiet = level.min(axis=1, keepdims=True)
    w = (quiet / level) ** 2
    both = kept[:, :, None] & kept[:, None, :]
    normal = np.where(both, np.einsum("ib,pb,jb->pij", C, w, C), np.eye(WINDOW))
    inverse = np.where(both, np.linalg.inv(normal), 0)
    fit = np.einsum("pij,pj->pi", inverse, (w * windows) @ C.T) @ C
    weight = 1 / (quiet**2 * np.einsum("ib,pij,jb->pb", C, inverse, C, optimize=True))
    total, weights = np.zeros_like(padded), np.zeros_like(padded)
    for offset in range(WINDOW):
        total[offset : offset + len(fit)] += weight[:, offset] * fit[:, offset]
        weights[offset : offset + len(fit)] += weight[:, offset]
    return np.asarray((total / weights)[WINDOW:-WINDOW])


def estimate_subspace(
    plain: Moments,
    near: Moments | None,
    sample: Samples,
    valid: NDArray[np.bool_],
    *,
    sigma: Real | None = None,
    lined: Lined | None = None,
) -> Subspace:
    """The subspace of an image from the moments of its spectra, and of these with what :func:`smooth` makes of them.

    sample (bands, rows, cols) : the image, or a part that stands for it; its holes, False in ``valid`` (rows, cols),
    are filled. sigma : noise (bands,) where it is known; else it is that of :func:`band_noise`, but for what a band's
    own details contradict (:func:`without_own_signal`), or of :func:`spatial_noise` where :func:`tells_little`. lined :
    some samples are outliers, also along whole columns, which are given here; mean, noise and covariance are then those
    of the sample without them.

    Bands that repeat others (:func:`rsunfold.noise.repeats`) are set aside: the subspace is that of the rest, whose
    noise is theirs, too, whatever ``sigma`` says of them.
    """
    mean, covariance, count = plain.mean, plain.covariance, plain.count
    if tells_little(len(mean), count):
        return _estimated(plain, near, sample, valid, sigma, lined)
    if not plain.spread.all():
        raise ValueError("leave out constant bands")
    # Few spectra leave less of each band than its noise, as if it had been rounded only.
    made = repeats(covariance, steps(band[valid] for band in sample) if count >= MANY * len(mean) else None)
    kept = made.kept
    if kept.all():
        return _estimated(plain, near, sample, valid, sigma, lined)
    # Noise that several bands share would count as signal, and they as free of noise, told by each other.
    near = None if near is None else near.select(kept)
    sigma = None if sigma is None else sigma[kept]
    lined = None if lined is None else Lined(lined.summary.select(kept), lined.columns)
    found = _estimated(plain.select(kept), near, sample[kept], valid, sigma, lined)
    centre = np.empty(len(mean))
    centre[kept] = found.mean
    centre[~kept] = mean[~kept] + (found.mean - mean[kept]) @ made.W
    return replace(found, made=made, centre=centre)


def _estimated(
    plain: Moments,
    near: Moments | None,
    sample: Samples,
    valid: NDArray[np.bool_],
    sigma: Real | None,
    lined: Lined | None,
) -> Subspace:
    """:func:`estimate_subspace` of bands of which none repeats others."""
    mean, covariance, count = plain.mean, plain.covariance, plain.count
    few = tells_little(len(mean), count)
    robust = lined is not None and not few
    lines: Lines | None = None
    if lined is not None and not few:
        mean, noise, spectra, lines = _without_outliers(sample, valid, lined)
        covariance, count = np.cov(spectra, bias=True), spectra.shape[1]
        whole = binary_erosion(valid, np.ones((3, 3), bool), border_value=1)
        repaired = sample.astype(np.float32)
        repaired[:, valid] = spectra
        near = Moments(len(mean))
        smoothed = smooth(repaired)[:, whole]
        near.add(smoothed, smoothed)
    covariance = np.atleast_2d(covariance)
    if sigma is not None:
        noise = sigma
    elif few:
        noise = spatial_noise(sample, valid)
    elif not robust:
        # With outliers the regression's excess is of use: it is largest in bands that keep some, which then count less.
        noise = without_own_signal(band_noise(covariance, count), covariance, sample, valid)
    # A band without measurable noise still needs a scale to be divided by.
    noise = np.maximum(noise, 1e-6 * np.sqrt(np.diag(plain.covariance)))
    if near is not None and (near.count <= SQUARES * count or min(sample.shape[1:]) < 2):
        near = None  # between so many holes the covariance tells more; a line of pixels is its own neighbour
    beside, near_count = (None, None) if near is None else (near.covariance, near.count)
    return signal_subspace(mean, covariance, beside, noise, count, near_count=near_count, robust=robust, lines=lines)


def _without_outliers(sample: Samples, valid: NDArray[np.bool_], lined: Lined) -> tuple[Real, Real, Real, Lines]:
    """(mean, noise, spectra, lines): :func:`robust_statistics` of a sample (bands, rows, cols) before and after its
    lines are found and their offsets are taken off."""
    bands, rows, cols = sample.shape

    def along(values: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(values[:, None, lined.columns], (bands, rows, cols))[:, valid]

    spectra = sample[:, valid]
    dead = lined.summary.dead()
    missing = along(dead) if dead.any() else None
    mean, noise, cleaned = robust_statistics(spectra, missing)
    lines = find_lines(lined.summary, mean, np.cov(cleaned, bias=True))
    if lines.stripes:
        mean, noise, cleaned = robust_statistics(spectra - along(lines.offset), missing)
    return mean, noise, cleaned, lines


def subspace_of(cube: Samples, *, sigma: Real | None = None, robust: bool = False) -> Subspace:
    """:func:`estimate_subspace` of a cube (bands, rows, cols) in memory, without holes.

    robust : some of its samples are outliers.
    """
    plain, near = Moments(len(cube)), Moments(len(cube))
    spectra = cube.reshape(len(cube), -1)
    plain.add(spectra)
    near.add(spectra, smooth(cube).reshape(len(cube), -1))
    every = np.ones(cube.shape[1:], bool)
    lined = Lined(column_summary(cube), np.arange(cube.shape[2])) if robust else None
    return estimate_subspace(plain, near, cube, every, sigma=sigma, lined=lined)


def published_subspace(sample: Samples, valid: NDArray[np.bool_]) -> Subspace:
    """What the published scripts of SMDS-Net hand their network: a cube divided by its maximum, HySime's basis.

    sample (bands, rows, cols) : the image, or a part that stands for it; its holes, False in ``valid`` (rows,
    cols), are filled. The basis is that of the sample after multichannel non-local means (patch 7, distance 9, h 0.08),
    with noise from regression on the other bands.
    """
    from skimage.restoration import denoise_nl_means

    top = float(sample.max()) or 1.0
    y = np.moveaxis(sample / top, 0, -1).astype(np.float64)
    sigma = float(np.mean(spatial_noise(sample / top, valid)))
    smoothed = denoise_nl_means(
        y, patch_size=7, patch_distance=9, h=0.08, sigma=sigma, fast_mode=True, channel_axis=-1
    ).reshape(-1, len(sample))
    correlation = smoothed.T @ smoothed / len(smoothed)
    noise = np.diag(regression_noise(np.cov(smoothed.T, bias=True)) ** 2)
    rank, basis = hysime(correlation, noise)
    ones = np.ones(len(sample))
    k = min(len(sample), max(1, rank))
    return Subspace(0 * ones, top * ones, basis, k, basis[:, :k])


def hysime(correlation: Real, noise_correlation: Real) -> tuple[int, Real]:
    """(rank, basis): HySime's signal subspace from the correlation (not covariance) matrices of image and noise.

    basis (bands, bands) holds the eigenvectors of the estimated signal correlation in the order of HySime's cost, the
    first ``rank`` columns span the signal. Source: Bioucas-Dias and Nascimento, IEEE TGRS 46(8), 2008, eq. (26):
    direction e is kept when 2 e' Rn e - e' Ry e < 0.
    """
    signal = correlation - noise_correlation
    _, vectors = np.linalg.eigh((signal + signal.T) / 2)
    cost = 2 * _quadratic(vectors, noise_correlation) - _quadratic(vectors, correlation)
    order = np.argsort(cost, kind="stable")
    return int((cost < 0).sum()), vectors[:, order]


def _quadratic(vectors: Real, matrix: Real) -> Real:
    return np.asarray(np.einsum("ij,ij->j", vectors, matrix @ vectors))
