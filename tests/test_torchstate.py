"""What torch keeps for the whole process, while calls run and after them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch

import rsunfold
from rsunfold import weights
from rsunfold.estimator import FeatureSelector
from rsunfold.torchstate import drawing, usual_torch


def printed(program: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_calls_that_overlap_keep_single_precision_and_give_back_what_was_set(double):
    first, second = usual_torch(), usual_torch()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float32
    second.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float64


def test_a_type_that_is_set_while_a_call_runs_changes_none(double):
    first, second = usual_torch(), usual_torch()
    first.__enter__()
    torch.set_default_dtype(torch.float16)
    second.__enter__()
    assert torch.get_default_dtype() == torch.float32
    second.__exit__(None, None, None)
    first.__exit__(None, None, None)
    assert torch.get_default_dtype() == torch.float16


@pytest.fixture
def precise():
    yield
    torch.set_float32_matmul_precision("highest")


def test_products_are_exact_and_then_as_the_caller_had_them(precise):
    torch.set_float32_matmul_precision("medium")
    with usual_torch(), usual_torch():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch has a single setting")
def test_products_of_one_backend_are_then_as_the_caller_had_them(precise):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with usual_torch():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_autocast_of_the_caller_is_off():
    with torch.autocast("cpu", torch.bfloat16), usual_torch():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_without_torch_nothing_is_set(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with usual_torch():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_does_not_wait_for_threads_that_it_has_not():
    program = (
        "import os, threading\n"
        "import torch\n"
        "from rsunfold import torchstate\n"
        "torch.set_default_dtype(torch.float64)\n"
        "entered, leave = threading.Event(), threading.Event()\n"
        "def inside():\n"
        "    with torchstate.usual_torch(), torchstate.drawing():\n"
        "        entered.set()\n"
        "        leave.wait()\n"
        "thread = threading.Thread(target=inside)\n"
        "thread.start()\n"
        "entered.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    with torchstate.usual_torch(), torchstate.drawing(1), torchstate.drawing(2):\n"
        "        right = torch.get_default_dtype() == torch.float32\n"
        "    os._exit(0 if right and torch.get_default_dtype() == torch.float64 else 1)\n"
        "leave.set()\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    assert printed(program) == "0\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_computes_although_its_parent_has_used_several_threads():
    program = (
        "import os\n"
        "import numpy as np, torch\n"
        "import rsunfold\n"
        "torch.set_num_threads(2)\n"
        "image = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)\n"
        "rsunfold.detect_ir(image)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    rsunfold.detect_ir(image)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1], torch.get_num_threads())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, process_group=0) as run:
        try:
            assert run.communicate(timeout=120)[0] == "0 2\n"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)  # a child that waits for ever, too


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_keeps_its_threads_where_no_network_was_used():
    program = (
        "import os\n"
        "import numpy as np, torch\n"
        "import rsunfold\n"
        "torch.set_num_threads(2)\n"
        "rsunfold.detect_ir(np.eye(16, dtype=np.uint8), model='top-hat')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(torch.get_num_threads())\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert printed(program) == "2\n"


def test_the_estimator_is_as_usual_on_the_callers_device():
    X = np.random.default_rng(0).random((40, 6))
    usual = FeatureSelector(3).fit(X).order_
    torch.set_default_device("meta")
    try:
        np.testing.assert_array_equal(FeatureSelector(3).fit(X).order_, usual)
    finally:
        torch.set_default_device(None)


def test_weights_leave_the_callers_numbers():
    before = torch.get_rng_state()
    weights.load("l-rpcanet")
    assert torch.equal(before, torch.get_rng_state())


def test_tensors_are_made_on_the_cpu_whatever_the_callers_device():
    torch.set_default_device("meta")
    try:
        with usual_torch():
            assert torch.ones(1).device.type == "cpu"
        assert torch.ones(1).device.type == "meta"
        image = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
        with_meta = rsunfold.detect_ir(image).score
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(with_meta, rsunfold.detect_ir(image).score)


def test_a_caller_that_is_still_importing_torch_is_waited_for():
    program = (
        "import sys, threading, time\n"
        "from rsunfold.torchstate import usual_torch\n"
        "threading.Thread(target=lambda: __import__('torch')).start()\n"
        "while 'torch' not in sys.modules:\n    time.sleep(1e-4)\n"
        "with usual_torch():\n    print(sys.modules['torch'].get_default_dtype())\n"
    )
    assert printed(program) == "torch.float32\n"


def test_numbers_of_a_seed_are_the_same_in_every_thread_and_the_callers_stay():
    def draw(seed):
        with drawing(seed):
            return [float(torch.rand(1)) for _ in range(200)]

    before = torch.get_rng_state()
    alone = [draw(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(draw, range(6))) == alone
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert draw(3) == [float(torch.rand(1)) for _ in range(200)]


def test_detectors_in_threads_learn_what_they_learn_alone():
    cube = np.random.default_rng(1).random((6, 20, 20), np.float32)

    def score(seed):
        started.wait()
        return rsunfold.detect_anomaly(cube, model="auto-ad:iterations=2", seed=seed).score

    started = threading.Barrier(1)
    alone = [score(seed) for seed in range(4)]
    started = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(score, range(4)), strict=True):
            np.testing.assert_array_equal(one, other)
