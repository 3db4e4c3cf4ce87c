"""Whether an earlier run has made the results that are asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError, OutputError
from rsunfold.io.folders import BESIDE
from rsunfold.io.inputs import SAMPLED, input_bytes, input_digest
from rsunfold.io.jsonfile import told_by
from rsunfold.io.names import exists, of_gdal
from rsunfold.io.writer import ENVI_SUFFIXES
from rsunfold.registry import get_model

DEFAULT = "the default"
MOST_SHOWN = 8
"""Numbers or names of a setting, one for each band say, of which more are not shown."""
_SETTINGS = {"half", "object_size_px", "priors", "seed", "window"}
"""Entries of a summary that the command line decides, beside what was "asked"."""


def is_done(folder: Path, names: Mapping[str, str], source: str, about: Mapping[str, Any]) -> bool:
    """Whether the results ``names``, file names by kind, of the image ``source`` are there: their "summary" is written
    last.

    about : what the model says of itself, see ``describe`` of each, and "asked", see
    :func:`rsunfold.infer.results.asked_for`. Raises OutputError when another image, another model, other weights or
    other options gave them, or a run that was asked for less; InputError when the image is gone.
    """
    summary = folder / names["summary"]
    if not summary.exists():
        return False
    told = told_by(summary)
    if not told:
        raise OutputError(f"{summary} is empty or damaged; check the results, and pass --overwrite to replace them.")
    for difference in _differences(told, source, about):
        raise OutputError(f"{summary} was made {difference}; choose another folder, or pass --overwrite.")
    missing = [name for name in names.values() if not (folder / name).exists()]
    if missing:
        other = Path(missing[0]).with_suffix(".tif" if missing[0].endswith(ENVI_SUFFIXES) else ".img")
        how = "with other options"
        if (folder / other).exists():
            how = "without --envi" if other.suffix == ".tif" else "with --envi"
        raise OutputError(
            f"{summary} exists but {missing[0]} does not: it was made {how}; do that again, choose another folder, or "
            "pass --overwrite."
        )
    return True


def _differences(told: Mapping[str, Any], source: str, about: Mapping[str, Any]) -> Iterator[str]:
    """How what a summary tells differs from ``source`` and ``about``; what it does not tell fits."""
    image, made_by, model = told.get("input"), told.get("model"), about["model"]
    same = _same_content(told, source)
    if isinstance(image, str) and not (same and _says_all(told, source)) and not _the_place(image, source):
        yield f"from {image}, not from {source}"
    if made_by not in (None, model):
        yield f"with {made_by}, not {model}"
    defaults = get_model(model).options
    for what, key, unsaid in (("weights", "weights_sha256", {}), ("options", "options", defaults)):
        if key in told and key in about:
            before, now = (unsaid | x[key] if isinstance(x[key], dict) else x[key] for x in (told, about))
            if _plain(before) != _plain(now):
                yield f"with other {what} of {model}"
    before, now = _settings(told), _settings(about)
    known = before.keys() & now.keys()
    later = about.get("asked", {}).keys() - known if "asked" in told else ()  # options there were not then
    for name in [*sorted(known), *sorted(name for name in later if _shown(now[name]) != DEFAULT)]:
        if name not in before or _plain(before[name]) != _plain(now[name]):
            yield f"with --{name.replace('_', '-')} at {_shown(before.get(name))}, not at {_shown(now[name])}"
    if told.get("input_bytes") not in (None, input_bytes(source)):
        if not (exists(source) or of_gdal(source)):
            raise InputError(f"{source} does not exist.")
        yield f"when {source} had another size"
    if same is False:
        yield f"from another image of this name, or before {source} was changed"


def _same_content(told: Mapping[str, Any], source: str) -> bool | None:
    """Whether an image holds what it held when a summary was written; None where that is not known, as of summaries
    from before they told it. Times of change say less: copies and checkouts of the same image have others."""
    before = told.get("input_digest")
    now = None if before is None else input_digest(source)
    return None if now is None else now == before


def _says_all(told: Mapping[str, Any], source: str) -> bool:
    """Whether the same content is the same image wherever it lies: it was read to its end, has no other images, and no
    file beside it says where on Earth it lies."""
    return not (str(told.get("input_digest")).startswith(SAMPLED) or of_gdal(source) or _placed_from_beside(source))


def _placed_from_beside(source: str) -> bool:
    """Whether there is what a GIS or GDAL keeps beside an image."""
    return any(beside.exists() for beside in (*map(Path(source).with_suffix, BESIDE), Path(f"{source}.aux.xml")))


def _the_place(told: str, source: str) -> bool:
    """Whether an image that a summary names may lie where ``source`` does; its name is known to fit.

    Summaries hold names as they were given, so one that is not absolute counts from a folder that nobody knows.
    """
    if of_gdal(told) or of_gdal(source):
        return told == source
    here, there = Path(source).parent, Path(os.path.normpath(told)).parent
    if there.is_absolute():
        return here.resolve() == there.resolve()
    known = tuple(part for part in there.parts if part != "..")
    # Of a link both names are good.
    return not known or any(
        p.parts[-len(known) :] == known for p in (here.resolve(), Path(os.path.normpath(here.absolute())))
    )


def _plain(value: Any) -> Any:
    """As it comes back from a summary, with 5 like 5.0."""
    return json.loads(json.dumps(value, default=str), parse_int=float)


def _settings(entries: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line decided, by option, of the entries of a summary."""
    asked: dict[str, Any] = entries.get("asked", {})
    return {k.removesuffix("_px"): entries[k] for k in _SETTINGS & entries.keys()} | asked


def _shown(value: Any) -> str:
    """A setting about as a user writes it: ``1340-1450,1800-1960`` of pairs of numbers."""
    if value is None or value is False or value in ([], ()):
        return DEFAULT
    if isinstance(value, list | tuple):
        if len(value) > MOST_SHOWN and not isinstance(value[0], list | tuple):
            return f"{_shown(value[:3])},... ({len(value)} values)"
        return ",".join("-".join(map(_shown, v)) if isinstance(v, list | tuple) else _shown(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
