"""What torch keeps for the whole process, while calls run and after them."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import rsunfold
from rsunfold.torchstate import drawing, usual_torch


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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.float32\n"


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
