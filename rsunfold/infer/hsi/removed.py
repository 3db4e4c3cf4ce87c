"""What a denoiser took away, gathered strip by strip: figures for each band, and what the pictures show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.infer.spectral import SpectralImage
from rsunfold.metrics.denoising import residual_structure
from rsunfold.noise import spatial_noise, whole_squares
from rsunfold.report import NoisyBand, denoising_picture, noise_picture, worst_bands_picture
from rsunfold.subspace import Subspace

Spectra = NDArray[np.float32]

PICTURE_SIDE = 700
SHOWN_BANDS, SHOWN_PIXELS = 4, 4


def _squares(gone: Spectra, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(bands,): sums of the squares of ``gone`` (bands, h, cols) over valid pixels."""
    some = gone[:, valid]
    return np.asarray(np.einsum("bn,bn->b", some, some, dtype=np.float64))


class Removed:
    """Sums over strips, fed from top to bottom.

    subspace : of the image, with its noise. pixels : (row, col), all inside the image, whose spectra are kept; empty
    chooses valid ones, those next to places spread over it. pictures : also keep what the pictures need.
    """

    def __init__(
        self, image: SpectralImage, subspace: Subspace, pixels: Sequence[tuple[int, int]], *, pictures: bool
    ) -> None:
        self.image, self.subspace, self.with_pictures = image, subspace, pictures
        spread = np.sqrt(np.diag(image.statistics.moments.covariance))
        noisiest = np.argsort(-subspace.noise / np.maximum(spread, 1e-30), kind="stable")
        # Of a large image, all bands would take more memory than the image's own strips.
        self.shown = [int(noisiest[len(noisiest) // 2]), *noisiest[:SHOWN_BANDS].tolist()]
        bands = len(image.bands)
        self.step = math.ceil(max(image.rows, image.cols) / PICTURE_SIDE)
        self.square, self.modelled = np.zeros((2, bands))
        self.count = np.zeros(bands, int)
        self.structure: list[tuple[int, NDArray[np.float64]]] = []
        self.spatial: list[tuple[int, Any, Any]] = []
        self.small: list[tuple[Spectra, Spectra]] = []
        self.nearest: dict[tuple[int, int], tuple[int, tuple[int, int], Spectra, Spectra]] = {}
        self.given = list(pixels)
        share = (np.arange(SHOWN_PIXELS) + 0.5) / SHOWN_PIXELS
        # Spread over rows, and over columns in another order.
        rows, cols = (share * image.rows).astype(int), (np.roll(share[::-1], 1) * image.cols).astype(int)
        self.places = self.given or list(zip(rows.tolist(), cols.tolist(), strict=True))

    def add_modelled(self, before: Spectra, found: Spectra, valid: NDArray[np.bool_]) -> None:
        """Take what a model finds in the next strip (bands that take part, h, cols), before it is rounded to the type
        of the output."""
        self.modelled += _squares(before - found, valid)

    def add(self, row: int, before: Spectra, after: Spectra, valid: NDArray[np.bool_], lost: NDArray[np.bool_]) -> None:
        """Take the strip whose first row is ``row``: (bands that take part, h, cols) before and after, the same where
        samples are ``lost``."""
        gone = before - after
        self.square += _squares(gone, valid)
        self.count += (valid & ~lost).sum(axis=(1, 2))
        if valid.any():
            self.structure.append((int(valid.sum()), residual_structure(gone, valid)))
        if not self.with_pictures:
            return
        squares = int(whole_squares(valid).sum())
        if squares:
            self.spatial.append((squares, spatial_noise(before, valid), spatial_noise(after, valid)))
        pixels = np.argwhere(np.ones_like(valid) if self.given else valid)
        for place in self.places if len(pixels) else ():
            apart = np.square(pixels - (place[0] - row, place[1])).sum(axis=1)
            i = int(apart.argmin())
            if place not in self.nearest or apart[i] < self.nearest[place][0]:
                r, c = (int(n) for n in pixels[i])
                self.nearest[place] = int(apart[i]), (row + r, c), before[:, r, c].copy(), after[:, r, c].copy()
        some = np.s_[-row % self.step :: self.step, :: self.step]
        hole = ~valid[some]
        small = before[(slice(None), *some)][self.shown], after[(slice(None), *some)][self.shown]
        for part in small:
            part[:, hole] = np.nan
        self.small.append(small)

    @property
    def rms(self) -> NDArray[np.float64]:
        """(bands that take part,): root mean square of what was removed from the valid pixels."""
        return np.asarray(np.sqrt(self.square / np.maximum(1, self.count)))

    @property
    def modelled_rms(self) -> NDArray[np.float64]:
        """The same of what the model removed, without what rounding and clipping added."""
        return np.asarray(np.sqrt(self.modelled / np.maximum(1, self.count)))

    @property
    def correlations(self) -> NDArray[np.float64]:
        """(2, bands that take part): lag-1 autocorrelation of what was removed, down the rows and along the columns;
        NaN where it is not known."""
        total, weight = np.zeros((2, 2, len(self.square)))
        for pixels, values in self.structure:
            good = np.isfinite(values)
            total[good] += pixels * values[good]
            weight[good] += pixels
        return np.asarray(np.where(weight > 0, total / np.maximum(weight, 1), np.nan))

    @property
    def autocorrelation(self) -> NDArray[np.float64]:
        """(bands that take part,): the mean of :attr:`correlations`, or the one that is known."""
        down, along = self.correlations
        return np.asarray(np.where(np.isnan(down), along, np.where(np.isnan(along), down, (down + along) / 2)))

    def _texture(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Noise from the finest wavelets before and after, (bands that take part,) each; NaN where it is not known."""
        if not self.spatial:
            unknown = np.full(len(self.image.bands), np.nan)
            return unknown, unknown
        weight = np.array([w for w, _, _ in self.spatial], float)
        return tuple(  # type: ignore[return-value]
            np.average([s[i] for s in self.spatial], axis=0, weights=weight) for i in (1, 2)
        )

    def table(self) -> list[dict[str, Any]]:
        """For the JSON summary: a row for each band that takes part."""
        extra: dict[str, NDArray[np.float64]] = {}
        if self.with_pictures and self.structure:
            before, after = self._texture()
            extra = {
                "finest_wavelets_before": before,
                "finest_wavelets_after": after,
                "residual_autocorrelation": self.autocorrelation,
            }
        wavelengths, rms = self.image.meta.wavelengths, self.rms
        return [
            {
                "band": band + 1,
                "wavelength_nm": wavelengths[band] if wavelengths else None,
                "noise_sigma": float(self.subspace.noise[k]),
                "removed_rms": float(rms[k]),
                **{name: float(values[k]) for name, values in extra.items()},
            }
            for k, band in enumerate(self.image.bands)
        ]

    def pictures(self, paths: dict[str, Path], *, title: str) -> None:
        """Write the three pictures: ``report``, ``bands`` and ``noise``."""
        image, bands = self.image, np.array(self.image.bands)
        shape = image.rows, image.cols
        before, after = (np.concatenate(parts, axis=1) for parts in zip(*self.small, strict=True))
        middle = self.shown[0]
        units = image.meta.units[0] if image.meta.units else ""
        wavelengths = image.meta.wavelengths
        bad = np.ones(image.count, bool)
        bad[bands] = False

        found = {pixel: spectra for _, pixel, *spectra in self.nearest.values()}
        pixels = self.given or list(found)
        spectra = [
            image.among_all(np.array([found[p][i] for p in pixels]).reshape(len(pixels), len(bands))) for i in (0, 1)
        ]
        denoising_picture(
            paths["report"],
            before[0],
            after[0],
            *spectra,
            band=int(bands[middle]) + 1,
            pixels=pixels,
            wavelengths=wavelengths,
            bad=bad,
            units=units,
            title=f"{title}; a band of medium noise",
            shape=shape,
        )
        was, now = self._texture()
        worst_bands_picture(
            paths["bands"],
            [
                NoisyBand(
                    int(bands[k]) + 1,
                    before[i],
                    after[i],
                    float(was[k]),
                    float(now[k]),
                    wavelengths[bands[k]] if wavelengths else math.nan,
                )
                for i, k in enumerate(self.shown[1:], start=1)
            ],
            units=units,
            title=f"{title}; the bands with the largest share of noise",
            shape=shape,
        )
        noise_picture(
            paths["noise"],
            image.among_all(was),
            image.among_all(now),
            image.among_all(self.autocorrelation),
            noise=image.among_all(self.subspace.noise),
            wavelengths=wavelengths,
            bad=bad,
            title=title,
            units=units,
        )
