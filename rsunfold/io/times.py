"""When an image was taken, as the tags of a file say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime

KEYS = (
    "exif_datetimeoriginal",
    "acquisition_time",
    "acquisitiondatetime",
    "time_coverage_start",
    "start_time",
    "product_starttime",
    "exif_datetimedigitized",
    "tifftag_datetime",
    "exif_datetime",
)
"""Tags that say when, in small letters and without what GDAL sets before the attributes of a NetCDF file, the surest
first: the last two may be when a file was changed, but many cameras write no other."""
FRACTIONS = {
    "exif_datetimeoriginal": "exif_subsectime_original",
    "exif_datetimedigitized": "exif_subsectime_digitized",
    "exif_datetime": "exif_subsectime",
    "tifftag_datetime": "exif_subsectime",
}
"""Tags of the fraction of the second, digits alone, by those of the time that have none themselves."""
_GLOBAL = "nc_global#"
_ZONE = re.compile(r"[+-]\d\d:\d\d")
_EXIF = re.compile(r"(\d{4}):(\d\d):(\d\d)(?: (\d\d:\d\d:\d\d))?")


def acquired_of(tags: Mapping[str, str]) -> str:
    """The time of acquisition in ISO 8601, with a time zone only where the file gives one; as it stands where it is
    not understood, "" where no tag says it."""
    known = {key.lower().removeprefix(_GLOBAL): text.strip(" {}\"'") for key, text in tags.items()}
    said = next((key for key in KEYS if re.search("[1-9]", known.get(key, ""))), None)  # 0000:00:00 is a clock not set
    if said is None:
        return ""
    text = known[said]
    if exif := _EXIF.fullmatch(text):
        fraction = known.get(FRACTIONS.get(said, ""), "").strip()
        text = "-".join(exif.groups()[:3]) + (f"T{exif[4]}" if exif[4] else "")
        text += f".{fraction}" if exif[4] and re.fullmatch("[0-9]+", fraction) else ""
        if said == "exif_datetimeoriginal" and exif[4]:
            zone = _ZONE.fullmatch(known.get("exif_offsettimeoriginal", ""))  # blanks where the camera does not know
            text += zone[0] if zone else ""
    with suppress(ValueError):
        return date.fromisoformat(text).isoformat()
    with suppress(ValueError):
        found = datetime.fromisoformat(text).isoformat()
        return found.removesuffix("+00:00") + "Z" if text.endswith("Z") else found
    return text


def as_tiff_time(acquired: str) -> str | None:
    """A time as the tag DateTime of a TIFF holds it, ``2022:07:24 10:20:30``; None for a day alone and for text."""
    with suppress(ValueError):
        if len(acquired) > len("2022-07-24"):
            return f"{datetime.fromisoformat(acquired):%Y:%m:%d %H:%M:%S}"
    return None
