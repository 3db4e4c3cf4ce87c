"""Noise and signal subspace of a hyperspectral image, from its mean and covariance alone.

Everything follows from the second moments of the spectra, which one pass over an image of any size gathers in float64
(:class:`Moments`). In the whitened image, each band divided by the standard deviation of its noise, noise has unit
variance in every direction: the eigenvalues of its covariance say how much signal there is, and a method that works
there needs neither a noise level nor a number of bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.fft import dct
from scipy.ndimage import binary_erosion, correlate1d

from rsunfold.errors import InputError
from rsunfold.lines import ColumnSummary, Lines, column_summary, find_lines

Real = NDArray[np.float64]
Cube = NDArray[np.floating]

RIDGE = 1e-9
"""Added to the correlations of the bands before they are inverted; keeps duplicate bands from making them singular."""
REPEATED = 1e-7
"""A band of whose variance the others leave less than this share repeats them: no sensor measures to 70 dB."""
CONFIDENCE = 1.02
"""Factor on the largest eigenvalue that pure noise gives on average; it scatters by less than that."""
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
FEW = 9
"""With fewer bands than this, noise is estimated from neighbouring pixels instead of from the other bands."""
ROUNDS, ALONE = 5, 0.1
"""Rounds of :func:`residual_noise`; 20 change denoised training cubes by 0.11 dB at most. A band of which less than the
share ALONE lies in the noise directions says too little there and keeps its estimate."""
WINDOW, CUT = 16, 3.0
"""Bands of the windows in which spectral directions are freed of noise, and the threshold in its deviations."""
CONTRAST = 1e4
"""Largest ratio of two noise levels that such a window tells apart, which keeps its equations solvable."""
FILLS = 10
"""Rounds of filling dead samples. Each leaves the share of the error that A keeps among the dead bands, about 0.1."""


class Moments:
    """Count, mean and covariance of spectra, gathered block by block; or their covariance with others.

    Sums are taken about the first block's mean, so that a large mean does not drown a small variance.
    """

    def __init__(self, bands: int) -> None:
        self.count = 0
        self._shift: Real | None = None
        self._sum, self._sum_beside = np.zeros(bands), np.zeros(bands)
        self._products = np.zeros((bands, bands))
        self._low, self._high = np.full(bands, np.inf), np.full(bands, -np.inf)

    def add(self, spectra: NDArray[np.floating], beside: NDArray[np.floating] | None = None) -> None:
        """Take ``spectra`` (bands, n), finite, and what they are to be multiplied with; None for themselves."""
        if not spectra.shape[1]:
            return
        x = spectra.astype(np.float64)
        self._low, self._high = np.minimum(self._low, x.min(axis=1)), np.maximum(self._high, x.max(axis=1))
        if self._shift is None:
            self._shift = x.mean(axis=1)
        x -= self._shift[:, None]
        z = x if beside is None else beside - self._shift[:, None]
        self.count += x.shape[1]
        self._sum += x.sum(axis=1)
        self._sum_beside += z.sum(axis=1)
        self._products += x @ z.T

    @property
    def mean(self) -> Real:
        """(bands,); raises InputError without any spectrum."""
        if self._shift is None:
            raise InputError("the image has no valid pixel: all are nodata, masked or not finite.")
        return np.asarray(self._shift + self._sum / self.count)

    @property
    def covariance(self) -> Real:
        """(bands, bands), divided by the count; of a covariance with others the symmetric part."""
        _ = self.mean
        C = self._products / self.count - np.outer(self._sum, self._sum_beside) / self.count**2
        return np.asarray((C + C.T) / 2)

    @property
    def low(self) -> Real:
        """(bands,): smallest value."""
        return self._low

    @property
    def high(self) -> Real:
        """(bands,): largest value."""
        return self._high

    @property
    def spread(self) -> Real:
        """(bands,): largest minus smallest value."""
        return np.asarray(np.where(self.count, self._high - self._low, 0))

    def select(self, bands: NDArray[np.bool_]) -> Moments:
        """The moments of some of the bands, bool (bands,)."""
        out = Moments(int(bands.sum()))
        out.count = self.count
        out._shift = None if self._shift is None else self._shift[bands]
        out._sum, out._sum_beside = self._sum[bands], self._sum_beside[bands]
        out._low, out._high = self._low[bands], self._high[bands]
        out._products = self._products[np.ix_(bands, bands)]
        return out


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


def residual_noise(covariance: Real, sigma: Real, count: int, rounds: int = ROUNDS) -> Real:
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
    for _ in range(rounds):
        values, vectors = _eigen(covariance / np.outer(sigma, sigma))
        rank = _rank(values, count)
        share = vectors[:, rank:] ** 2
        free = share.sum(axis=1)
        told = free > ALONE
        variance = share[told] @ np.maximum(values[rank:], 0) / free[told]
        sigma = sigma.copy()
        sigma[told] = np.maximum(sigma[told] * np.sqrt(variance), least[told])
    return sigma


def independent_bands(covariance: Real) -> NDArray[np.bool_]:
    """bool (bands,): True for bands that vary and are not repeated by others, with noise and all.

    Duplicates, and bands interpolated from their neighbours, are linear combinations of others: one of them after the
    other is left out, until none of those that are left has less than the share REPEATED of its variance to itself.
    Where that would leave out more than half of the bands it is the image that has no noise, and all are True.
    """
    spread = np.sqrt(np.diag(covariance))
    varies = spread > 0
    correlation = covariance / np.outer(np.where(varies, spread, 1), np.where(varies, spread, 1))
    kept = varies.copy()
    while kept.sum() > 1 and 2 * kept.sum() >= varies.sum():
        inside = np.flatnonzero(kept)
        alone = 1 / np.diag(np.linalg.inv(correlation[np.ix_(inside, inside)] + RIDGE * np.eye(len(inside))))
        if alone.min() > REPEATED:
            return np.asarray(kept)
        kept[inside[alone.argmin()]] = False
    return varies


def band_noise(covariance: Real, count: int | None = None) -> Real:
    """Standard deviation (bands,) of the noise of each band, 0 where it is constant.

    :func:`regression_noise` of the :func:`independent_bands`, refined by :func:`residual_noise` where the ``count`` of
    the spectra is given. The regression of a band that repeats others leaves nothing, though it has the noise of these:
    with y_b = sum_j w_j y_j it is sqrt(sum_j w_j^2 sigma_j^2).
    """
    kept = independent_bands(covariance)
    inside = covariance[np.ix_(kept, kept)]
    found = regression_noise(inside)
    if count is not None:
        found = residual_noise(inside, found, count)
    sigma = np.zeros(len(covariance))
    sigma[kept] = found
    others = ~kept & (np.diag(covariance) > 0)
    if others.any():
        w = np.linalg.solve(inside, covariance[np.ix_(kept, others)])
        sigma[others] = np.sqrt(found**2 @ w**2)
    return sigma


def smooth(cube: NDArray[Any]) -> NDArray[np.floating]:
    """Each band of (bands, rows, cols) smoothed by the binomial 1 2 1 along rows and columns, mirrored at the edges, so
    that a pixel there has no more weight than CENTRE in its own result; float32, or the wider type of ``cube``."""
    kind = np.promote_types(cube.dtype, np.float32)
    kernel = np.array([0.25, 0.5, 0.25], kind)
    half = correlate1d(cube.astype(kind, copy=False), kernel, axis=1, mode="mirror")
    return np.asarray(correlate1d(half, kernel, axis=2, mode="mirror"))


def spatial_noise(cube: Cube) -> Real:
    """Standard deviation (bands,) of the noise of each band of (bands, rows, cols), from its finest details alone.

    1.4826 times the median of the absolute diagonal Haar wavelets, (a - b - c + d) / 2 of 2 x 2 pixels (Donoho and
    Johnstone, Biometrika 81(3), 1994). Fine texture counts as noise; 0 for an image less than two pixels wide.
    """
    if min(cube.shape[1:]) < 2:
        return np.zeros(len(cube))
    diagonal = (cube[:, :-1, :-1] - cube[:, :-1, 1:] - cube[:, 1:, :-1] + cube[:, 1:, 1:]) / 2
    return np.asarray(1.4826 * np.median(np.abs(diagonal), axis=(1, 2)), np.float64)


def robust_statistics(
    spectra: NDArray[np.floating], missing: NDArray[np.bool_] | None = None, rounds: int = 4, reach: float = 3.0
) -> tuple[Real, Real, Real]:
    """(mean, noise, spectra without outliers) of ``spectra`` (bands, n) of which some samples are outliers.

    The residual r of the regression of each band on all others, r = C^-1 (y - mean) / diag(C^-1), shows an outlier in
    its own band. Its spread is taken from the median absolute deviation; samples whose residual exceeds ``reach`` of
    it are replaced by what the other bands predict, and everything is taken anew from what results (a redescending
    estimator; Huber, Robust Statistics, 1981, section 4.8). Where outliers are too many to stand out, such as salt in
    most pixels of a dark band, they pull the mean, which the median of the residuals takes back, and count as noise.

    ``missing`` (bands, n) : samples that hold nothing; they begin at the median of the others and are always replaced.
    """
    y = spectra.astype(np.float64)
    if missing is not None:
        start = [np.median(line[~lost]) for line, lost in zip(y, missing, strict=True)]
        y = np.where(missing, np.array(start)[:, None], y)
    for _ in range(rounds):
        mean = y.mean(axis=1)
        x = y - mean[:, None]
        covariance = x @ x.T / x.shape[1]
        scale = np.sqrt(np.diag(covariance))
        safe = np.where(scale > 0, scale, 1)
        inverse = np.linalg.inv(covariance / np.outer(safe, safe) + RIDGE * np.eye(len(safe)))
        residual = (inverse @ (x / safe[:, None])) / np.diag(inverse)[:, None] * scale[:, None]
        middle = np.median(residual, axis=1)
        sigma = 1.4826 * np.median(np.abs(residual - middle[:, None]), axis=1)
        outlying = np.abs(residual) > reach * sigma[:, None]
        y -= np.where(outlying if missing is None else outlying | missing, residual, 0)
    return y.mean(axis=1) + middle, np.maximum(sigma, band_noise(np.cov(y, bias=True))), y


@dataclass(frozen=True)
class Lined:
    """The columns of an image that has outliers, which of them those of its sample are, and which pixels of the sample
    (rows, cols) are valid."""

    summary: ColumnSummary
    columns: NDArray[np.integer]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Subspace:
    """Where the signal of an image lies: y = mean + sigma * (A g + unit noise), spectrum by spectrum.

    mean, sigma (bands,) in units of the image. eigenvalues (bands,), descending, of the covariance of the whitened
    image; basis (bands, bands), its orthonormal eigenvectors in that order; rank, how many of them hold signal.
    A (bands, k), orthonormal: the directions estimated with what is known of signal, see :func:`signal_directions`.
    lines : stripes and dead columns of the image, where these were looked for.
    """

    mean: Real
    sigma: Real
    eigenvalues: Real
    basis: Real
    rank: int
    A: Real
    lines: Lines | None = None

    def scaled(self, cube: NDArray[np.floating]) -> NDArray[np.float32]:
        """(cube - mean) / sigma, float32 (bands, rows, cols), computed in the type of ``cube``."""
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
        return np.asarray(whitened * scale + shift, kind)


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
    values, vectors = _eigen(covariance / scale)
    rank = _rank(values, count)
    most = MOST
    if near is None:
        centre = CENTRE_TWICE if robust else CENTRE
        near, near_count, most = covariance - (1 - centre) * np.diag(sigma**2), count, max(LEAST, rank)
    A = signal_directions(near / scale, sigma, near_count or count, least=rank, most=most, robust=robust)
    return Subspace(mean, sigma, values, vectors, rank, A, lines)


def signal_directions(
    near: Real, sigma: Real, count: int, *, least: int = 1, most: int = MOST, robust: bool = False
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
    w, A = _eigen(C)
    most = min(most, MOST_ROBUST) if robust else most
    k = min(bands, most, max(LEAST, least, _rank(w / centre + 1, effective)))
    w, A = w[:k], A[:, :k]
    if bands < WINDOW:
        return np.ascontiguousarray(A)
    for turn in range(1 if robust else 1 + TURNS):
        if turn:
            w, U = _eigen(A.T @ C @ A)
            A = C @ A @ U / np.maximum(w, SLIGHT)
        signal = np.maximum(w, SLIGHT)
        noise = np.clip(np.sqrt((signal + squares) / count) / signal, 1e-9, bands**-0.5)
        columns = [_smooth_spectrum(sigma * a, e * sigma) for a, e in zip(A.T, noise, strict=True)]
        A, _ = np.linalg.qr(np.stack(columns, axis=1) / sigma[:, None])
    return np.asarray(A)


def _eigen(covariance: Real) -> tuple[Real, Real]:
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1], vectors[:, ::-1]


def _rank(values: Real, count: float) -> int:
    edge = CONFIDENCE * (1 + np.sqrt(len(values) / max(count, 1))) ** 2
    return max(1, int((values > edge).sum()))


def _smooth_spectrum(spectrum: Real, noise: Real) -> Real:
    """``spectrum`` (bands,), whose noise has the standard deviations ``noise`` (bands,), without most of it.

    In windows of WINDOW bands at every offset the spectrum is the sum of the cosines whose coefficients exceed CUT
    times their noise (hard thresholding, Donoho and Johnstone, Biometrika 81(3), 1994), and of the mean. Their
    coefficients are fitted again by least squares weighted by 1 / noise^2, so that a noisy band does not spoil a clean
    neighbour. Windows overlap in the mean weighted by the inverse variance of their fit, band by band.
    """
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


def tells_little(bands: int, count: int) -> bool:
    """Whether the noise of a band cannot be told from the others in ``count`` spectra."""
    return bands < FEW or count <= bands


def estimate_subspace(
    plain: Moments, near: Moments | None, sample: Cube, *, sigma: Real | None = None, lined: Lined | None = None
) -> Subspace:
    """The subspace of an image from the moments of its spectra, and of these with what :func:`smooth` makes of them.

    sample (bands, rows, cols) : the image, or a part that stands for it, without holes. sigma : noise (bands,) where it
    is known; else it is that of :func:`band_noise`, or of :func:`spatial_noise` where :func:`tells_little`. lined :
    some samples are outliers, also along whole columns, which are given here; mean, noise and covariance are then those
    of the sample without them.
    """
    mean, covariance, count = plain.mean, plain.covariance, plain.count
    few = tells_little(len(mean), count)
    robust = lined is not None and not few
    lines: Lines | None = None
    if lined is not None and not few:
        mean, noise, spectra, lines = _without_outliers(sample, lined)
        covariance, count = np.cov(spectra, bias=True), spectra.shape[1]
        whole = binary_erosion(lined.valid, np.ones((3, 3), bool), border_value=1)
        repaired = sample.astype(np.float32)
        repaired[:, lined.valid] = spectra
        near = Moments(len(mean))
        smoothed = smooth(repaired)[:, whole]
        near.add(smoothed, smoothed)
    covariance = np.atleast_2d(covariance)
    if sigma is not None:
        noise = sigma
    elif few:
        noise = spatial_noise(sample)
    elif not robust:
        # With outliers the regression's excess is of use: it is largest in bands that keep some, which then count less.
        noise = band_noise(covariance, count)
    # A band without measurable noise still needs a scale to be divided by.
    noise = np.maximum(noise, 1e-6 * np.sqrt(np.diag(plain.covariance)))
    if near is not None and (near.count <= SQUARES * count or min(sample.shape[1:]) < 2):
        near = None  # between so many holes the covariance tells more; a line of pixels is its own neighbour
    beside, near_count = (None, None) if near is None else (near.covariance, near.count)
    return signal_subspace(mean, covariance, beside, noise, count, near_count=near_count, robust=robust, lines=lines)


def _without_outliers(sample: Cube, lined: Lined) -> tuple[Real, Real, Real, Lines]:
    """(mean, noise, spectra, lines): :func:`robust_statistics` of a sample (bands, rows, cols) before and after its
    lines are found and their offsets are taken off."""
    bands, rows, cols = sample.shape

    def along(values: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(values[:, None, lined.columns], (bands, rows, cols))[:, lined.valid]

    spectra = sample[:, lined.valid]
    dead = lined.summary.dead()
    missing = along(dead) if dead.any() else None
    mean, noise, cleaned = robust_statistics(spectra, missing)
    lines = find_lines(lined.summary, mean, np.cov(cleaned, bias=True))
    if lines.stripes:
        mean, noise, cleaned = robust_statistics(spectra - along(lines.offset), missing)
    return mean, noise, cleaned, lines


def subspace_of(cube: Cube, *, sigma: Real | None = None, robust: bool = False) -> Subspace:
    """:func:`estimate_subspace` of a cube (bands, rows, cols) in memory, without holes.

    robust : some of its samples are outliers.
    """
    plain, near = Moments(len(cube)), Moments(len(cube))
    spectra = cube.reshape(len(cube), -1)
    plain.add(spectra)
    near.add(spectra, smooth(cube).reshape(len(cube), -1))
    every = np.ones(cube.shape[1:], bool)
    lined = Lined(column_summary(cube), np.arange(cube.shape[2]), every) if robust else None
    return estimate_subspace(plain, near, cube, sigma=sigma, lined=lined)


def published_subspace(sample: Cube) -> Subspace:
    """What the published scripts of SMDS-Net hand their network: a cube divided by its maximum, HySime's basis.

    sample (bands, rows, cols) : the image, or a part that stands for it. The basis is that of the sample after
    multichannel non-local means (patch 7, distance 9, h 0.08), with noise from regression on the other bands.
    """
    from skimage.restoration import denoise_nl_means

    top = float(sample.max()) or 1.0
    y = np.moveaxis(sample / top, 0, -1).astype(np.float64)
    sigma = float(np.mean(spatial_noise(sample / top)))
    smoothed = denoise_nl_means(
        y, patch_size=7, patch_distance=9, h=0.08, sigma=sigma, fast_mode=True, channel_axis=-1
    ).reshape(-1, len(sample))
    correlation = smoothed.T @ smoothed / len(smoothed)
    noise = np.diag(regression_noise(np.cov(smoothed.T, bias=True)) ** 2)
    rank, basis = hysime(correlation, noise)
    ones = np.ones(len(sample))
    k = min(len(sample), max(1, rank))
    return Subspace(0 * ones, top * ones, np.linalg.eigvalsh(correlation)[::-1], basis, k, basis[:, :k])


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
