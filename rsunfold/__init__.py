"""rsunfold: remote-sensing image processing with deep unfolding networks.

The public Python API; heavy libraries are imported when a function is called, not with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsunfold.infer.run import Detection

__version__ = "0.1.0"
__all__ = ["__version__", "detect_ir"]


def detect_ir(
    image: Any,
    *,
    model: str = "l-rpcanet",
    weights: str | None = None,
    threshold: float | None = None,
    scale: tuple[float, float] | None = None,
    band: int | None = None,
    nodata: float | None = None,
    min_area: int = 1,
    stages: bool = False,
    device: str = "auto",
    memory: str | int | None = None,
) -> Detection:
    """Find small targets in an infrared image and return everything in memory.

    image : path of a file (anything that ``rsunfold info`` reads) or an array (row, col), any real dtype; uint8 is
        divided by 255, other types are scaled by percentiles of the valid pixels unless ``scale`` = (low, high) is
        given. Not finite values, and in arrays those equal to ``nodata``, are left out.
    model, weights, device, memory : see ``rsunfold detect-ir --help``.
    threshold : score in [0, 1] above which a pixel is a target; None takes the one of the weights.
    min_area : fewest pixels of a target. stages : also return every variable of every stage.

    Returns a :class:`rsunfold.infer.run.Detection` with ``score`` (float32, [0, 1], NaN where invalid), ``mask``
    (bool), ``targets``, ``stages`` and ``summary``. For images larger than memory use the command line, or
    :func:`rsunfold.infer.run.detect_file`. Raises the errors of :mod:`rsunfold.errors`.
    """
    import os

    from rsunfold.infer.detector import Detector
    from rsunfold.infer.run import Options, detect_array
    from rsunfold.io.memory import ArrayReader

    options = Options(threshold=threshold, band=band, scale=scale, min_area=min_area, stages=stages)
    detector = Detector(model, weights=weights, device=device, memory=memory)
    source = os.fspath(image) if isinstance(image, str | os.PathLike) else ArrayReader(image, nodata=nodata)
    return detect_array(source, detector, options)
