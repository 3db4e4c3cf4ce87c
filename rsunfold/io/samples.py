"""Sets of infrared images with target masks in folders: which image belongs to which mask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsunfold.cube import Cube, told
from rsunfold.errors import InputError
from rsunfold.io.envi import DATA_SUFFIXES
from rsunfold.io.folders import SUFFIXES, images_in, inputs_in, refuse_no_folder
from rsunfold.io.reader import CubeReader, full_range, open_cube

MASK_ENDS = ("_mask", "_pixels0")
"""How the names of masks may end, beside those of their images."""
MOST = 0.9
"""Largest share of a truth mask that may be target."""
TRAINING_LOG, HELD_OUT = "log.csv", "validation.txt"
"""Files that training writes, and by which its folders are recognised."""
ANNOTATIONS = {".txt", ".xml", ".json", ".csv"}
"""Extensions of boxes and points, as YOLO, VOC, COCO and others write them."""
AMBIGUOUS = (0, 1, 255)
"""Values of a mask of which the second or the last may be the target."""
_OTHERS = re.compile(
    r"mask(?!ed|ing)|(?<!un)label(?!l?ed)|annotation|(?:^|[-_ ])gts?(?![a-z])|ground.?truth|^images$", re.IGNORECASE
)
"""What folders of masks, or of images beside them, are called in published sets."""


@dataclass(frozen=True)
class Sample:
    """One image of a set; ``mask`` is None where the image holds no target by construction."""

    group: str
    name: str
    image: Path
    mask: Path | None

    def truth(
        self, shape: tuple[int, ...], of: Path | None = None, *, any_size: bool = False
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Target pixels, and where the mask says what is there, both (rows, cols).

        Raises InputError when the mask is not of that ``shape``, that of the image unless it is ``of`` another file;
        with ``any_size`` the mask comes in its own.
        """
        if self.mask is None:
            return np.zeros(shape, bool), np.ones(shape, bool)
        truth, known = read_mask(self.mask, truth=True)
        if not any_size:
            self._refuse_other(truth.shape, shape, of)
        return truth, known

    def refuse_other_size(self, var: str | None = None) -> None:
        """Raise InputError where image and mask differ in size, which their files say before their pixels are read.

        var : variable of the image if it is a MAT file, or GDAL subdataset.
        """
        if self.mask is not None:
            with open_cube(self.image, var=var) as image, open_cube(self.mask, palette="grays") as mask:
                self._refuse_other(mask.shape[1:], image.shape[1:])

    def _refuse_other(self, mask: tuple[int, ...], shape: tuple[int, ...], of: Path | None = None) -> None:
        if mask != shape:
            raise InputError(f"{self.mask} is {mask} but {of or self.image} is {shape} (rows, columns).")


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """A sample in memory: gray float32 (rows, cols), and of its shape, bool, truth, valid and known.

    valid : what the image does not mark as nodata. known : what the mask does not. truth says nothing elsewhere.
    notes : what is to be told of the file of the image.
    """

    sample: Sample
    gray: NDArray[np.float32]
    truth: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    known: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Pixels that count: valid and known."""
        return self.valid & self.known

    @property
    def targets(self) -> NDArray[np.bool_]:
        """Target pixels that count."""
        return self.truth & self.counted


def notes_on(files: Iterable[tuple[Path, Iterable[str]]], shown: int = 3) -> list[str]:
    """One list of what is to be told of many files: the notes on the first ones that have any, and how many more do.

    An Aside is not told.
    """
    noted = [(path, told(notes)) for path, notes in files]
    noted = [(path, notes) for path, notes in noted if notes]
    lines = [f"{path}: {note}" for path, notes in noted[:shown] for note in notes]
    if len(noted) > shown:
        lines.append(f"there are notes on {len(noted) - shown} more files")
    return lines


def _numbers(values: NDArray[Any]) -> bool:
    """Whether the values above 0 number connected groups of pixels: 1, 2, ..., each of them in one place."""
    from scipy.ndimage import find_objects, label

    found = np.unique(values[values > 0])
    if found.size < 2 or not np.array_equal(found, np.arange(1, found.size + 1)):
        return False
    numbers = np.maximum(values, 0).astype(np.int32)
    boxes = find_objects(numbers)
    return all(label(numbers[box] == n, np.ones((3, 3)))[1] == 1 for n, box in enumerate(boxes, start=1))


def mask_values(paths: Iterable[Path]) -> dict[str, NDArray[Any]]:
    """The values that occur in mask files, in rising order, nodata left out, by the type that they are stored in.

    Raises InputError as :func:`read_mask`, and where the values of a type are 0, 1 and 255: some files are of 0 and 1,
    others of 0 and 255.
    """
    found: dict[str, NDArray[Any]] = {}
    folder = Path()
    for path in paths:
        values, folder = _stored(path)[0], path.parent
        kind = values.dtype.name
        found[kind] = np.union1d(found[kind], values) if kind in found else np.unique(values)
    if any(np.array_equal(values, AMBIGUOUS) for values in found.values()):
        raise InputError(
            f"the masks in {folder} contain 0, 1 and 255, of which either may be the targets: write targets as 255 and "
            "all else as 0 in all of them."
        )
    return found


def _stored(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_], float]:
    """(values with 0 for nodata, valid, both (rows, cols); full range of the type) of a mask file."""
    with open_cube(path, palette="grays") as reader:
        reader.refuse_complex()
        cube = reader.read(scaled=False)
        top = full_range(reader)
    data = cube.data
    if (data != data[:1])[:, cube.valid].any():
        # Black and one colour may be one of several classes, which others of the set have in other colours.
        raise InputError(
            f"{path} has {len(data)} bands that differ, but a mask has one: convert it to 8 bits with 255 for targets "
            "and 0 for all else."
        )
    return np.where(cube.valid, data[0], 0), cube.valid, top


def _range(largest: float, top: float) -> float:
    """What stands for 1 in integers up to ``largest`` of a type whose full range is ``top``: 1 or 255 where none is
    larger."""
    return next(r for r in (1, 255, max(top, largest)) if largest <= r)


def read_mask(
    path: Path, *, truth: bool = False, among: Mapping[str, NDArray[Any]] | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Target pixels of a mask file, above half of its range, and the pixels that it knows, both (rows, cols).

    The range is that of the file's type, but 1 or 255 where no value is larger: masks of 0 and 1, or of 0 and 255, are
    stored in wider types too. among : the values of all files that share a range by their type (:func:`mask_values`),
    where this is one of them. Of a palette with colours, such as that of an ENVI Classification, the indices count.
    Nodata pixels are no targets, and unknown unless all others are targets: then nodata is the background. Raises
    InputError when the file has several bands that differ, for the values 0, 1 and 255, of which either could be the
    targets, for a file that numbers its targets, and where values above 0 occur, but none above half of the range: one
    of several predictions may be unsure of all, but not all of them. A truth of which more than the share MOST is
    target is refused, too: 1-bit TIFFs of boolean arrays declare that 0 is white, and are inverted when they are read
    as pictures.
    """
    values, valid, top = _stored(path)
    found = np.unique(values) if among is None else among[values.dtype.name]
    largest = found.max(initial=0)
    if among is None and np.array_equal(found, AMBIGUOUS):
        raise InputError(
            f"{path} contains 0, 1 and 255, of which either may be the targets: declare 255 as nodata if it marks what "
            "is unknown, as in masks by detect-ir and detect-anomaly, or write targets as 255 and all else as 0."
        )
    full = _range(largest, top)
    _refuse_faint(path if among is None else f"{path.parent} ({values.dtype.name})", largest, full, len(found))
    _refuse_numbered(path, values, largest, full)
    mask = np.asarray(values > full / 2)
    known = valid if (valid & ~mask).any() else np.ones_like(valid)
    if truth and mask.sum() > MOST * known.sum():
        raise InputError(
            f"{path} marks {mask.sum() / known.sum():.0%} of the pixels as targets; if targets and background are "
            "exchanged, invert it, and store it with 8 bits (0 and 255)."
        )
    return mask, known


