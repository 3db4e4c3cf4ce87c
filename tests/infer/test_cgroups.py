"""What control groups allow."""

from __future__ import annotations

import sys

import pytest

from rsunfold.infer.cgroups import cores_in_groups, left_in_groups


def group(root, mount, files):
    """A control group as the kernel shows it: text by name of the file."""
    place = root / "sys/fs/cgroup" / mount
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(f"{text}\n")


def belongs_to(root, *lines):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(lines) + "\n")


def test_the_least_that_a_group_or_one_of_its_parents_allows(tmp_path):
    belongs_to(tmp_path, "0::/slurm/job_7/step_0")
    stat = {"memory.stat": "anon 50\nfile 40\nactive_file 10\ninactive_file 20"}
    group(tmp_path, "slurm/job_7/step_0", {"memory.max": "max", "memory.current": 90, **stat})
    assert left_in_groups(tmp_path) == sys.maxsize
    group(tmp_path, "slurm/job_7", {"memory.max": 400, "memory.current": 100, **stat})
    assert left_in_groups(tmp_path) == 400 - 100 + 30
    group(tmp_path, "slurm", {"memory.max": 300, "memory.current": 250, **stat})
    assert left_in_groups(tmp_path) == 300 - 250 + 30


def test_the_group_of_a_container_is_the_root_of_what_it_sees(tmp_path):
    belongs_to(tmp_path, "5:cpu,cpuacct:/docker/1a2b", "4:memory:/docker/1a2b", "0::/docker/1a2b")
    used = {
        "memory.usage_in_bytes": 100,
        "memory.stat": "cache 40\ninactive_file 1\ntotal_inactive_file 20\ntotal_active_file 10",
    }
    group(tmp_path, "memory", {"memory.limit_in_bytes": 400, **used})
    assert left_in_groups(tmp_path) == 330
    group(tmp_path, "memory", {"memory.limit_in_bytes": 90, **used})
    assert left_in_groups(tmp_path) == 20
    group(tmp_path, "memory", {"memory.limit_in_bytes": 60, **used})
    assert left_in_groups(tmp_path) == 0


def test_files_that_are_missing_or_odd(tmp_path):
    belongs_to(tmp_path, "", "odd", "0::/a/b", "3:memory:/a")
    group(tmp_path, "a/b", {"memory.max": "max", "memory.high": 500})
    assert left_in_groups(tmp_path) == 500
    group(tmp_path, "a", {"memory.max": 300, "memory.current": "", "memory.stat": "file\n\nactive_file 1"})
    assert left_in_groups(tmp_path) == 301
    group(tmp_path, "a", {"memory.max": "", "memory.current": 100})
    group(tmp_path, "memory/a", {"memory.limit_in_bytes": -1, "memory.usage_in_bytes": 50})
    assert left_in_groups(tmp_path) == 500
    group(tmp_path, "memory/a", {"memory.limit_in_bytes": 70, "memory.usage_in_bytes": 50})
    assert left_in_groups(tmp_path) == 20


def test_without_groups_nothing_is_limited(tmp_path):
    assert left_in_groups(tmp_path) == sys.maxsize
    belongs_to(tmp_path, "1:name=systemd:/user", "0::/")
    assert left_in_groups(tmp_path) == sys.maxsize
    assert cores_in_groups(tmp_path) == sys.maxsize


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("max 100000", sys.maxsize),
        ("200000", sys.maxsize),
        ("", sys.maxsize),
    ],
)
def test_cores_are_the_time_of_a_period_rounded_up(tmp_path, text, cores):
    belongs_to(tmp_path, "0::/slurm/job_7")
    group(tmp_path, "slurm/job_7", {"cpu.max": text})
    assert cores_in_groups(tmp_path) == cores
    group(tmp_path, "slurm", {"cpu.max": "100000 100000"})
    assert cores_in_groups(tmp_path) == 1


@pytest.mark.parametrize(("quota", "cores"), [(300000, 3), (-1, sys.maxsize), ("", sys.maxsize)])
def test_cores_of_the_first_version(tmp_path, quota, cores):
    belongs_to(tmp_path, "5:cpu,cpuacct:/docker/1a2b", "4:memory:/docker/1a2b")
    group(tmp_path, "cpu", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": 100000})
    assert cores_in_groups(tmp_path) == cores
