"""rsunfold: remote-sensing image processing with deep unfolding networks.

The public Python API; heavy libraries are imported when a function is called, not with the package.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

from rsunfold.arguments import Numbers, SomeNumbers, checked, split_names
from rsunfold.errors import UsageError
from rsunfold.registry import DEFAULTS

if TYPE_CHECKING:
    from rsunfold.infer.anomaly.run import Found
    from rsunfold.infer.features.run import Selected
    from rsunfold.infer.hsi.run import Cleaned
    from rsunfold.infer.infrared.detector import Detector
    from rsunfold.infer.infrared.run import Detection
    from rsunfold.io import CubeReader

    Told = TypeVar("Told", Cleaned, Found, Selected)

__version__ = "0.1.0"
__all__ = ["__version__", "denoise_hsi", "detect_anomaly", "detect_ir", "load_detector", "select_features"]


@checked
def detect_ir(
    image: Any,
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    confidence: float | None = None,
    scale: Numbers | None = None,
    band: int | None = None,
    var: str | None = None,
    nodata: float | None = None,
    min_area: int = 1,
    max_area: int | None = None,
    reach: int | None = None,
    stages: bool = False,
    device: str = "auto",
    memory: str | int | None = None,
    detector: Any = None,
) -> Detection:
    """Find small targets in an infrared image and return everything in memory.

    image : path of a file (anything that ``rsunfold info`` reads) or an array (row, col), any real dtype; uint8 is
        divided by 255, other types are scaled by percentiles of the valid pixels, unless ``scale`` = (cold, hot) is
        given, or the weights were made for one, which the summary then says. Not finite values, masked ones
        (``numpy.ma``), and in arrays those equal to ``nodata``, are left out.
    model, weights, band, var, device, memory : see ``rsunfold detect-ir --help``.
    threshold : score in [0, 1] above which a pixel is a target; None takes the one of the weights.
    confidence : score of the mean log odds that a target must exceed; None takes that of the weights, or ``threshold``
        where that is given.
    min_area, max_area : fewest and most pixels of a target; None takes the most of the weights, 0 is any number.
    reach : pixels around a candidate within which others make it less sure: the logarithm of their number is asked of
        its mean log odds in addition; None takes that of the weights, 0 asks nothing, as None does where ``threshold``
        is given without ``confidence``.
    stages : also return every variable of every stage.
    detector : what :func:`load_detector` gave, in place of model, weights, device and memory; for many images.

    Returns a :class:`rsunfold.infer.infrared.run.Detection` with ``score`` (float32, [0, 1], NaN where invalid),
    ``mask`` (bool), ``targets``, ``stages`` and ``summary``. For images larger than memory use the command line, or
    :func:`rsunfold.infer.infrared.run.detect_file`. Raises the errors of :mod:`rsunfold.errors`.
    """
    from rsunfold.infer.infrared.detector import Detector
    from rsunfold.infer.infrared.run import Options, detect_array

    if scale is not None and len(scale) != 2:
        raise UsageError(f"scale must be two numbers, (cold, hot), not {len(scale)}.")
    options = Options(
        threshold=threshold,
        confidence=confidence,
        band=band,
        scale=None if scale is None else (float(scale[0]), float(scale[1])),
        var=var,
        min_area=min_area,
        max_area=max_area,
        reach=reach,
        stages=stages,
    )
    source = _source(image, nodata, var)
    if detector is None:
        detector = load_detector(model, weights=weights, device=device, memory=memory)
    elif not isinstance(detector, Detector):
        raise UsageError("detector must be what load_detector gave.")
    elif (model, weights, device, memory) != (None, None, "auto", None):
        raise UsageError("a detector has its own model, weights, device and memory; give these to load_detector.")
    return detect_array(source, detector, options)


@checked
def load_detector(
    model: str | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    memory: str | int | None = None,
) -> Detector:
    """A model for :func:`detect_ir`, loaded once for many images, such as the frames of a video.

    The arguments are those of :func:`detect_ir`, whose errors are raised.
    """
    from rsunfold.infer.infrared.detector import Detector

    return Detector(model, weights=None if weights is None else os.fspath(weights), device=device, memory=memory)


@checked
def denoise_hsi(
    image: Any,
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    sigma: float | SomeNumbers | str | os.PathLike[str] | None = None,
    adapt: bool = False,
    var: str | None = None,
    drop_bands: Sequence[int | str] = (),
    nodata: float | None = None,
    wavelengths: Numbers | None = None,
    dtype: str = "auto",
    device: str = "auto",
    memory: str | int | None = None,
) -> Cleaned:
    """Remove the noise of a hyperspectral image and return the result in memory.

    image : path of a file (anything that ``rsunfold info`` reads) or an array (band, row, col), any real dtype. Not
        finite values, masked ones (``numpy.ma``), and in arrays those equal to ``nodata``, are missing and stay so; a
        pixel that lacks more than half of the bands is invalid and passed through.
    sigma : standard deviation of the noise in physical units, after the file's scale: one number, one for each band
        (NaN, None or 0 for bands that take no part), or the path of the summary of an earlier result, whose noise is
        used again, for images of one sensor; None estimates it for each band.
    wavelengths : nm, of the bands of an array.
    drop_bands : bands that take no part and are passed through: numbers from 1, ranges such as "104-108", or names.
    dtype : "float32", in physical units, "same", the type (and scale) of the image, or "auto": float32, but float64
        where the steps of float32 are coarse for the values of a band.
    adapt : adapt the network to the image first, which takes minutes; see
        :func:`rsunfold.infer.hsi.adapt.adapted`.
    model, weights, var, device, memory : see ``rsunfold denoise-hsi --help``.

    Returns a :class:`rsunfold.infer.hsi.run.Cleaned` with ``data`` (band, row, col), ``valid`` bool (row, col) and
    ``summary``. For images larger than memory use the command line, or
    :func:`rsunfold.infer.hsi.run.denoise_file`. Warns (UserWarning) where the axes seem to be in another order. Raises
    the errors of :mod:`rsunfold.errors`.
    """
    from rsunfold.infer.hsi.denoiser import Denoiser
    from rsunfold.infer.hsi.run import Options, denoise_array

    source = _source(image, nodata, var, wavelengths)
    chosen = None if weights is None else os.fspath(weights)
    denoiser = Denoiser(model, weights=chosen, sigma=sigma, adapt=adapt, device=device, memory=memory)
    return _warned(denoise_array(source, denoiser, Options(var=var, drop_bands=_words(drop_bands), dtype=dtype)))


@checked
def detect_anomaly(
    image: Any,
    *,
    model: str = DEFAULTS["detect-anomaly"],
    pfa: float | None = None,
    percentile: float | None = None,
    threshold: float | None = None,
    priors: Sequence[str] | None = None,
    object_size: int | None = None,
    seed: int = 0,
    window: int | None = None,
    min_area: int = 1,
    stages: bool = False,
    var: str | None = None,
    drop_bands: Sequence[int | str] = (),
    nodata: float | None = None,
    wavelengths: Numbers | None = None,
    device: str = "auto",
    memory: str | int | None = None,
    **options: Any,
) -> Found:
    """Find what does not belong to the background of a hyperspectral scene and return everything in memory.

    image : path of a file (anything that ``rsunfold info`` reads) or an array (band, row, col), any real dtype. Not
        finite values, masked ones (``numpy.ma``), and in arrays those equal to ``nodata``, make a pixel invalid.
    wavelengths : nm, of the bands of an array.
    pfa : wanted share of background pixels in the mask; percentile : of all scores, instead of it; threshold : score
        above which a pixel is anomalous, instead of both, such as that of an earlier result for a series of images.
    drop_bands : bands that take no part: numbers from 1, ranges such as "104-108", or names.
    priors : names of steps around the model, ``[]`` for none; None takes all with lrr-net-plus unless it is
        ``literal``, and none with others.
    options : of the model, such as ``epochs=40`` or ``outer=23``; one that is called as an argument above goes after a
        colon in ``model``: ``lrr-net-plus:stages=4``.
    model, object_size, seed, window, min_area, var, device, memory : see ``rsunfold detect-anomaly --help``.

    Returns a :class:`rsunfold.infer.anomaly.run.Found` with ``score`` (float32 (row, col) >= 0, NaN where invalid),
    ``mask`` (bool), ``anomalies``, ``spectra``, ``differing``, ``stages`` and ``summary``. Warns (UserWarning) where
    the axes seem to be in another order. Raises the errors of :mod:`rsunfold.errors`.
    """
    from rsunfold.infer.anomaly.detector import AnomalyDetector, refuse_useless_size
    from rsunfold.infer.anomaly.run import Options, detect_array

    asked = Options(
        var=var,
        drop_bands=_words(drop_bands),
        pfa=pfa,
        percentile=percentile,
        threshold=threshold,
        min_area=min_area,
        stages=stages,
    )
    source = _source(image, nodata, var, wavelengths)
    detector = AnomalyDetector(
        model,
        options=options,
        priors=priors,
        object_size=object_size,
        seed=seed,
        window=window,
        device=device,
        memory=memory,
    )
    refuse_useless_size(object_size, [detector])
    if stages:
        detector.require_stages()
    return _warned(detect_array(source, detector, asked))


@checked
def select_features(
    data: Any,
    *,
    k: int | None = None,
    variance: float | None = None,
    like: str | os.PathLike[str] | None = None,
    model: str = DEFAULTS["select-features"],
    options: dict[str, Any] | None = None,
    min_gap: float | None = None,
    drop: Sequence[tuple[float, float]] = (),
    keep: Sequence[tuple[float, float]] = (),
    drop_bands: Sequence[int | str] = (),
    rank_order: bool = False,
    features: str = "columns",
    ignore: str | int | Sequence[int | str] = (),
    label: str | int | None = None,
    header: bool | None = None,
    var: str | None = None,
    nodata: float | None = None,
    wavelengths: Numbers | None = None,
    seed: int = 0,
    memory: str | int | None = None,
) -> Selected:
    """Choose the bands of an image, or the features of a table, that keep its information; without labels.

    data : path of an image or a table, or an array: a cube (band, row, col) or a table (sample, feature), any real
        dtype. In cubes, values that are not finite, masked (``numpy.ma``) or equal to ``nodata`` make a pixel invalid;
        in tables they are refused. The columns of a data frame are named as it names them, where a name is text.
    k, variance, like : how many to choose, the share of the variance that they have to explain, or the path of the
        ``..._ranking.json`` of an earlier selection, the same as which is to be chosen: bands by wavelength where both
        have them, columns by name, else by number; one of the three.
    options : keyword arguments of the model. min_gap : nm between chosen bands. drop, keep : ranges of wavelengths in
        nm. drop_bands : bands to exclude: numbers from 1, ranges such as "104-108", or names. rank_order : best first,
        instead of in the order of wavelengths or features. wavelengths : nm, of the bands of a cube in an array;
        without them its bands are taken as narrow.
    ignore : columns of a table that are no features: names, or numbers from 1. label : the column of labels, by the
        same, which is no feature; nor are columns of files and data frames that are called label, labels, class,
        class_id, target, gnd or gt, and those that number the samples.
    header : whether a text table has one; None looks.
    model, features, var, seed, memory : see ``rsunfold select-features --help``.

    Returns a :class:`rsunfold.infer.features.run.Selected` with ``indices`` (zero-based, of the features, without the
    columns that are none; ``summary["selected_names"]`` names them), ``data`` (what was chosen, in
    the type of the input, masked where masked integers were given), ``ranking``, ``scores``, ``explained``,
    ``correlation`` and ``summary``. For images larger than memory use the command line, or
    :func:`rsunfold.infer.features.run.select_file`. For scikit-learn pipelines there is
    :class:`rsunfold.estimator.FeatureSelector`. Warns (UserWarning) where the axes of a cube seem to be in another
    order. Raises the errors of :mod:`rsunfold.errors`.
    """
    from rsunfold.infer.features.earlier import EarlierChoice
    from rsunfold.infer.features.run import Options, select_array
    from rsunfold.infer.features.select import FeatureRanker, Wanted

    path = _path(data, nodata, var, wavelengths)
    if like is not None and (model, options, seed) != (DEFAULTS["select-features"], None, 0):
        raise UsageError("an earlier choice (like) is applied as it is; leave out model, options and seed.")
    earlier = None if like is None else EarlierChoice.of(like)
    wanted = Wanted(count=k, variance=variance, min_gap=min_gap, like=earlier)
    chosen = Options(
        var=var,
        features=features,
        ignore=_words(ignore),
        label=None if label is None else str(label),
        header=header,
        drop=tuple(drop),
        keep=tuple(keep),
        drop_bands=_words(drop_bands),
        rank_order=rank_order,
    )
    made_by = {"model": model, "options": options, "seed": seed} if earlier is None else earlier.model
    ranker = FeatureRanker(**made_by, memory=memory)
    given = data if path is None else path
    return _warned(select_array(given, ranker, wanted, chosen, nodata=nodata, wavelengths=wavelengths))


def _warned(result: Told) -> Told:
    """``result``, with a warning to the caller of a public function for each Alarm among its notes."""
    from rsunfold.cube import Alarm

    for note in result.summary["notes"]:
        if isinstance(note, Alarm):
            warnings.warn(note, stacklevel=4)  # this function, a public one, what checks its arguments, the caller
    return result


def _words(given: str | int | Sequence[int | str]) -> tuple[str, ...]:
    """Numbers and names as the command line gives them; text may hold several, between commas."""
    if isinstance(given, str):
        return split_names(given)
    return (str(given),) if isinstance(given, int | Integral) else tuple(str(one) for one in given)


def _path(given: Any, nodata: float | None, var: str | None, wavelengths: Numbers | None = None) -> str | None:
    """The name of a file, None for an array. Raises UsageError for what goes with the other of the two."""
    path = os.fspath(given) if isinstance(given, str | bytes | os.PathLike) else None
    if isinstance(path, bytes) or hasattr(given, "read"):
        raise UsageError(
            "an image or a table is given as an array or as the path of its file in text, not as bytes or an open file."
        )
    if path is not None:
        from rsunfold.io.names import refuse_undecodable

        refuse_undecodable(path)
    if path is not None and nodata is not None:
        raise UsageError("nodata applies to arrays only; a file declares its own nodata value.")
    if path is not None and wavelengths is not None:
        raise UsageError("wavelengths apply to arrays only; a file has its own.")
    if path is None and var is not None:
        raise UsageError("var selects a variable of a file and cannot be used with an array.")
    return path


def _source(image: Any, nodata: float | None, var: str | None, wavelengths: Numbers | None = None) -> str | CubeReader:
    """What :func:`_path` gives, or a reader of the array."""
    from rsunfold.io.memory import ArrayReader

    path = _path(image, nodata, var, wavelengths)
    return ArrayReader(image, nodata=nodata, wavelengths=wavelengths) if path is None else path
