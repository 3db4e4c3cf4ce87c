"""What arrays of an HDF5 or NetCDF-4 file say of the bands of its image."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from rsunfold.errors import InputError

_LISTS = {
    "wavelength": ("wavelengths", "wavelength", "central_wavelength", "wl"),
    "fwhm": ("fwhm", "bandwidth"),
    "bbl": ("good_wavelengths", "bbl"),
}
"""Names of arrays, by the entry of an ENVI header that says the same."""


def refuse_damaged(path: str) -> None:
    """Raise InputError for an HDF5 file that is truncated or damaged, about which GDAL would print many lines."""
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        if "unable to lock" not in str(error):  # another program writes it, or the file system has no locks
            raise InputError(f"{path} is truncated or damaged ({error}).") from None


def header_of(path: str, bands: int) -> dict[str, str] | None:
    """Wavelengths, widths and bad bands, as the entries of an ENVI header, from arrays of ``bands`` numbers that are
    called so and lie in one group, as in the products of EMIT (``sensor_band_parameters``).

    None where there are no such wavelengths, or several, and for files of another kind.
    """
    try:
        with h5py.File(path, "r") as file:
            groups: dict[str, h5py.Group] = {"": file}
            file.visititems(lambda name, item: groups.update({name: item}) if isinstance(item, h5py.Group) else None)
            found = [lists for group in groups.values() if "wavelength" in (lists := _lists(group, bands))]
            if len(found) != 1:
                return None
            (lists,) = found
            texts = np.ravel(lists["wavelength"].attrs.get("units", ""))
            units = texts[0] if texts.size and not isinstance(texts[0], h5py.Empty) else ""
            header = {key: "{" + ", ".join(f"{v:.9g}" for v in np.ravel(data[()])) + "}" for key, data in lists.items()}
            return {**header, "wavelength_units": units.decode() if isinstance(units, bytes) else str(units)}
    except (OSError, RuntimeError, KeyError, ValueError):  # which h5py raises for what is damaged
        return None


def _lists(group: h5py.Group, bands: int) -> dict[str, Any]:
    """The arrays of a group by entry."""
    small = {name.lower(): item for name, item in group.items() if isinstance(item, h5py.Dataset)}
    small = {name: item for name, item in small.items() if item.shape == (bands,) and item.dtype.kind in "iuf"}
    hits = {key: next((name for name in names if name in small), None) for key, names in _LISTS.items()}
    return {key: small[name] for key, name in hits.items() if name is not None}
