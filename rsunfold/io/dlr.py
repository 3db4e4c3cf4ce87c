"""What the metadata of a product of DLR, EnMAP or DESIS, say of its image.

Source: DLR, EnMAP HSI Level 1B/1C/2A product specification, EN-PCV-ICD-2009-2. The metadata of DESIS, which are older,
are of the same kind with other names.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

_IMAGE = re.compile(r"(.+)-SPECTRAL_IMAGE(?:_(?:VNIR|SWIR))?(?:_COG)?", re.IGNORECASE)
_BANDS = (".//bandCharacterisation/bandID", ".//bandCharacterisation/band")
_OF_BANDS = {
    "wavelength": ("wavelengthCenterOfBand",),
    "fwhm": ("FWHMOfBand", "wavelengthWidthOfBand"),
    "data_gain_values": ("GainOfBand", "gainOfBand"),
    "data_offset_values": ("OffsetOfBand", "offsetOfBand"),
}
"""Names of EnMAP, and of DESIS where they differ, by the entry of an ENVI header that says the same."""


def metadata_of(image: Path) -> Path | None:
    """``...-METADATA.XML`` beside ``...-SPECTRAL_IMAGE.TIF``; None for other images, and where there is none."""
    found = _IMAGE.fullmatch(image.stem)
    ends = ("METADATA.XML", "METADATA.xml", "metadata.xml")
    names = () if found is None else (f"{found[1]}-{end}" for end in ends)
    return next((path for path in map(image.with_name, names) if path.is_file()), None)


def header_of(image: Path, bands: int) -> dict[str, str] | None:
    """What the metadata beside an image say, as the entries of an ENVI header.

    None for other images, and where the metadata are missing, damaged or of another number of ``bands`` (those of level
    1B list the bands of both of its images).
    """
    file = metadata_of(image)
    if file is None:
        return None
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    listed = [entry for place in _BANDS for entry in root.iterfind(place)]
    if len(listed) != bands:
        return None
    header = {"wavelength_units": "Nanometers"}
    for key, names in _OF_BANDS.items():
        for name in names:
            texts = [(entry.findtext(name) or "").strip() for entry in listed]
            if all(texts):
                header[key] = "{" + ", ".join(texts) + "}"
    background = root.find(".//specific/backgroundValue")
    if background is not None and background.text:
        header["data_ignore_value"] = background.text.strip()
    if start := root.findtext("base/temporalCoverage/startTime", "").strip():
        header["start_time"] = start
    return header
