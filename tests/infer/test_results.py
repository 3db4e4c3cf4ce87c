import errno
import fcntl
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio._env import get_gdal_config

from rsunfold.errors import ClaimedError, DeviceError, ExistsError, InputError, OutputError, UsageError
from rsunfold.infer.results import (
    Result,
    asked_for,
    environment,
    of_files,
    refuse_results,
    reserved,
)
from rsunfold.io.claims import _sweep
from rsunfold.io.inputs import refuse_inputs
from rsunfold.io.work import claimed, move_results, work_folder
from rsunfold.registry import get_model


@pytest.mark.parametrize("kind", [UsageError, InputError, OutputError, DeviceError])
def test_no_error_names_the_hidden_folder(tmp_path, kind):
    with pytest.raises(kind) as error, work_folder(tmp_path / "out") as work:
        raise kind(f"{work / 'a.tif'} cannot be.")
    assert str(error.value) == f"{tmp_path}/out/a.tif cannot be."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_all_files_are_moved(tmp_path, monkeypatch, number):
    """A part of a new result beside a part of an old one, with its summary, would be taken for done."""
    work, out = tmp_path / "work", tmp_path / "out"
    for folder, text in ((work, "new"), (out, "old")):
        folder.mkdir()
        for name in ("a_mask.tif", "a_score.tif", "a_summary.json"):
            (folder / name).write_text(text)
    rename, said = Path.replace, []

    def replace(self, target):
        os.kill(os.getpid(), number)
        moved = rename(self, target)
        said.append((out / "a_summary.json").exists())
        return moved

    monkeypatch.setattr(Path, "replace", replace)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            move_results(work, out, True)
    finally:
        signal.signal(number, before)
    assert said == [False] * 5 + [True]
    assert {p.read_text() for p in out.iterdir()} == {"new"} and not list(work.iterdir())


NEW = ("images/1.png", "images/2.png", "a_mask.tif", "a_score.tif", "a_summary.json")
OLD = ("images/1.png", "a_mask.tif", "a_score.tif", "a_score.tif.aux.xml", "a_stages.tif", "a_summary.json")


def move_onto_an_old_result(folder):
    """Files of ``folder`` after :func:`move_results`, by name, where it fails as if nothing had been."""
    folder.mkdir()
    with work_folder(folder / "out") as work:
        for name in NEW:
            (work / name).parent.mkdir(exist_ok=True)
            (work / name).write_text("new")
        for name in OLD:
            (folder / "out" / name).parent.mkdir(exist_ok=True)
            (folder / "out" / name).write_text("old")
        move_results(work, folder / "out", True, ["a_stages.tif"], within=["images"])


def told(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("blocked", "which"), [*((name, "old") for name in OLD), *((name, "new") for name in NEW)])
@pytest.mark.parametrize("cause", [errno.EACCES, errno.ENOSPC])
def test_a_file_that_cannot_be_replaced_leaves_all_as_it_was(tmp_path, monkeypatch, blocked, which, cause):
    """As on Windows, where another program has it open; ``which`` of its two moves fails."""
    rename = os.replace
    out = tmp_path / "a" / "out"
    open_elsewhere = out / blocked

    def replace(path, target):
        if open_elsewhere == Path(path if which == "old" else target):
            monkeypatch.setattr(os, "replace", rename)
            raise OSError(cause, os.strerror(cause), str(path), None, str(target))
        rename(path, target)

    monkeypatch.setattr(os, "replace", replace)
    advice = "whether another program has it open" if cause == errno.EACCES else "make room"
    with pytest.raises(OutputError, match=rf"{open_elsewhere} cannot be written \(.*{advice}"):
        move_onto_an_old_result(tmp_path / "a")
    assert told(out) == dict.fromkeys(OLD, "old")


