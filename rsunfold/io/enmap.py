"""What the metadata of an EnMAP product say of its image.

Source: DLR, EnMAP HSI Level 1B/1C/2A product specification, EN-PCV-ICD-2009-2.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

_IMAGE = re.compile(r"(.+)-SPECTRAL_IMAGE(?:_(?:VNIR|SWIR))?", re.IGNORECASE)
_OF_BANDS = {
    "wavelength": "wavelengthCenterOfBand",
    "fwhm": "FWHMOfBand",
    "data_gain_values": "GainOfBand",
    "data_offset_values": "OffsetOfBand",
}


def header_of(image: Path, bands: int) -> dict[str, str] | None:
    """What lies beside ``...-SPECTRAL_IMAGE.TIF`` in ``...-METADATA.XML``, as the entries of an ENVI header.

    None for other images, and where the metadata are missing, damaged or of another number of ``bands`` (those of level
    1B list the bands of both of its images).
    """
    found = _IMAGE.fullmatch(image.stem)
    if found is None:
        return None
    name = f"{found[1]}-METADATA.XML".lower()
    try:
        file = next(path for path in image.parent.iterdir() if path.name.lower() == name)
        root = ElementTree.parse(file).getroot()
    except (StopIteration, OSError, ElementTree.ParseError):
        return None
    listed = [entry for entry in root.iter() if entry.tag.rpartition("}")[2] == "bandID"]
    listed = [entry for entry in listed if entry.findtext(_OF_BANDS["wavelength"]) is not None]
    if len(listed) != bands:
        return None
    header = {"wavelength_units": "Nanometers"}
    for key, name in _OF_BANDS.items():
        texts = [(entry.findtext(name) or "").strip() for entry in listed]
        if all(texts):
            header[key] = "{" + ", ".join(texts) + "}"
    background = root.find(".//specific/backgroundValue")
    if background is not None and background.text:
        header["data_ignore_value"] = background.text.strip()
    return header
