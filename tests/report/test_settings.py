"""Pictures do not depend on what is set elsewhere, and change nothing there."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from rsunfold.report import roc_picture
from rsunfold.report.settings import drawn

CURVES = {"a": (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0]))}
PROGRAM = """
import sys, tempfile
from pathlib import Path
import numpy as np
from rsunfold.report import roc_picture
def none():
    raise FileNotFoundError("No usable temporary directory found")
if "untempered" in sys.argv:
    tempfile.gettempdir = none
roc_picture(Path("a.png"), {"a": (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.9, 1.0]))})
import matplotlib
print(sorted(path.name for path in Path().iterdir() if not path.name.startswith(".rsunfold-")))
"""


def test_settings_of_the_caller_change_no_picture_and_stay(tmp_path):
    roc_picture(tmp_path / "a.png", CURVES)
    changes = {"text.usetex": True, "savefig.bbox": "tight", "figure.facecolor": "black", "font.size": 30}
    with matplotlib.rc_context(changes):
        before = dict(matplotlib.rcParams)
        roc_picture(tmp_path / "b.png", CURVES)
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_one_thread_draws_at_a_time_and_the_settings_are_the_callers_again(tmp_path):
    inside, most = [], []

    @drawn
    def picture(path):
        inside.append(path)
        most.append(len(inside))
        matplotlib.rcParams["axes.grid"] = True  # as another thread of the caller may do
        threading.Event().wait(0.01)
        inside.remove(path)

    with matplotlib.rc_context({"font.size": 30}):
        before = dict(matplotlib.rcParams)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(picture, [tmp_path / str(n) for n in range(8)]))
        assert max(most) == 1 and dict(matplotlib.rcParams) == before | {"axes.grid": True}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_is_forked_while_a_picture_is_drawn_has_the_callers_settings(tmp_path):
    @drawn
    def picture(path):
        assert matplotlib.rcParams["font.size"] == 10
        if not (child := os.fork()):
            os._exit(0 if matplotlib.rcParams["font.size"] == 30 else 1)
        assert os.waitpid(child, 0)[1] == 0

    with matplotlib.rc_context({"font.size": 30}):
        picture(tmp_path)


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ([], {"MPLBACKEND": "module://no_such_module.backend"}),
        ([], {"HOME": "/proc/nohome", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}),
        (["untempered"], {"HOME": "/proc/nohome", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}),
    ],
    ids=["a backend that is not installed", "no home", "neither home nor temporary folder"],
)
def test_a_machine_that_lacks_what_matplotlib_would_like_to_have(words, environment, tmp_path):
    if not Path("/proc").is_dir():
        pytest.skip("needs a folder in which nobody can write")
    kept = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and done.stdout == "['a.png']\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
