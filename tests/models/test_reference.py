"""The published checkpoints give what the published code gave."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rsunfold import weights
from rsunfold.unfold.fast import for_inference

CHECKPOINTS = {
    "l-rpcanet/NUDT_SIRST_mIoU_92.37": {"K": 6, "c": 16, "C": 32, "R": 6, "carry_noise": False},
    "l-rpcanet/SIRST_Aug_mIoU_74.56": {"K": 6, "c": 4, "C": 32, "R": 6, "carry_noise": False},
    "rpcanet/RPCANet_NUDT": {"K": 6, "C": 32},
}


def relative(ours: torch.Tensor, theirs: np.ndarray) -> float:
    return float(np.abs(ours.squeeze().numpy() - theirs.squeeze()).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoint(name: str, shared: Path, tmp_path: Path):
    source = shared / "reference" / f"{name}.pkl"
    model = source.parent.name
    target = tmp_path / "imported.safetensors"
    record = weights.import_published(source, model, target)
    assert record.arch == CHECKPOINTS[name] and record.model == model
    assert source.name in record.origin and weights.sha256_of(source) in record.origin

    net, loaded, _ = weights.load(str(target), model)
    assert loaded == record
    fast = for_inference(net)
    files = sorted(source.parent.glob(f"{source.stem}.*.npz"))
    assert files, f"no reference outputs beside {source}"
    for file in files:
        with np.load(file) as data:
            x = torch.from_numpy(data["image"].astype(np.float32)).reshape(1, 1, *data["image"].shape[-2:])
            with torch.inference_mode():
                T, D = net(x, reconstruct=True)
                assert relative(T, data["logits"]) <= 1e-4
                assert relative(D, data["reconstruction"]) <= 1e-4
                assert relative(fast(x)[0], data["logits"]) <= 1e-4


def test_carrying_the_noise_would_not_reproduce_them(shared: Path, tmp_path: Path):
    source = shared / "reference" / "l-rpcanet" / "SIRST_Aug_mIoU_74.56.pkl"
    weights.import_published(source, "l-rpcanet", tmp_path / "a.safetensors")
    net = weights.load(str(tmp_path / "a.safetensors"))[0].eval()
    with np.load(source.with_name(f"{source.stem}.200x213.npz")) as data:
        x = torch.from_numpy(data["image"].astype(np.float32)).reshape(1, 1, 200, 213)
        net.arch["carry_noise"] = True
        with torch.inference_mode():
            assert relative(net(x)[0], data["logits"]) > 0.1
