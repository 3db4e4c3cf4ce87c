"""What arrays of an HDF5 or NetCDF-4 file say of the bands of its image."""

from __future__ import annotations

import math
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
DEEPEST, MOST_PARTS = 32, 2**16
"""Virtual datasets may be views of others so many levels deep, and be made of so many parts."""


def refuse_damaged(path: str) -> None:
    """Raise InputError for an HDF5 file that is truncated or damaged, about which GDAL would print many lines."""
    try:
        h5py.File(path, "r").close()
    except OSError as error:
        if "unable to lock" not in str(error):  # another program writes it, or the file system has no locks
            raise InputError(f"{path} is truncated or damaged ({error}).") from None


def leads_away(group: h5py.Group, name: str) -> bool:
    """Whether what a group has by this name lies in another file, be that there or not."""
    item = group.get(name)
    if item is None:
        return isinstance(group.get(name, getlink=True), h5py.ExternalLink)
    return bool(h5py.h5o.get_info(item.id).fileno != h5py.h5o.get_info(group.id).fileno)


class Views:
    """What is known of the virtual datasets of a file; each is looked at once, however many others lead to it."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[float, int]] = {}

    def elsewhere(self, item: h5py.Dataset) -> bool:
        """Whether samples of a dataset lie in another file, or nowhere, which HDF5 takes for zeros: it is external, or
        virtual and more than a view of what is in its own file. Raises InputError for views of views that HDF5 would
        read for ever."""
        return self._count(item, 0)[0] == math.inf

    def _count(self, item: h5py.Dataset, depth: int) -> tuple[float, int]:
        """(datasets that are read for all of this one, as often as they are, infinite for what lies elsewhere; levels
        of views). depth : views that led to it."""
        if not item.is_virtual:
            return (math.inf if item.external else 1), 0
        place = h5py.h5o.get_info(item.id).addr
        if place not in self._parts:
            self._parts[place] = math.inf, 1  # what leads to itself has no samples
            sources = item.virtual_sources() if depth < DEEPEST else ()
            own = [at(item.file, s.dset_name) if s.file_name == "." else None for s in sources]
            parts = [self._count(o, depth + 1) if isinstance(o, h5py.Dataset) else (math.inf, 0) for o in own]
            count, levels = sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
            if max(depth, levels) >= DEEPEST or MOST_PARTS < count < math.inf:
                raise InputError(
                    f"{item.file.filename} has {item.name.strip('/')} as a view of too many views: copy its samples "
                    "into a dataset of its own."
                )
            self._parts[place] = count, levels
        return self._parts[place]


def stored_elsewhere(item: h5py.Dataset) -> bool:
    """See :meth:`Views.elsewhere`."""
    return Views().elsewhere(item)


def at(file: h5py.File, path: str) -> Any:
    """What a file has at a path: None for nothing, True for what lies in another file or behind a link to one. Where
    there is no space in the file, GDAL's "_" stands for one."""
    item: Any = file
    for part in filter(None, path.split("/")):
        if not isinstance(item, h5py.Group):
            return None
        name = part if part in item else next((n for n in item if part in (n, n.replace(" ", "_"))), None)
        if name is None:
            return None
        if leads_away(item, name):
            return True
        item = item.get(name)
    return item


def is_foreign(file: h5py.File, path: str) -> bool:
    """Whether a dataset of a file lies in another one, or on the path to it anything does."""
    item = at(file, path)
    return item is True or (isinstance(item, h5py.Dataset) and stored_elsewhere(item))


def foreign(path: str, name: str, others: bool) -> InputError:
    """The error for an array of a file that lies in another one. others : whether there are more to choose from."""
    choice = ", or choose another with --var NAME" if others else ""
    return InputError(
        f"{path} has {name.strip('/')} not in itself but in another file, which is not read: copy it into the "
        f"file{choice}."
    )


def refuse_foreign(path: str, dataset: str | None) -> None:
    """Raise InputError where a dataset of an HDF5 file on the disk lies in another file; None for a file of a single
    image, which none beside it that does may be missing from."""
    if not h5py.is_hdf5(path):  # a NetCDF file of version 3, say, or one in an archive
        return
    with named(path), h5py.File(path, "r", locking=False) as file:  # GDAL does not ask for a lock either
        if dataset is not None:
            if is_foreign(file, dataset):
                raise foreign(path, dataset, others=False)
            return
        images: dict[str, bool] = {}
        views = Views()

        def look(within: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset) and _is_image(item):
                images[within] = views.elsewhere(item)
            for name in item if isinstance(item, h5py.Group) else ():
                if leads_away(item, name) and _is_image(item.get(name)):
                    images[f"{within}/{name}"] = True

        look("", file)
        file.visititems(look)
        found = next((name for name, away in images.items() if away), None)
        if found is not None:
            raise foreign(path, found, others=not all(images.values()))


def _is_image(item: Any) -> bool:
    """Whether what a link leads to may be an image, or hold one: None, what is not there, may."""
    return not isinstance(item, h5py.Dataset) or (item.ndim > 1 and item.dtype.kind in "biufcV")


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
        with h5py.File(path, "r", locking=False) as file:  # see refuse_foreign
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
    small = {name.lower(): group.get(name) for name in group if not leads_away(group, name)}
    small = {name: item for name, item in small.items() if isinstance(item, h5py.Dataset) and item.shape == (bands,)}
    small = {name: item for name, item in small.items() if item.dtype.kind in "iuf" and not stored_elsewhere(item)}
    hits = {key: next((name for name in names if name in small), None) for key, names in _LISTS.items()}
    return {key: small[name] for key, name in hits.items() if name is not None}