def _refuse_faint(which: Path | str, largest: float, full: float, kinds: int) -> None:
    """Raise InputError where values above 0 occur, but none above half of the range; ``which`` names a file, or a
    folder as text, with so many ``kinds`` of values."""
    if 0 < largest <= full / 2:
        ends = "0 and 1" if full == 1 else f"0 and 1, or 0 and {full:g}"
        scores = "; give --threshold if these are scores" if isinstance(which, str) and kinds > 2 else ""
        raise InputError(
            f"{which} has values up to {largest:g}, none above half of {full:g}: a target mask contains {ends}{scores}."
        )


def _refuse_numbered(path: Path, values: NDArray[Any], largest: float, full: float) -> None:
    """Raise InputError for a file that numbers its targets, up to the largest value of all."""
    if values.max(initial=0) == largest and _numbers(values):
        raise InputError(
            f"{path} numbers its targets from 1 to {largest:g}: a target mask contains 0 and 1, or 0 and {full:g}."
        )


def read_graded(
    path: Path, among: Mapping[str, NDArray[Any]], *, faint: bool = False, numbered: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Scores stored as integers, (rows, cols), 0 at nodata; where they are valid, of that shape; and what the integers
    were divided by, the range that :func:`read_mask` takes: scores above 0.5 are what it takes for targets.

    among : the values of all files, as there. faint, numbered : all of them may be below half of the range, or number
    targets, as scores of few levels may seem to. Raises InputError for these otherwise, and when the file has several
    bands that differ.
    """
    values, valid, top = _stored(path)
    found = among[values.dtype.name]
    largest = float(found.max(initial=0))
    full = _range(largest, top)
    if not faint:
        _refuse_faint(f"{path.parent} ({values.dtype.name})", largest, full, len(found))
    if not numbered:
        _refuse_numbered(path, values, largest, full)
    return values / full, valid, full


@contextmanager
def open_score(path: Path, var: str | None = None) -> Iterator[CubeReader]:
    """A score raster; ``var`` names a variable of a MAT file. Raises InputError where it has several bands."""
    with open_cube(path, var=var) as reader:
        if reader.shape[0] != 1:
            raise InputError(f"{path} has {reader.shape[0]} bands, but a score has one.")
        reader.refuse_complex()
        yield reader


def read_score(path: Path, *, scaled: bool = True, var: str | None = None) -> Cube:
    """A score raster, (1, rows, cols), as stored where not ``scaled``; raises what :func:`open_score` does."""
    with open_score(path, var) as reader:
        return reader.read(scaled=scaled)


def _listed(folder: Path, found: dict[str, Path], only: Collection[str] | None) -> dict[str, Path]:
    """Those of the images ``found`` in a folder that are listed; raises InputError when one is not there."""
    if only is None:
        return found
    only = {_listed_name(name, found) for name in only}
    absent = sorted(only - found.keys())
    if absent:
        raise InputError(f"{folder} contains no image {absent[0]!r} ({len(absent)} of the listed names are missing).")
    return {name: path for name, path in found.items() if name in only}


def pair(group: str, images: Path, masks: Path, only: Collection[str] | None = None) -> list[Sample]:
    """Images with the masks of the same stem (or stem + ``_mask``, ``_pixels0``); every image needs its mask.

    only : names to keep, with or without extension; raises InputError when one of them has no image.
    """
    refuse_no_folder(images, "the images")
    refuse_no_folder(masks, "the masks, which are images too")
    found, truth = _listed(images, inputs_in(images), only), images_in(masks)
    samples = []
    for name, path in found.items():
        mask = next((truth[name + end] for end in ("", *MASK_ENDS) if name + end in truth), None)
        if mask is None:
            _refuse_annotations(masks, name, path)
            raise InputError(f"{masks} contains no mask for {path.name}; an image without targets needs an empty mask.")
        samples.append(Sample(group, name, path, mask))
    if not samples:
        named = "" if only is None else " listed in the split file"
        raise InputError(f"{images} contains no images{named} ({', '.join(sorted(SUFFIXES))}).")
    return samples


def _refuse_annotations(masks: Path, name: str, image: Path) -> None:
    """Raise InputError where boxes or points lie in the place of masks: of an image, or of all in one file."""
    try:
        found = sorted(p for p in masks.iterdir() if p.suffix.lower() in ANNOTATIONS and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {masks} cannot be read ({error.strerror}).") from None
    own = [p for p in found if p.stem == name]
    if own or (found and not _holds_images(masks)):
        raise InputError(
            f"{(own or found)[0]} is no mask, but boxes or points perhaps: draw the targets of {image.name} as an "
            "image of its size, 255 where a target is and 0 elsewhere."
        )


def find_samples(root: Path, split: str | None = None) -> list[Sample]:
    """All samples below ``root``, in a fixed order.

    ``root`` is one set (folders ``images`` and ``masks``) or holds one set per sub-folder; a sub-folder with image
    files and no ``images`` folder is a set without targets. Hidden folders and those of training runs are passed over.
    ``split`` names a text file of names, one a line, in each set's folder; sets without that file are used whole.

    Raises InputError for a folder that holds no set, masks without images or beside them, folders that are named like a
    set's but otherwise, and a split file that no set has.
    """
    refuse_no_folder(root, "the sets of images", "the data folder")
    folders = [root]
    if not (root / "images").is_dir():
        _refuse_other_names(root)
        folders = _folders_in(root)
    listed = [folder for folder in folders if split and (folder / split).is_file()]
    samples: list[Sample] = []
    for folder in folders:
        group = folder.name or folder.resolve().name
        only = _names(folder / split) if split and folder in listed else None
        if (folder / "images").is_dir():
            samples += pair(group, folder / "images", folder / "masks", only)
        else:
            found = inputs_in(folder)
            mask = next((n + end for n in found for end in MASK_ENDS if n + end in found), None)
            if mask is not None:  # which would count as images without targets
                raise InputError(
                    f"{folder} contains masks beside the images, such as {found[mask].name}; put them into "
                    f"{folder / 'images'} and {folder / 'masks'}."
                )
            samples += [Sample(group, n, p, None) for n, p in _listed(folder, found, only).items()]
    if not samples:
        if _holds_images(root):
            raise InputError(
                f"{root} contains images itself, but a set needs a folder: put them into {root / 'images'} with their "
                f"masks in {root / 'masks'}, or into another sub-folder if none of them has a target."
            )
        raise InputError(f"{root} contains neither images/ and masks/ nor sub-folders that do.")
    if split and not listed:
        raise InputError(
            f"no set in {root} has a file {split} that lists its training images; write one, or train on all images "
            "with --set data.split="
        )
    return samples


def _folders_in(folder: Path) -> list[Path]:
    """Sub-folders, without hidden ones and what training has written; InputError where they cannot be listed."""
    try:
        found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror}).") from None
    return [p for p in found if not all((p / name).is_file() for name in (TRAINING_LOG, HELD_OUT))]


def _holds_images(folder: Path) -> bool:
    try:
        return any(p.suffix.lower() in SUFFIXES and not p.name.startswith(".") for p in folder.iterdir())
    except OSError:
        return False


def _refuse_other_names(root: Path) -> None:
    """Raise InputError where folders below ``root``, which is no set, hold masks or images of a set by other names:
    they would count as images without targets."""
    for folder in (root, *(p for p in _folders_in(root) if not (p / "images").is_dir())):
        inside = _folders_in(folder)
        holding = [p for p in (folder, *inside) if _holds_images(p)]
        for part in inside:
            # Of sub-folders the images are not read: those of a set would be left out.
            lost = part in holding and (folder == root or len(holding) > 1) and _OTHERS.search(part.name)
            if (part.name == "masks" or lost) and not (part / "images").is_dir():
                raise InputError(
                    f"{folder} contains {part.name}/ but no images/; the folders of a set have to be called images and "
                    "masks."
                )


def _names(listing: Path) -> list[str]:
    try:
        return [line.strip() for line in listing.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"the list {listing} cannot be read ({why}).") from None


def _listed_name(name: str, known: Collection[str]) -> str:
    """A ``name`` in a list as those ``known``, which have no extension: lists may have that of an image file."""
    stem, _, end = name.rpartition(".")
    return stem if name not in known and stem in known and f".{end.lower()}" in {*SUFFIXES, *DATA_SUFFIXES} else name


def keep_only(samples: list[Sample], listing: Path) -> list[Sample]:
    """The samples named in a text file, one ``NAME`` or ``SET/NAME`` a line, with or without the file's extension.

    Raises InputError when the file cannot be read, or names an image that is not there.
    """
    known = {s.name for s in samples} | {f"{s.group}/{s.name}" for s in samples}
    names = [_listed_name(name, known) for name in _names(listing)]
    absent = [n for n in names if n not in known]
    if absent or not names:
        what = f"lists {absent[0]!r}, which is not among the images" if absent else "lists no images"
        others = sorted({s.group for s in samples} - {n.rpartition("/")[0] for n in names})
        if absent and "/" in absent[0] and others:
            what += f"; the sets here are called as their folders, {', '.join(others)}"
        raise InputError(f"the list {listing} {what}.")
    wanted = set(names)
    return [s for s in samples if s.name in wanted or f"{s.group}/{s.name}" in wanted]
