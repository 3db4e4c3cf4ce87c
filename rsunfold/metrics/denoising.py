"""Figures of merit for denoised cubes: against a clean cube, and without one.

x clean, y restored, both at the valid pixels; b a band; R the data range that the caller states;
mse_b = mean (x_b - y_b)^2.

- PSNR = mean over bands of 10 log10(R^2 / mse_b), in dB; the global one has the mse of all bands in one logarithm.
- SSIM = mean over bands, Gaussian window 11 x 11 with sigma 1.5, population covariance (Wang et al., TIP 2004).
- SAM = mean over pixels of the angle between the spectra x and y (Kruse et al., 1993).
- ERGAS = 100 h/l sqrt(mean over bands of mse_b / mean(x_b)^2) with h/l = 1 (Wald, 2000).

A figure that does not exist, such as the PSNR of two identical bands, is None, never an infinity or NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.arrays import Mask
from rsunfold.errors import InputError, UsageError
from rsunfold.metrics.counted import counted

WINDOW = 11  # pixels, side of the SSIM's window, which skimage cuts at 3.5 sigma
SIGMA = 1.5  # pixels

CONVENTIONS = {
    "psnr": "dB; mean over bands of 10 log10(data_range^2 / mse_b), bands without any error left out",
    "psnr_global": "dB; 10 log10(data_range^2 / mse over all bands and valid pixels)",
    "ssim": "mean over bands; Gaussian window 11 x 11, sigma 1.5, population covariance, K1 0.01, K2 0.03, data_range "
    "as stated; mean of the map over the pixels whose whole window is valid and inside the image",
    "sam_radians": "mean over valid pixels of arccos(<x, y> / (|x| |y|)), cosine clipped to [-1, 1]; pixels whose "
    "clean or restored spectrum is 0 left out",
    "sam_degrees": "sam_radians times 180 / pi",
    "ergas": "100 h/l sqrt(mean over bands of mse_b / mean(clean_b)^2), h/l = 1; bands whose clean mean is 0 left out",
}
PUBLISHED_ERGAS = (
    "100 sqrt(mean over bands of mse_b / mean(restored_b)), as scripts of published networks compute it: the mean of "
    "the restored band, not squared; bands whose restored mean is 0 or less left out"
)

Values = NDArray[np.float64]


def quality(
    clean: NDArray[Any],
    restored: NDArray[Any],
    *,
    data_range: float = 1.0,
    valid: Mask | None = None,
    published_ergas: bool = False,
) -> dict[str, Any]:
    """How near ``restored`` is to ``clean``, both (bands, rows, cols), as a dictionary that ``json`` can write.

    data_range : R of the module's text, in the units of the cubes. valid : bool (rows, cols), False at nodata, whose
    values are not looked at; None when every pixel counts. published_ergas : adds ``ergas_published_code``.

    ``psnr_per_band`` and ``ssim_per_band`` have one entry per band. ``identical`` says that no valid value differs;
    then the PSNR is None. The SSIM is None where no 11 x 11 window is valid throughout. ``bands_identical``,
    ``ssim_pixels``, ``sam_pixels_left_out`` and ``ergas_bands`` say what the figures rest on, ``conventions`` how
    each is computed.
    Raises InputError when shapes differ, no pixel is valid, or a valid value is not finite; UsageError for a data
    range that is not above 0.
    """
    if not 0 < data_range < math.inf:
        raise UsageError(f"the data range must be a number above 0, got {data_range}.")
    valid = _checked(clean, restored, valid)
    from scipy import ndimage

    whole = ndimage.binary_erosion(valid, np.ones((WINDOW, WINDOW), dtype=bool), border_value=0)
    bands, pixels = len(clean), int(valid.sum())
    mse, clean_mean, restored_mean = np.zeros((3, bands))
    product, clean_square, restored_square = np.zeros((3, pixels))
    ssim: list[float | None] = []
    for b in range(bands):
        x = _values(clean[b], valid, f"band {b + 1} of the clean cube")
        y = _values(restored[b], valid, f"band {b + 1} of the restored cube")
        mse[b] = np.mean((x - y) ** 2)
        clean_mean[b], restored_mean[b] = x.mean(), y.mean()
        product += x * y
        clean_square += x * x
        restored_square += y * y
        ssim.append(_ssim(x, y, valid, whole, data_range))

    psnr = [_decibel(data_range, error) for error in mse]
    norm = np.sqrt(clean_square) * np.sqrt(restored_square)
    angle = np.arccos(np.clip(product[norm > 0] / norm[norm > 0], -1, 1))
    sam = float(angle.mean()) if angle.size else None
    used = clean_mean != 0
    answer: dict[str, Any] = {
        "data_range": float(data_range),
        "pixels": pixels,
        "nodata_pixels": int(valid.size - pixels),
        "bands": bands,
        "identical": not mse.any(),
        "bands_identical": int(np.sum(mse == 0)),
        "psnr": _mean(psnr),
        "psnr_global": _decibel(data_range, mse.mean()),
        "ssim": _mean(ssim),
        "ssim_pixels": int(whole.sum()),
        "sam_radians": sam,
        "sam_degrees": None if sam is None else math.degrees(sam),
        "sam_pixels_left_out": pixels - angle.size,
        "ergas": _ergas(mse[used] / clean_mean[used] ** 2),
        "ergas_bands": int(used.sum()),
        "psnr_per_band": psnr,
        "ssim_per_band": ssim,
        "conventions": dict(CONVENTIONS),
    }
    if published_ergas:
        positive = restored_mean > 0
        answer["ergas_published_code"] = _ergas(mse[positive] / restored_mean[positive])
        answer["conventions"]["ergas_published_code"] = PUBLISHED_ERGAS
    return answer


def residual_structure(residual: NDArray[Any], valid: Mask | None = None) -> Values:
    """How much structure a residual (noisy - restored), (bands, rows, cols), still holds: figures without truth.

    (2, bands) : of each band the autocorrelation between neighbours, down the rows and along the columns: near 0 for
    white noise, larger where the denoiser took away signal, and in one direction where it rightly took away stripes.
    valid : bool (rows, cols); only pairs of two valid pixels count. NaN for a constant band and without any pair.
    Raises InputError for a wrong shape, no valid pixel, or a valid value that is not finite.
    """
    valid = _checked(residual, residual, valid)
    pairs = [valid[1:] & valid[:-1], valid[:, 1:] & valid[:, :-1]]
    counts = [int(pair.sum()) for pair in pairs]
    answer = np.full((2, len(residual)), np.nan)
    for b, band in enumerate(residual):
        values = _values(band, valid, f"band {b + 1} of the residual")
        if np.all(values == values[0]):  # asked of the values: the variance of equal ones is rounded to above 0
            continue
        x = _image(values - values.mean(), valid)
        sums = [np.sum(x[1:] * x[:-1]), np.sum(x[:, 1:] * x[:, :-1])]  # x is 0 at invalid pixels
        answer[:, b] = [total / n / x[valid].var() if n else np.nan for total, n in zip(sums, counts, strict=True)]
    return answer


def _checked(first: NDArray[Any], second: NDArray[Any], valid: Mask | None) -> Mask:
    """The valid mask, after checking everything but the values."""
    if first.ndim != 3 or first.shape != second.shape or not first.size:
        raise InputError(f"cubes to compare need one shape (bands, rows, cols), got {first.shape} and {second.shape}.")
    valid = np.ones(first.shape[1:], dtype=bool) if valid is None else valid
    if valid.shape != first.shape[1:] or valid.dtype != np.bool_:
        raise InputError(
            f"the valid mask must be boolean with shape {first.shape[1:]}, got {valid.dtype} of shape {valid.shape}."
        )
    valid = counted(valid, first, second)
    if not valid.any():
        raise InputError("no pixel is valid; there is nothing to compare.")
    return valid


def _values(band: NDArray[Any], valid: Mask, name: str) -> Values:
    values = np.ma.getdata(band)[valid].astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name} is NaN or infinite at valid pixels; mark them as nodata.")
    return values


def _image(values: Values, valid: Mask) -> Values:
    """The valid pixels' values put back into their places, 0 elsewhere; (rows, cols)."""
    image = np.zeros(valid.shape)
    image[valid] = values
    return image


def _ssim(x: Values, y: Values, valid: Mask, whole: Mask, data_range: float) -> float | None:
    """Mean of one band's SSIM map where ``whole``; the fill of invalid pixels is outside those windows."""
    if not whole.any():
        return None
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        _image(x, valid),
        _image(y, valid),
        data_range=data_range,
        gaussian_weights=True,
        sigma=SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[whole].mean())


def _decibel(data_range: float, mse: float) -> float | None:
    return 20 * math.log10(data_range) - 10 * math.log10(mse) if mse else None


def _ergas(terms: Values) -> float | None:
    return float(100 * np.sqrt(terms.mean())) if terms.size else None


def _mean(values: list[float | None]) -> float | None:
    """Mean of the values that are not None; None when there is none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
