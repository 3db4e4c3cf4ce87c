"""The weights that come with the package: unchanged, documented, and able to do what they are for."""

from pathlib import Path

import numpy as np
import pytest
import torch

import rsunfold
from rsunfold import weights
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.evaluate import read_sample
from rsunfold.io.samples import find_samples, keep_only
from rsunfold.metrics.denoising import quality
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.registry import all_models, get_model
from rsunfold.rule import Rule
from rsunfold.simulate.hyperspectral import hyperspectral_scene
from rsunfold.simulate.infrared import infrared_scenes
from rsunfold.simulate.noise import make_noise
from rsunfold.subspace import subspace_of
from rsunfold.train.hyperspectral.data import read_cubes, whitened
from rsunfold.unfold.operators import dead_operators

SHIPPED = sorted(weights.shipped())
TASKS = {name: get_model(weights.read_record(name).model).task for name in SHIPPED}
DETECTORS, DENOISERS = ([n for n in SHIPPED if TASKS[n] == task] for task in ("detect-ir", "denoise-hsi"))
ONE_SET = [n for n in DETECTORS if len(weights.read_record(n).figures) == 1]


def test_the_default_weights_are_shipped():
    assert "l-rpcanet" in SHIPPED


def test_weights_of_every_task_are_put_to_the_test():
    assert sorted(DETECTORS + DENOISERS) == SHIPPED


def test_every_model_that_promises_weights_has_them():
    assert {m.weights for m in all_models() if m.weights} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_file_record_and_card(name):
    path, expected = weights.find(name)
    assert weights.verify(name) == weights.sha256_of(path) == expected
    net, record, _ = weights.load(name)
    assert get_model(record.model).kind == "network"
    assert record.arch == net.arch and record.licence and record.trained_on and record.origin
    card = (weights.weights_folder() / f"{name}.md").read_text(encoding="utf-8")
    assert expected in card and record.model in card


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - set(ONE_SET)))
def test_targets_of_simulated_scenes_are_found(name):
    """Far from chance, on scenes that were never trained on."""
    detector = Detector(weights.read_record(name).model, weights=name, device="cpu")
    metrics, plain = InfraredMetrics(detector.own), InfraredMetrics(Rule(detector.own.threshold))
    for number, scene in enumerate(infrared_scenes(6, seed=1)):
        gray = np.round(scene.image * 255).astype(np.float32) / 255
        score = detector.score(gray)
        for found in (metrics, plain):
            found.update(str(number), score, scene.mask)
    assert plain.result()["iou_pooled"] > 0.3
    own = metrics.result()  # cautious: it leaves nine in ten scenes without targets without a detection
    assert own["iou_pooled"] > 0.2 and own["centroid"]["false_components_per_megapixel"] < 5


