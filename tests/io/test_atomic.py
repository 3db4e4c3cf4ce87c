import errno
import os
import signal
from contextlib import nullcontext

import pytest

from rsunfold.errors import OutputError
from rsunfold.io.atomic import atomic_path, refuse_existing
from rsunfold.io.claims import _sweep


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_appears_under_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "new" / "folder" / "a.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".json"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and names(target.parent) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_leaves_nothing_behind_after_an_exception(tmp_path, error):
    with pytest.raises(error), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == []


def test_refuses_to_overwrite_unless_asked(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(OutputError, match=r"a\.json already exists.*--overwrite"), atomic_path(target):
        pytest.fail("the block must not run")
    with pytest.raises(RuntimeError), atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with atomic_path(target, overwrite=True) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and names(tmp_path) == ["a.json"]


def test_does_not_overwrite_what_appeared_meanwhile(tmp_path):
    target = tmp_path / "a.json"
    with pytest.raises(OutputError, match="already exists"), atomic_path(target) as temporary:
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs" and names(tmp_path) == ["a.json"]


def test_mode_follows_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a.json") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_long_names_fit(tmp_path):
    target = tmp_path / ("x" * 250 + ".json")
    with atomic_path(target) as temporary:
        temporary.write_text("x")
    assert target.exists()


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.json cannot be written"), atomic_path(tmp_path / "file" / "a.json"):
        pytest.fail("the block must not run")


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        with atomic_path(tmp_path / "a.img") as temporary:
            temporary.with_suffix(".hdr").write_text("half")
            os.utime(temporary, (0, 0))
            os.write(tell, b"x")
            signal.pause()
    try:
        os.read(told, 1)
        with atomic_path(tmp_path / "b.json"):
            assert len(names(tmp_path)) == 5  # two files and their claim, one file and its claim
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _sweep.cache_clear()
    with atomic_path(tmp_path / "c.json"):
        pass
    assert names(tmp_path) == ["b.json", "c.json"]


def test_target_is_a_folder(tmp_path):
    with pytest.raises(OutputError, match="is a folder"), atomic_path(tmp_path, overwrite=True):
        pytest.fail("the block must not run")


def test_folder_without_write_permission(plain_user):
    plain_user.chmod(0o500)
    with pytest.raises(OutputError, match="no permission for the folder"), atomic_path(plain_user / "a.json"):
        pytest.fail("the block must not run")
    for target in (plain_user / "a.json", plain_user / "new" / "folder" / "a.json"):
        with pytest.raises(
            OutputError, match=rf"{target} cannot be written: no permission for the folder {plain_user};"
        ):
            refuse_existing(target, True)
    plain_user.chmod(0o700)
    refuse_existing(plain_user / "new" / "folder" / "a.json", False)


def test_disk_full_is_an_output_error(tmp_path):
    words = r"a\.json cannot be written \(No space left on device; \d+ MiB are free"
    with pytest.raises(OutputError, match=words), atomic_path(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_failure_of_the_last_step_is_an_output_error(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self), None, str(target))

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OutputError, match="Operation not permitted"), atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == []


def refused(times):
    """``os.replace`` that another program, as on Windows, keeps from its work so many times."""
    rename, left = os.replace, [PermissionError(errno.EACCES, "Access is denied")] * times

    def replace(path, target):
        if left:
            error = left.pop()
            raise PermissionError(error.errno, error.strerror, str(path), None, str(target))
        rename(path, target)

    return replace


@pytest.mark.parametrize(("times", "waits"), [(2, (0, 0)), (2, (0,)), (1, ())])
def test_a_file_that_another_program_has_open_for_a_moment(tmp_path, monkeypatch, times, waits):
    monkeypatch.setattr("rsunfold.io.atomic.WAITS", waits)
    monkeypatch.setattr(os, "replace", refused(times))
    words = r"a\.json cannot be written \(Access is denied\); check its permissions and whether another program has"
    end = nullcontext() if times <= len(waits) else pytest.raises(OutputError, match=words)
    with end, atomic_path(tmp_path / "a.json") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == (["a.json"] if times <= len(waits) else [])