@pytest.mark.parametrize("name", ["a_score.tif.ovr", "a_mask.img", "a_score.tif"])
def test_a_folder_in_the_way_is_not_removed(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine").touch()
    (tmp_path / "a_summary.json").write_text("old")
    with work_folder(tmp_path) as work:
        for each in ("a_score.tif", "a_summary.json"):
            (work / each).write_text("new")
        with pytest.raises(OutputError, match=f"{name} is a folder"):
            move_results(work, tmp_path, True, ["a_mask.img"])
    assert (tmp_path / name / "mine").exists() and (tmp_path / "a_summary.json").read_text() == "old"


def test_what_is_replaced_goes(tmp_path):
    move_onto_an_old_result(tmp_path / "a")
    assert told(tmp_path / "a" / "out") == dict.fromkeys(NEW, "new")


def test_no_summary_stands_beside_what_could_not_be_put_back(tmp_path, monkeypatch):
    rename = os.replace

    def replace(path, target):
        if "a_score.tif" in (Path(path).name, Path(target).name) and ".rsunfold-run-" not in str(target):
            raise PermissionError(errno.EACCES, "Access is denied", str(path), None, str(target))
        rename(path, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match=r"a_score\.tif cannot be written"):
        move_onto_an_old_result(tmp_path / "a")
    assert told(tmp_path / "a" / "out") == dict.fromkeys(set(OLD) - {"a_score.tif", "a_summary.json"}, "old")


@pytest.mark.parametrize("full", [False, True])
def test_results_are_moved_to_another_disk_or_not_at_all(tmp_path, monkeypatch, full):
    """A folder in the output may be a link to one."""
    rename, copy, elsewhere = os.replace, shutil.copyfile, tmp_path / "a" / "out" / "images"

    def replace(path, target):
        if (Path(path).parent == elsewhere) != (Path(target).parent == elsewhere):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(path), None, str(target))
        rename(path, target)

    def copyfile(path, target, **options):
        if full and Path(path).name == "2.png":
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(path, target, **options)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OutputError, match=r"2\.png cannot be written \(No space") if full else nullcontext():
        move_onto_an_old_result(tmp_path / "a")
    found = told(tmp_path / "a" / "out")
    assert set(found.values()) == {"old" if full else "new"} and set(found) == set(OLD if full else NEW)


def test_results_inherit_on_windows_who_may_read_them(tmp_path, monkeypatch):
    """With the mode 0o700, Python 3.12.4 and later would give the work folder, and what is made in it, to its owner."""
    made, mkdir = [], Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda self, mode=0o777, **more: (made.append(mode), mkdir(self, mode, **more)))
    for name in ("posix", "nt"):
        monkeypatch.setattr("rsunfold.io.work.os", SimpleNamespace(**{**vars(os), "name": name}))
        with work_folder(tmp_path):
            pass
    assert [mode for mode in made if mode != 0o777] == [0o700]


@pytest.fixture(params=["system", "windows"])
def locks(request, monkeypatch):
    """Locks as the system has them, and as Windows has: other calls, and a file that is locked cannot be removed."""
    if request.param == "system":
        return
    unlink, held = Path.unlink, set()

    def locking(found, how, count):
        try:
            fcntl.flock(found, how)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None
        (held.add if how & fcntl.LOCK_EX else held.discard)(found)

    def unless_locked(self, missing_ok=False):
        if self.exists() and any(os.path.samestat(os.fstat(found), self.stat()) for found in held):
            raise PermissionError(errno.EACCES, "Access is denied", str(self))
        unlink(self, missing_ok)

    windows = SimpleNamespace(locking=locking, LK_NBLCK=fcntl.LOCK_EX | fcntl.LOCK_NB, LK_UNLCK=fcntl.LOCK_UN)
    monkeypatch.setattr("rsunfold.io.claims.msvcrt", windows)
    monkeypatch.setattr("rsunfold.io.claims.fcntl", None)
    monkeypatch.setattr(Path, "unlink", unless_locked)


@pytest.mark.usefixtures("locks")
def test_work_folders_of_killed_runs_are_removed(tmp_path):
    kept = {".rsunfold-run-2": (99, 0), ".rsunfold-run-3": (0, 99), ".rsunfold-notes": (99, 99)}
    for name, hours in ((".rsunfold-claim-1", 99), (".rsunfold-claim-2", 0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - 3600 * hours))
    for name, (hours, of_map) in {".rsunfold-run-1": (99, 99), **kept}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "map").touch()
        for path, age in ((tmp_path / name / "map", of_map), (tmp_path / name, hours)):
            os.utime(path, (0, time.time() - 3600 * age))
    (tmp_path / "link").mkdir()
    (tmp_path / ".rsunfold-run-4").symlink_to(tmp_path / "link")
    with work_folder(tmp_path) as work:
        os.utime(work, (0, 0))
        _sweep.cache_clear()
        with work_folder(tmp_path):
            assert work.exists()  # it is in use
    assert {p.name for p in tmp_path.iterdir()} == {*kept, "link", ".rsunfold-run-4", ".rsunfold-claim-2"}