@pytest.mark.parametrize("name", ONE_SET)
def test_weights_of_one_set_find_the_targets_of_their_set(name, shared):
    """About as well as their card says, which is of all validation images, on about eight of them."""
    record = weights.read_record(name)
    listing = weights.weights_folder() / f"{name}.validation.txt"
    samples = keep_only(find_samples(shared / "data" / "irstd"), listing)
    samples = samples[:: len(samples) // 8]
    assert {s.group for s in samples} == {name.removeprefix(f"{record.model}-")} == set(record.figures)
    detector = Detector(record.model, weights=name, device="cpu")
    metrics = InfraredMetrics(detector.own)
    for sample in samples:
        image = read_sample(sample)
        metrics.update(sample.name, detector.score(image.gray), image.truth, image.valid, image.known)
    assert metrics.result()["iou_pooled"] > 0.65 * record.figures[samples[0].group]["iou_pooled"]


@pytest.mark.parametrize("name", DETECTORS)
def test_the_card_names_the_operators_without_effect(name):
    net, _, _ = weights.load(name)
    images = [torch.from_numpy(scene.image.astype(np.float32))[None, None] for scene in infrared_scenes(4, seed=2)]
    card = (weights.weights_folder() / f"{name}.md").read_text(encoding="utf-8")
    for operator in dead_operators(net, images):
        assert f"`{operator}`" in card


@pytest.mark.parametrize("name", DENOISERS)
def test_noise_of_a_simulated_scene_is_removed(name):
    """More than by leaving the subspace's noise in, on a scene that was never trained on."""
    scene = hyperspectral_scene(64, 64, 40, seed=1).data
    noisy = make_noise(scene, "iid", sigma=30.0, seed=0).data
    net, record, _ = weights.load(name)
    assert record.bands is None and record.scaling.startswith("whitened")
    subspace = subspace_of(noisy, robust=net.outliers)
    Y, A = torch.from_numpy(subspace.whiten(noisy)), torch.from_numpy(subspace.A.astype(np.float32))
    with torch.inference_mode():
        found = net.eval()(Y, A)[0]
    projected = (A @ (A.mT @ Y.flatten(1))).view(Y.shape)
    before, plain, after = (
        quality(scene, cube)["psnr"] for cube in (noisy, *(subspace.colour(x.numpy()) for x in (projected, found)))
    )
    assert after > before + 8 and after > plain + 1


@pytest.mark.parametrize("name", ["star-net", "star-net-s"])
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_where_there_is_hardly_any_noise_the_detail_stays(name, sigma):
    """The signal is up to thousands of times the noise, much more than in training."""
    scene = hyperspectral_scene(64, 64, 40, seed=1).data
    noisy = make_noise(scene, "iid", sigma=sigma, seed=0).data
    net, _, _ = weights.load(name)
    subspace = subspace_of(noisy, robust=net.outliers)
    Y, A = torch.from_numpy(subspace.whiten(noisy)), torch.from_numpy(subspace.A.astype(np.float32))
    with torch.inference_mode():
        found = net.eval()(Y, A)[0]
    projected = (A @ (A.mT @ Y.flatten(1))).view(Y.shape)
    plain, after = (quality(scene, subspace.colour(x.numpy()))["psnr"] for x in (projected, found))
    assert after > plain - 0.2


def test_impulses_in_most_pixels_of_dark_bands_do_not_lift_most_of_them():
    scene = 0.3 * hyperspectral_scene(64, 64, 40, seed=1).data
    noisy, rng = make_noise(scene, "iid", sigma=10.0, seed=0).data, np.random.default_rng(0)
    hit = rng.random((5, 64, 64)) < 0.6
    noisy[::8] = np.where(hit, rng.random((5, 64, 64)) < 0.5, noisy[::8])
    found = rsunfold.denoise_hsi(noisy, model="star-net-s", device="cpu").data
    pulled = (noisy - scene)[::8].mean(axis=(1, 2))
    left = (found - scene)[::8].mean(axis=(1, 2))
    # Not of each: one that is taken for a direction of its own keeps its impulses.
    assert pulled.min() > 0.1 and np.median(abs(left)) < 0.05 * pulled.min()


@pytest.mark.parametrize(("name", "noise"), [("star-net", "iid 30"), ("star-net-s", "case5"), ("smds-net", "iid 30")])
def test_a_figure_of_the_card_is_that_of_this_version(name, noise, shared, tmp_path):
    net, record, _ = weights.load(name)
    for place in ("hsi/clean/cave-3.mat", "had/abu-beach-4-crop.mat", "had/pavia-car.mat"):
        (tmp_path / Path(place).name).symlink_to(shared / "data" / place)
    kind, *sigma = noise.split()
    found = []
    for cube in read_cubes(tmp_path, ["."]):
        noisy = make_noise(cube.data, kind, sigma=float(sigma[0]) if sigma else None, seed=0).data
        subspace = subspace_of(noisy, robust=net.outliers)
        item = whitened(subspace, noisy, cube.data)
        with torch.inference_mode():
            found.append(quality(cube.data, subspace.colour(net(item.noisy, item.A)[0].numpy()))["psnr"])
    assert np.mean(found) == pytest.approx(record.figures[noise]["psnr"], abs=0.05)
