"""What the control groups of Linux allow this process, by which containers and batch systems share a machine.

Source: Linux kernel documentation, admin-guide/cgroup-v2, cgroup-v1/memory and scheduler/sched-bwc.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath


def left_in_groups(root: Path = Path("/")) -> int:
    """Bytes that the control groups of this process still allow; sys.maxsize where nothing is set.

    The cache of files, which the kernel gives back, counts as free. root : where the file system begins.
    """
    names = {  # limits, what is used, prefix of the counts
        "": (("memory.max", "memory.high"), "memory.current", ""),
        "memory": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_"),
    }
    left = sys.maxsize
    for kind, place in _groups(root, names.keys()):
        limits, used, prefix = names[kind]
        most = [n for limit in limits if (n := _number(place / limit)) is not None and n >= 0]
        if most:
            counts = dict([*row.split(), "", ""][:2] for row in _lines(place / "memory.stat"))
            cache = sum(int(counts.get(f"{prefix}{age}_file") or 0) for age in ("active", "inactive"))
            left = min(left, max(0, min(most) - (_number(place / used) or 0) + cache))
    return left


def cores_in_groups(root: Path = Path("/")) -> int:
    """Cores whose time the control groups of this process allow, rounded up; sys.maxsize where nothing is set.

    More threads would be stopped together for the rest of each period once the time is used. root : where the file
    system begins.
    """
    cores = sys.maxsize
    for kind, place in _groups(root, {"", "cpu"}):
        if kind:
            quota, period = _number(place / "cpu.cfs_quota_us"), _number(place / "cpu.cfs_period_us")
        else:
            words = [*" ".join(_lines(place / "cpu.max")).split(), "", ""]
            quota, period = _whole(words[0]), _whole(words[1])
        if quota is not None and quota > 0 and period:
            cores = min(cores, math.ceil(quota / period))
    return cores


def _groups(root: Path, kinds: Set[str]) -> Iterator[tuple[str, Path]]:
    """Controller and folder of each group that this process is in, and of those above it.

    In a container only the last of these is there: the group is the root of what it sees.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for kind in set(controllers.split(",")) & kinds:
            group = PurePosixPath(path.lstrip("/"))
            for mount in {kind, controllers}:  # both "cpu" and "cpu,cpuacct" are found
                for part in (group, *group.parents):
                    yield kind, root / "sys/fs/cgroup" / mount / part


def _lines(path: Path) -> list[str]:
    """Lines of a file of the kernel; none where it is not there, as on other systems."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number in a file of the kernel; None where there is none, or ``max``."""
    return _whole(" ".join(_lines(path)).strip())


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None