@pytest.mark.usefixtures("locks")
@pytest.mark.parametrize("here", [True, False])
def test_what_was_killed_on_this_machine_is_removed_at_once(tmp_path, monkeypatch, here):
    with work_folder(tmp_path) as work:
        (work / "map.tif").touch()
        kept = tmp_path / "of the killed"
        shutil.copytree(tmp_path, kept, ignore=lambda *_: [kept.name])
    out = tmp_path / "out"
    kept.rename(out)
    names = {path.name for path in out.iterdir()}
    assert len(names) == 2
    if not here:
        monkeypatch.setattr("rsunfold.io.claims._here", lambda: b"elsewhere")
    with work_folder(out):
        assert {path.name for path in out.iterdir()} & names == (set() if here else names)
        os.mkfifo(out / ".rsunfold-claim-fifo")
        assert _sweep(out, -1) is None  # nobody waits for a pipe


def test_a_link_in_place_of_a_claim_is_not_followed(tmp_path):
    """Whoever may write to a folder may plant one that leads to a file of somebody else."""
    private = tmp_path / "private"
    private.touch(mode=0o600)
    os.utime(private, (0, 0))
    out = tmp_path / "out"
    with claimed(out, "a_summary.json"):
        (name,) = (path.name for path in out.iterdir())
        (out / "keep").touch()
    for link, target in ((name, private), (".rsunfold-claim-x", private), (".rsunfold-claim-y", tmp_path / "new")):
        (out / link).symlink_to(target)
    with claimed(out, "a_summary.json"), work_folder(out):
        pass
    assert private.stat().st_mode & 0o777 == 0o600 and private.read_bytes() == b""
    assert not (tmp_path / "new").exists()


def test_a_folder_of_results_is_looked_through_once_in_a_while(tmp_path, monkeypatch):
    listed = []
    names = os.listdir
    monkeypatch.setattr("os.listdir", lambda folder: listed.append(folder) or names(folder))
    for _ in range(3):
        with work_folder(tmp_path):
            pass
    assert listed.count(tmp_path) == 1


@pytest.mark.usefixtures("locks")
def test_a_result_that_is_being_made_is_claimed(tmp_path):
    out = tmp_path / "new" / "out"
    with claimed(out, "a_summary.json"):
        with (
            pytest.raises(ClaimedError, match=r"a_summary\.json is being written by another"),
            claimed(out, "a_summary.json"),
        ):
            pytest.fail("the block must not run")
        with claimed(out, "b_summary.json"):
            pass
        with claimed(tmp_path, "a_summary.json"):
            pass
    assert not out.exists()
    with claimed(out, "a_summary.json"):
        (out / "a_summary.json").touch()
    assert [p.name for p in out.iterdir()] == ["a_summary.json"]


@pytest.mark.usefixtures("locks")
def test_a_run_that_was_killed_claims_nothing(tmp_path):
    child = os.fork()
    if not child:
        with claimed(tmp_path, "a_summary.json"):
            os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with claimed(tmp_path, "a_summary.json"):
        pass
    assert not list(tmp_path.iterdir())


def test_folders_that_were_made_for_a_result_that_fails_go(tmp_path):
    out = tmp_path / "a" / "b" / "c"
    with pytest.raises(InputError), claimed(out, "a_summary.json"):
        raise InputError("a cannot be read.")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_goes_while_a_result_is_claimed_is_made_again(tmp_path, monkeypatch):
    out, opening = tmp_path / "out", os.open

    def gone(path, *rest):
        monkeypatch.setattr(os, "open", opening)
        out.rmdir()
        return opening(path, *rest)

    monkeypatch.setattr(os, "open", gone)
    with (
        claimed(out, "a_summary.json"),
        pytest.raises(ClaimedError),
        claimed(out, "a_summary.json"),
    ):
        pytest.fail("the block must not run")
    assert not out.exists()


