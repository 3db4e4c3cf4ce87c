"""FastHyDe-type denoising: each image of the signal subspace on its own, by non-local means and a Wiener filter."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Floats
from rsunfold.registry import register
from rsunfold.subspace import Subspace

# Chosen once, by the mean PSNR over six training cubes with i.i.d. noise of sigma 10, 30, 50 and 70.
PATCH = 5  # pixels, side of the patches that non-local means is asked to compare
DISTANCE = 5  # pixels, farthest patch in each direction
H = 0.8  # in units of the noise: patches that differ by more hardly count
BLOCK = 8  # pixels, side of the blocks of the Wiener filter
STRIP = 1024  # blocks filtered at a time, which bounds their memory


@register(
    "fasthyde",
    task="denoise-hsi",
    kind="classical",
    paper="Zhuang and Bioucas-Dias, Fast hyperspectral image denoising and inpainting based on low-rank and sparse "
    "representations, IEEE JSTARS 11(3), 2018",
    url="https://doi.org/10.1109/JSTARS.2018.2796570",
    bands=(1, None),
    needs="bands that share a signal subspace; Gaussian noise, which may differ from band to band",
)
class FastHyDe:
    """Z = A' Y; z_k <- denoiser(z_k) for k = 1 .. rank; X = A Z, with A the signal subspace of the whitened image.

    After whitening and rotation every eigen-image z_k holds white noise of standard deviation 1, so one denoiser of
    single images serves them all, without a parameter.

    The paper plugs in BM3D, whose code is licensed for non-commercial use only. Here the denoiser has the same two
    steps with simpler parts: a first estimate by non-local means (Buades, Coll and Morel, CVPR 2005), then an
    empirical Wiener filter on the cosine transform of overlapping blocks, which takes the signal's power from the
    first estimate (Ghael, Sayeed and Baraniuk, Proc. SPIE 3169, 1997; the second step of BM3D without its grouping).
    On the training cubes the second step adds 0.5 dB on average.
    """

    radius: ClassVar[int] = DISTANCE + PATCH // 2 + BLOCK - 1
    outliers: ClassVar[bool] = False

    def denoise(self, y: Floats, subspace: Subspace) -> Floats:
        """The signal in ``y``, float32 (bands, rows, cols), whitened and centred; same shape, type and units.

        Any number of rows and columns from 1; beyond its border the image is mirrored.
        """
        A = subspace.basis[:, : subspace.rank].astype(np.float32)
        Z = np.tensordot(A.T, y, axes=1)
        for k, z in enumerate(Z):
            Z[k] = wiener(z, non_local_means(z))
        return np.asarray(np.tensordot(A, Z, axes=1), np.float32)

    def bytes_per_pixel(self, bands: int, rank: int) -> float:
        """Working memory, in bytes per pixel, beside the input: the result, the eigen-images, and one in work."""
        return 4.0 * (bands + rank) + 64


def non_local_means(z: Floats) -> Floats:
    """Each pixel of ``z`` (rows, cols) as the mean of those around which the image looks alike; noise 1.

    A patch's weight is exp(-max(d - 2, 0) / (1.25 H)^2), d the mean squared difference of the two patches, of which
    their noise makes up 2. Patches are of 4 x 4 pixels, from one above and left of a pixel to two below and right: the
    fast mode of scikit-image leaves out a row and a column of the PATCH, and divides by all 25. Weights below exp(-5)
    are left out.
    """
    from skimage.restoration import denoise_nl_means

    mean = denoise_nl_means(
        z, patch_size=PATCH, patch_distance=DISTANCE, h=H, sigma=1, fast_mode=True, preserve_range=True
    )
    # It drops axes of length 1.
    return np.asarray(mean, np.float32).reshape(z.shape)


def wiener(z: Floats, estimate: Floats) -> Floats:
    """``z`` (rows, cols) with noise 1, filtered block by block with the signal's power from ``estimate``, same shape.

    For every BLOCK x BLOCK block, of any position: coefficient c of z <- W c with W = p^2 / (p^2 + 1), p the
    coefficient of ``estimate``. Blocks overlap in the mean weighted by 1 / (1 + sum W^2): the noise left in a block
    has the energy sum W^2, and the 1 keeps blocks without signal from outweighing all others.
    """
    T = _cosine_transform()
    rows, cols = z.shape
    margin = BLOCK - 1
    padded, blocks = _blocks(z)
    pilot = _blocks(estimate)[1]
    total, weights = np.zeros_like(padded), np.zeros_like(padded)
    step = max(1, STRIP // blocks.shape[1])
    for top in range(0, len(blocks), step):
        shape = blocks[top : top + step].shape
        W = pilot[top : top + step].reshape(-1, BLOCK**2) @ T.T
        W *= W
        W /= W + 1
        filtered = (W * (blocks[top : top + step].reshape(-1, BLOCK**2) @ T.T)) @ T
        weight = 1 / (1 + np.einsum("ij,ij->i", W, W))
        filtered *= weight[:, None]
        filtered, weight = filtered.reshape(shape), weight.reshape(shape[:2])
        for i in range(BLOCK):
            for j in range(BLOCK):
                part = np.s_[top + i : top + i + shape[0], j : j + shape[1]]
                total[part] += filtered[:, :, i, j]
                weights[part] += weight
    total /= weights
    return total[margin:, margin:][:rows, :cols]


def _blocks(image: Floats) -> tuple[Floats, NDArray[Any]]:
    """``image`` mirrored so far that BLOCK^2 blocks hold each pixel, and a view (rows, cols, BLOCK, BLOCK) of them."""
    padded = np.pad(image, BLOCK - 1, mode="symmetric")
    return padded, np.lib.stride_tricks.sliding_window_view(padded, (BLOCK, BLOCK))


def _cosine_transform() -> Floats:
    """T (BLOCK^2, BLOCK^2), orthonormal: T b is the two-dimensional cosine transform of a block b."""
    from scipy.fft import dct

    C = dct(np.eye(BLOCK), axis=0, norm="ortho")
    return np.kron(C, C).astype(np.float32)
