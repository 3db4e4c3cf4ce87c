"""What arrays of an HDF5 or NetCDF-4 file say of the bands of its image."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rsunfold.errors import InputError
from rsunfold.io.damage import named
from rsunfold.io.matlab import MOST

_LISTS = {
    "wavelength": ("wavelengths", "wavelength", "central_wavelength", "wl"),
    "fwhm": ("fwhm", "bandwidth"),
    "bbl": ("good_wavelengths", "bbl"),
}
"""Names of arrays, by the entry of an ENVI header that says the same."""


LEAST = 2**26
"""Bytes that are read however few of them are stored."""


def refuse_damaged(path: str) -> None:
    """Raise InputError for an HDF5 file that is truncated or damaged, about which GDAL would print many lines."""
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        if "unable to lock" not in str(error):  # another program writes it, or the file system has no locks
            raise InputError(f"{path} is truncated or damaged ({error}).") from None


def refuse_foreign(item: h5py.Group | h5py.Dataset) -> None:
    """Raise InputError for a dataset whose samples lie in other files, where HDF5 takes them for zeros when there is
    none, and for a group that links to one."""
    if isinstance(item, h5py.Dataset):
        foreign = (item.name or "a dataset") if item.is_virtual or item.external else None
    else:
        links = {name: item.get(name, getlink=True) for name in item}
        foreign = next((name for name, link in links.items() if isinstance(link, h5py.ExternalLink)), None)
    if foreign is not None:
        raise InputError(
            f"{item.file.filename} has {foreign.strip('/')} not in itself but in another file, which is not read: copy "
            "it into the file."
        )


def refuse_foreign_in(path: str) -> None:
    """Raise InputError for an HDF5 file on the disk in which :func:`refuse_foreign` finds anything."""
    if not h5py.is_hdf5(path):  # a NetCDF file of version 3, say, or one in an archive
        return
    with named(path), h5py.File(path, "r") as file:
        refuse_foreign(file)
        file.visititems(lambda _, item: refuse_foreign(item) if not isinstance(item, h5py.Datatype) else None)


def whole(item: Any) -> NDArray[Any]:
    """All elements of a dataset, or of an array in memory; raises ValueError where so few of them are stored that they
    would fill the memory with nothing."""
    if isinstance(item, h5py.Dataset) and item.nbytes > max(LEAST, MOST * item.id.get_storage_size()):
        raise ValueError(
            f"{item.name.strip('/')} is declared to have {item.size} elements, but the file has few of them"
        )
    return np.asarray(item[()])


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