def test_without_locks_nothing_is_claimed_and_nothing_left(tmp_path, monkeypatch):
    def flock(found, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with claimed(tmp_path / "out", "a_summary.json"), claimed(tmp_path / "out", "a_summary.json"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("locks")
def test_what_another_run_is_moving_is_claimed_not_there(tmp_path):
    names, spec = {"score": "a_score.tif", "summary": "a_summary.json"}, get_model("mpcm")
    with claimed(tmp_path, "a_summary.json"):
        (tmp_path / "a_score.tif").touch()
        with pytest.raises(ClaimedError), reserved(tmp_path, names, spec, "a.tif", overwrite=False):
            pytest.fail("the block must not run")
    with pytest.raises(ExistsError), reserved(tmp_path, names, spec, "a.tif", overwrite=False):
        pytest.fail("the block must not run")


def test_of_many_runs_one_makes_a_result(tmp_path):
    """Started at once, each in turn holding it for a while: never two at a time."""
    count, ends = 6, os.pipe()
    for _ in range(count):
        if not os.fork():
            for _ in range(40):
                try:
                    with claimed(tmp_path, "a_summary.json"):
                        held = os.open(tmp_path / "alone", os.O_CREAT | os.O_EXCL)
                        os.close(held)
                        (tmp_path / "alone").unlink()
                except ClaimedError:
                    continue
                except FileExistsError:
                    os.write(ends[1], b"two")
            os._exit(0)
    for _ in range(count):
        os.wait()
    os.close(ends[1])
    assert os.read(ends[0], 9) == b"" and not list(tmp_path.iterdir())
    os.close(ends[0])


def test_what_a_vrt_is_made_of_is_an_input(tmp_path):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8"):
        pass
    (tmp_path / "m.vrt").write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(OutputError, match=r"a\.tif would overwrite the input"):
        refuse_inputs([tmp_path / "a.tif"], [str(tmp_path / "m.vrt")])


@pytest.mark.parametrize("beside", ["a-METADATA.XML", "a-METADATA.xml", "a-SPECTRAL_IMAGE.hdr"])
def test_what_lies_beside_a_tiff_and_says_what_it_holds_is_an_input(tmp_path, beside):
    (tmp_path / "a-SPECTRAL_IMAGE.TIF").touch()
    (tmp_path / beside).write_text("ENVI\nfile type = TIFF\n")
    with pytest.raises(OutputError, match=rf"{beside} would overwrite the input"):
        refuse_inputs([tmp_path / beside], [str(tmp_path / "a-SPECTRAL_IMAGE.TIF")])


def test_what_was_asked_for_is_what_the_samples_depend_on():
    @dataclass
    class Options:
        threshold: float = 0.5
        suffix: str = of_files(".img", ".tif")
        overwrite: bool = of_files(True)

    assert asked_for(Options(), sigma=None) == {"threshold": 0.5, "sigma": None}


@dataclass(repr=False)
class Made(Result):
    threshold: float
    indices: list[int]
    targets: list[Any]
    summary: dict[str, Any]
    score: Any = None


def test_a_result_shows_what_it_holds_on_a_few_short_lines():
    made = Made(0.8176123, list(range(200)), [object()] * 3, {f"key{n}": n for n in range(99)}, np.zeros((9, 7), "f4"))
    assert repr(made).splitlines() == [
        "Made",
        "  threshold: 0.817612",
        "  indices: [0, 1, 2, 3, 4, 5, ...]",
        "  targets: 3 of object",
        "  summary: 99 entries: key0, key1, key2, key3, key4, key5, key6, key7, key8, key9, key10, key11, key12, ...",
        "  score: float32 (9, 7)",
    ]
    assert repr(Made(1.0, [], [], {})).splitlines()[2:] == ["  indices: []", "  targets: []", "  summary: no entries"]


def test_results_do_not_get_the_header_of_another_tiff(tmp_path):
    (tmp_path / "a_score.hdr").write_text("ENVI\nfile type = TIFF\n")
    spec = get_model("top-hat")
    with pytest.raises(OutputError, match=r"a_score\.hdr would be taken for the header of .*a_score\.tif"):
        refuse_results(tmp_path, ["a_score.tif", "a_summary.json"], spec, "b.tif", overwrite=True)
    refuse_results(tmp_path, ["b_score.tif", "b_summary.json"], spec, "b.tif", overwrite=True)


@pytest.mark.parametrize("options", [None, {}, {"GDAL_CACHEMAX": 2**24}])
def test_calls_that_overlap_leave_the_cache_of_gdal_as_it_was(options):
    with nullcontext() if options is None else rasterio.Env(**options):
        before = get_gdal_config("GDAL_CACHEMAX")
        with ThreadPoolExecutor(1) as pool:
            other = environment()
            pool.submit(other.__enter__).result()
            with environment():
                inside = get_gdal_config("GDAL_CACHEMAX")
                pool.submit(other.__exit__, None, None, None).result()
        assert inside < before == get_gdal_config("GDAL_CACHEMAX")


def test_the_cache_of_gdal_holds_a_line_of_all_bands():
    """Without room for it, raw lines that hold the bands pixel by pixel take 30 times as long."""
    with environment():
        assert 1000 * 425 * 4 < get_gdal_config("GDAL_CACHEMAX") < 2**24
