"""How viewers turn a picture, as its file says; GDAL and rsunfold take the pixels as they are stored."""

from __future__ import annotations

import struct
from pathlib import Path

SHOWN = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "upside down",
    5: "turned and mirrored",
    6: "turned by 90 degrees",
    7: "turned and mirrored",
    8: "turned by 270 degrees",
}
"""What the values of the tag Orientation mean (EXIF and TIFF alike), but for 1 and what is not defined."""
ORIENTATION, SHORT, MOST = 274, 3, 65536
"""The tag, its type, and the most directories of a TIFF that are looked at, which may refer to each other in a ring,
and entries in one."""


def orientation_note(value: int) -> str | None:
    """A sentence on a picture whose tag Orientation is ``value``; None where viewers show it as it is stored."""
    shown = SHOWN.get(value)
    return shown and (
        f"viewers show this picture {shown} (its orientation is {value}): rows and columns, also those of masks, are "
        "the ones that are stored"
    )


def of_tiff(file: Path, page: int = 1) -> int:
    """The tag Orientation of a page of a TIFF, counted from 1; 1 where it has none, or cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
            order = {b"II": "<", b"MM": ">"}[start[:2]]
            big = struct.unpack(f"{order}H", start[2:4])[0] == 43
            # of a BigTIFF, offsets and counts have 8 bytes
            count, entry, offset = (f"{order}Q", f"{order}HHQH6x", "Q") if big else (f"{order}H", f"{order}HHIH2x", "I")
            at = struct.unpack(order + offset, start[8:16] if big else start[4:8])[0]
            for number in range(1, min(page, MOST) + 1):
                stream.seek(at)
                entries = struct.unpack(count, stream.read(struct.calcsize(count)))[0]
                if entries > MOST:  # damaged: nobody has as much memory as a BigTIFF may ask for
                    break
                table = stream.read(entries * struct.calcsize(entry))
                if number == page:
                    tags = {tag: value for tag, kind, _, value in struct.iter_unpack(entry, table) if kind == SHORT}
                    return int(tags.get(ORIENTATION, 1))
                at = struct.unpack(order + offset, stream.read(struct.calcsize(offset)))[0]
    except (OSError, KeyError, struct.error, OverflowError):  # GDAL tells what is wrong with the file
        pass
    return 1
