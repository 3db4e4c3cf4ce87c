"""PSTNN: stacked patches whose background has few tensor singular values, which may be large, beside sparse targets."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.classical.ipi import Patches
from rsunfold.errors import UsageError
from rsunfold.registry import register

LEVELS = 255.0  # white, in the gray levels that the constants below are meant for
MU, RHO = 2e-3, 1.05  # first penalty and its growth
ITERATIONS, TOLERANCE = 500, 1e-3
SHARE = 0.1  # of the largest singular value: those of at least so much are free
EPS = 0.01  # of the reweighting, gray levels
SIGMA, SIGMA_TENSOR, REACH = 2.0, 9.0, 1  # Gaussians before and after the gradient, cut to 3 x 3 pixels


@register(
    "pstnn",
    task="detect-ir",
    kind="classical",
    paper="Zhang and Peng, Infrared small target detection based on partial sum of the tensor nuclear norm, Remote "
    "Sensing 11(4), 2019",
    url="https://doi.org/10.3390/rs11040382",
    needs="one band in [0, 1]; targets brighter than their surroundings and smaller than a patch",
    threshold=0.1342,
)
class PSTNN:
    """score = T of min |B|_PSTNN + lam |W T|_1 subject to D = B + T, T >= 0, D the patch-tensor: gray levels.

    D (n1, n2, n3) stacks the n3 patches of the image. With the frontal slices F_i of the Fourier transform of B along
    the stack, |B|_PSTNN = (1/n3) sum over i of the singular values of F_i but for the N largest: what repeats from
    patch to patch costs nothing, however strong it is. N is the number of singular values of D, unfolded along the
    stack, that reach a tenth of the largest. One iteration of ADMM with multipliers Y and penalty mu, from 0.002 by
    1.05 (gray levels from 0 to 255, also below):

        B = prox of |.|_PSTNN / mu at D - T - Y/mu: the N largest values of each slice stay, 1/mu is taken off the rest
        T = max(D - B - Y/mu - lam W / mu, 0)
        W = N / (T + 0.01) / W_LS, at first 1
        Y = Y + mu (B + T - D)

    It stops where |B + T - D| < 0.001 |D| or where T has as many entries above 0 as in the iteration before, often
    after a few. W_LS in [0, 1], high at corners and spots and low along edges, is l1^2 l2 / (l1 + l2) of the
    eigenvalues l1 >= l2 of the structure tensor, stretched over the image.

    A lone spot on a flat image is itself a single value, the free one, in each slice, and is lost: the model needs
    clutter that is stronger than the target, as real images have.

    patch, step : side of the patches and distance from one to the next, pixels; the last ones are aligned with the
    border. lam : in units of 1 / sqrt(max(n1, n2) n3). The paper has, as far as we know, 0.6; the authors' program,
    from which the other constants are taken, has 0.7. Departures from that program: where patches overlap the result is
    their mean instead of the last one, and the unfolding for N keeps the pixels of a patch together.

    The registered threshold is the one that gives the largest IoU, 0.188, pooled over training images of NUDT-SIRST,
    IRSTD-1k and SIRST (479 images, native size, gray / 255).

    Raises UsageError for sides and weights that are not positive.
    """

    radius: ClassVar[None] = None
    tile: ClassVar[None] = None

    def __init__(self, patch: int = 40, step: int = 40, lam: float = 0.6) -> None:
        if patch < 1 or not 1 <= step <= patch:
            raise UsageError(f"pstnn needs patches of pixels that leave no gap, got {patch} every {step}.")
        if not 0 < lam < math.inf:
            raise UsageError(f"the weight lam of pstnn must be above 0, got {lam}.")
        self.patch, self.step, self.lam = patch, step, lam

    @property
    def overlap(self) -> int:
        """Pixels that tiles share, where an image does not fit in memory."""
        return self.patch

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory per pixel: arrays of the size of the patch-tensor, in which it occurs so many times."""
        return 128.0 * math.ceil(self.patch / self.step) ** 2

    def score(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score of ``image``, float32 (H, W) in about [0, 1] and finite; float32 (H, W), 0 or more, gray levels.

        W_LS and the number of patches depend on the whole image. A constant image scores 0.
        """
        gray = np.asarray(image, dtype=np.float32) * np.float32(LEVELS)
        if gray.min() == gray.max():
            return np.zeros_like(gray)
        patches = Patches(gray.shape, self.patch, self.step)
        D, W = (patches.cut(a).reshape(-1, *patches.sides) for a in (gray, local_structure(gray)))
        T = separate(D, W, self.lam / math.sqrt(max(patches.sides) * len(D)))
        return np.asarray(patches.mean(T) / np.float32(LEVELS))


def local_structure(gray: Floats) -> Floats:
    """W_LS (H, W) in [0, 1] of ``gray``, see :class:`PSTNN`."""
    from scipy.ndimage import gaussian_filter

    u = gaussian_filter(gray.astype(np.float64), SIGMA, radius=REACH)
    gy, gx = (np.gradient(u, axis=k) if u.shape[k] > 1 else np.zeros_like(u) for k in (0, 1))
    a, b, c = (gaussian_filter(p, SIGMA_TENSOR, radius=REACH) for p in (gx * gx, gx * gy, gy * gy))
    root = np.sqrt((a - c) ** 2 + 4 * b * b)
    large, small = (a + c + root) / 2, np.maximum(a + c - root, 0) / 2
    corner = np.divide(large * small, large + small, out=np.zeros_like(u), where=large > 0) * large
    return np.asarray((corner - corner.min()) / (np.ptp(corner) or 1), np.float32)


def free_values(D: Floats) -> int:
    """N, 1 or more, of D (n3, n1, n2)."""
    X = D.reshape(len(D), -1).astype(np.float64)
    s = np.sqrt(np.maximum(np.linalg.eigvalsh(X @ X.T if len(X) < X.shape[1] else X.T @ X), 0))
    return max(1, int((s >= SHARE * s[-1]).sum()))


def shrink_tensor(A: Floats, limit: float, free: int) -> Floats:
    """argmin of limit |B|_PSTNN + |B - A|^2 / 2 for A (n3, n1, n2) with N = ``free``.

    A slice F = U diag(s) V' becomes U diag(gain) U' F, so that the eigenvectors of F F' suffice. Of the slices of a
    real tensor, half are conjugates of the others.
    """
    from scipy import fft

    if A.shape[1] > A.shape[2]:
        return shrink_tensor(A.swapaxes(1, 2), limit, free).swapaxes(1, 2)
    F = fft.rfft(A, axis=0)
    values, U = np.linalg.eigh(F @ F.conj().swapaxes(1, 2))
    s = np.sqrt(np.maximum(values, 0))
    gain = 1 - limit / np.maximum(s, limit)
    gain[:, max(0, gain.shape[1] - free) :] = 1
    kept = (U * gain[:, None].astype(U.real.dtype)) @ U.conj().swapaxes(1, 2)
    return np.asarray(fft.irfft(kept @ F, n=len(A), axis=0), A.dtype)


def separate(D: Floats, W_LS: Floats, lam: float) -> Floats:
    """T of D, both (n3, n1, n2), as :class:`PSTNN` describes."""
    free = free_values(D)
    size = float(np.linalg.norm(D))
    # Where the prior is 0 no target can be, however bright.
    scale = np.divide(free, W_LS, out=np.full_like(D, np.inf), where=W_LS > 0)
    T, Y, W = np.zeros_like(D), np.zeros_like(D), np.ones_like(D)
    mu, count = MU, 0
    for _ in range(ITERATIONS):
        B = shrink_tensor(D - T - Y / np.float32(mu), 1 / mu, free)
        T = np.maximum(D - B - Y / np.float32(mu) - np.float32(lam / mu) * W, 0)
        W = scale / (T + np.float32(EPS))
        B += T
        B -= D
        before, count = count, int(np.count_nonzero(T))
        if float(np.linalg.norm(B)) < TOLERANCE * size or before == count > 0:
            break
        B *= np.float32(mu)
        Y += B
        mu *= RHO
    return T
