"""Clean cubes, and the noisy crops that are drawn from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.io import savemat

from rsunfold.errors import InputError
from rsunfold.simulate.noise import KINDS
from rsunfold.subspace import Subspace, subspace_of
from rsunfold.train.hyperspectral import data as module
from rsunfold.train.hyperspectral.data import WHITE, CleanCube, NoisyCrops, read_cubes
from rsunfold.train.hyperspectral.recipe import Augment, Data, Noise

AUGMENT = Augment(scene=(12, 18), crop=10)


def cube(level: float, bands: int = 12) -> np.ndarray:
    """(bands, 20, 22), smooth, near ``level``."""
    rng = np.random.default_rng(int(100 * level))
    maps = rng.random((3, 1, 1)) + np.linspace(0, 1, 20)[:, None] * np.linspace(0, 0.1, 22)
    return (level * (1 + 0.1 * np.einsum("br,rij->bij", rng.random((bands, 3)), maps))).astype(np.float32)


def crops(seed: int = 0, *, data: Data | None = None, noise: Noise | None = None, robust: bool = False) -> NoisyCrops:
    cubes = [CleanCube("dark", cube(0.1)), CleanCube("bright", cube(0.8))]
    return NoisyCrops(cubes, AUGMENT, noise or Noise(), data or Data(least_bands=4), seed, robust)


def test_a_crop_depends_on_seed_step_and_place_alone():
    first, second = crops(), crops()
    for step, i in ((0, 0), (0, 1), (7, 0)):
        second.item(3, 3)  # what was drawn before does not matter
        a, b = first.item(step, i), second.item(step, i)
        assert torch.equal(a.noisy, b.noisy) and torch.equal(a.clean, b.clean) and torch.equal(a.A, b.A)
    base = first.item(0, 0).noisy
    for other in (first.item(0, 1), first.item(1, 0), first.item(0, 0, rank=1), crops(1).item(0, 0)):
        assert other.noisy.shape != base.shape or not torch.equal(other.noisy, base)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("robust", [False, True])
def test_crops_are_whitened_and_have_their_subspace(kind, robust):
    made = crops(noise=Noise(kinds={kind: 1.0}), robust=robust)
    for i in range(3):
        item = made.item(0, i)
        bands = len(item.noisy)
        assert item.noisy.shape == item.clean.shape == (bands, 10, 10) and 4 <= bands <= 12
        assert all(x.dtype == torch.float32 and x.isfinite().all() for x in (item.noisy, item.clean, item.A))
        torch.testing.assert_close(item.A.mT @ item.A, torch.eye(item.A.shape[1]), atol=1e-5, rtol=0)
        if kind == "iid" and not robust and bands >= 9:
            assert 0.7 < float((item.noisy - item.clean).std()) < 1.4


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[np.ndarray, np.ndarray | None, Subspace]]:
    """(noisy, the noise that was told or None, subspace) of the scenes from which crops are cut."""
    seen = []

    def keep(noisy, *, sigma, robust):
        seen.append((noisy, sigma, subspace_of(noisy, sigma=sigma, robust=robust)))
        return seen[-1][2]

    monkeypatch.setattr(module, "subspace_of", keep)
    return seen


def test_lines_are_taken_off_where_they_are(drawn):
    made = crops(noise=Noise(kinds={"case2": 1.0}), robust=True)
    striped = 0
    for i in range(12):
        found = made.item(0, i).noisy.numpy()
        noisy, _, subspace = drawn[-1]
        striped += subspace.lines is not None
        whole = sliding_window_view(subspace.whiten(noisy, np.arange(noisy.shape[2])), (10, 10), (1, 2))
        assert np.isclose(whole, found[:, None, None], atol=1e-4).all((0, 3, 4)).sum() == 1
    assert striped > 3


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_the_noise_is_told_where_the_recipe_says(drawn, known):
    made = crops(noise=Noise(kinds={"iid": 1.0}, sigma=(25.5, 25.5), known=known))
    for i in range(3):
        made.item(0, i)
    for noisy, sigma, _ in drawn:
        assert sigma == pytest.approx(np.full(len(noisy), 0.1)) if known else sigma is None


def test_chosen_bands_stay_in_order_and_brightness_varies():
    ramp = np.linspace(0.1, 1, 12, dtype=np.float32)[:, None, None] * np.ones((20, 22), np.float32)
    made = NoisyCrops([CleanCube("ramp", ramp)], AUGMENT, Noise(), Data(least_bands=4), 0, robust=False)
    scenes = [made._scene(np.random.default_rng(k))[:, 0, 0] for k in range(30)]
    assert len({len(x) for x in scenes}) > 3 and all((np.diff(x) > 0).all() for x in scenes)
    brightest = [x[-1] for x in scenes if len(x) == 12]
    assert 0.3 <= min(brightest) < 0.5 and 0.8 < max(brightest) <= 1


def test_weights_decide_how_often_a_cube_is_drawn():
    made = crops(data=Data(least_bands=4, weights={"dark": 0.0, "unknown": 3.0}))
    assert made.often.tolist() == [0, 1]
    with pytest.raises(InputError, match="the recipe draws nothing"):
        crops(data=Data(weights={"dark": 0.0, "bright": 0.0}))


def test_cubes_are_read_and_scaled(tmp_path: Path):
    (tmp_path / "a").mkdir()
    savemat(tmp_path / "a" / "one.mat", {"cube": np.moveaxis(500 * cube(0.8), 0, -1)})
    (found,) = read_cubes(tmp_path, ["a"])
    assert found.name == "one" and found.data.dtype == np.float32 and found.data.shape == (12, 20, 22)
    assert float(np.percentile(found.data, WHITE)) == pytest.approx(1, rel=1e-5)
    (tmp_path / "b").mkdir()
    for place, words in (("b", "contains no cubes"), ("c", "does not exist"), ("a/one.mat", "is a file")):
        asks = rf"{place}, listed in data\.folders of the recipe, {words}; .* --set data\.folders="
        with pytest.raises(InputError, match=asks):
            read_cubes(tmp_path, ["a", place])
    with pytest.raises(InputError, match=r"^the data folder .*none does not exist\.$"):
        read_cubes(tmp_path / "none", ["a"])


def test_cubes_of_one_name_are_called_with_their_folders_and_each_folder_is_read_once(tmp_path: Path):
    for name in ("scene", "2024/05/scene", "2024/05/one", "2024/06/scene"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        savemat(tmp_path / f"{name}.mat", {"cube": np.moveaxis(cube(0.8), 0, -1)})
    found = read_cubes(tmp_path, ["2024/05", ".", "./2024/05/", "2024/06"])
    assert [c.name for c in found] == ["one", "2024/05/scene", "./scene", "2024/06/scene"]
    assert [c.name for c in read_cubes(tmp_path, ["2024/05"])] == ["one", "scene"]


def test_a_cube_of_negative_values_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    savemat(tmp_path / "a" / "one.mat", {"cube": np.moveaxis(-1 - cube(0.8), 0, -1)})
    with pytest.raises(InputError, match=r"one\.mat has no values above 0 to speak of"):
        read_cubes(tmp_path, ["a"])


def test_a_cube_with_holes_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    holed = np.moveaxis(cube(0.8), 0, -1).astype(np.float32)
    holed[:, :5] = np.nan
    savemat(tmp_path / "a" / "one.mat", {"cube": holed})
    with pytest.raises(InputError, match=r"one\.mat has 100 pixels without data, which no network can be trained on"):
        read_cubes(tmp_path, ["a"])
