"""What is asked for of memory and devices, and what is there."""

import math
from types import SimpleNamespace

import pytest
import torch

from rsunfold.errors import DeviceError, UsageError
from rsunfold.infer.device import device_failures, free_on, parse_memory, pick_device, resident


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2e9),
        ("500 MB", 5e8),
        ("1.5GiB", 1.5 * 2**30),
        ("64kib", 2**16),
        ("3g", 3e9),
        ("1Ti", 2**40),
        ("1000000", 1e6),
        (12_345_678, 12_345_678),
        ("2000B", 2000),
    ],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-2GB", "0", "2 XB", "1,5GB", "GB", "nan", -1])
def test_sizes_that_are_none(text):
    with pytest.raises(UsageError, match="--memory takes a size such as 500MB or 2GB"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["2000", "4", "0.5", 999_999])
def test_small_numbers_lack_their_unit(text):
    with pytest.raises(UsageError, match=rf"^--memory {text} would be {text} bytes; give it a unit, such as 500MB"):
        parse_memory(text)


@pytest.mark.parametrize(("free", "in_group"), [(600, math.inf), (1000, 600)])
def test_default_is_what_is_held_and_half_of_what_is_free_in_the_group(monkeypatch, free, in_group):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr("rsunfold.infer.device.left_in_groups", lambda: in_group)
    monkeypatch.setattr("rsunfold.infer.device.resident", lambda: 100)
    assert parse_memory(None) == 100 + 300


def test_what_is_held_is_counted_in_bytes():
    assert 10**7 < resident() < 10**11


@pytest.fixture
def usable(monkeypatch):
    """GPUs that are there, where the test says so, compute."""
    monkeypatch.setattr("rsunfold.infer.device._try", lambda device: None)


BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be reported later."
FULL = "CUDA out of memory. Tried to allocate 2.00 MiB."


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize("error", [RuntimeError(BUSY), torch.OutOfMemoryError(FULL), RuntimeError("?")])
def test_a_gpu_that_cannot_be_used(monkeypatch, name, error):
    def fail(*size, device):
        assert device.type == "cuda"
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(DeviceError) as raised:
        pick_device(name)
    first = str(error).split("\n")[0].rstrip(".")
    assert str(raised.value) == f"the GPU cuda cannot be used ({first}); free it, or use --device cpu."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError(BUSY), r"the GPU failed \(CUDA error: .* unavailable\); free it, or use --device cpu"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "the GPU failed .*--device cpu"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "out of memory; less, or use --device cpu"),
        (torch.OutOfMemoryError(FULL), "out of memory; less, or use --device cpu"),
        (MemoryError(), r"out of memory; less\."),
        (DeviceError(f"our own ({FULL})"), "our own"),
    ],
)
def test_errors_of_devices_are_one_sentence(error, message):
    with pytest.raises(DeviceError, match=message), device_failures("less"):
        raise error


def test_other_errors_are_no_errors_of_devices():
    with pytest.raises(RuntimeError, match="shapes") as raised, device_failures():
        raise RuntimeError("the shapes do not fit")
    assert not isinstance(raised.value, DeviceError)


def test_devices_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(DeviceError, match=rf"--device {name} is not available: .* 0 CUDA device.*use --device cpu"):
            pick_device(name)
    with pytest.raises(DeviceError, match="--device mps is not available"):
        pick_device("mps")


def test_models_that_apple_gpus_cannot_run(usable, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("mps") == torch.device("mps")
    assert pick_device("auto", apple=False) == torch.device("cpu")
    with pytest.raises(DeviceError, match="needs float64 or eigenvalues, which --device mps does not have"):
        pick_device("mps", apple=False)


@pytest.mark.parametrize("model", ["star-net", "star-net-s", "lrr-net-plus"])
def test_such_models_say_so_before_they_run(model, monkeypatch):
    from rsunfold.infer.anomaly.detector import AnomalyDetector
    from rsunfold.infer.hsi.denoiser import Denoiser

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    kind = AnomalyDetector if model == "lrr-net-plus" else Denoiser
    assert kind(model).device_name == "cpu"
    with pytest.raises(DeviceError, match="which --device mps does not have"):
        kind(model, device="mps")


def test_devices_with_one_gpu(usable, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="1 CUDA device"):
        pick_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CUDA"])
def test_unknown_devices(name):
    with pytest.raises(UsageError, match=r"unknown --device .*; use auto, cpu, cuda"):
        pick_device(name)


def test_a_gpu_with_less_free_memory_than_the_budget_limits_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    assert free_on(torch.device("cuda"), 10**6) == 800
    assert free_on(torch.device("cuda"), 500) == 500
    assert free_on(torch.device("cpu"), 10**6) == 10**6
