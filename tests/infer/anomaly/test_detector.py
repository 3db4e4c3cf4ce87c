"""AnomalyDetector: priors, options, tiles, windows, and every kind of pixel and band that takes no part."""

import json
import warnings

import numpy as np
import pytest
import torch

from rsunfold.cube import Meta
from rsunfold.errors import DeviceError, InputError, UsageError
from rsunfold.infer.anomaly.detector import AnomalyDetector, options_of
from rsunfold.infer.anomaly.priors import PRIORS, AttributeProfile, edge_preserving, guide_of, small_object
from rsunfold.infer.anomaly.run import Options, detect_array
from rsunfold.infer.spectral import SpectralImage
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.anomaly import detection
from rsunfold.registry import all_models, get_model
from rsunfold.scene import scene_of

from .conftest import scenery

LIGHT = ("rx", "lrr-net-plus")
MODELS = [spec.name for spec in all_models("detect-anomaly")]


def opened(cube, *, nodata=None, **meta) -> SpectralImage:
    reader = ArrayReader(cube, nodata=nodata)
    if meta:
        reader.meta = Meta(driver="array", **meta)
    return SpectralImage(reader)


def scored(cube, detector, *, stages=False, nodata=None, **meta):
    with opened(cube, nodata=nodata, **meta) as image:
        return detector.scored(image, stages=stages)


def tiny(name: str) -> dict:
    """Options that make a method fast."""
    sizes = get_model(name).sizes.get("tiny", {})
    return {**sizes, "iterations": 5} if name == "auto-ad" else sizes


def unit(cube) -> np.ndarray:
    """Samples from 0 to 1, as models see them."""
    return ((cube - cube.min()) / np.ptp(cube)).astype(np.float32)


# ---------------------------------------------------------------- what is asked for


def test_the_default_has_all_priors_and_others_none():
    assert AnomalyDetector(device="cpu").priors == tuple(PRIORS)
    assert AnomalyDetector("rx").priors == ()
    assert AnomalyDetector(options={"literal": True}, device="cpu").priors == ()
    assert (
        AnomalyDetector(priors=[], device="cpu").priors == AnomalyDetector(priors=["none"], device="cpu").priors == ()
    )


def test_priors_are_named_and_act_in_their_order():
    found = AnomalyDetector("rx", priors=["edge-preserving", "attribute-profile", "edge-preserving"])
    assert found.priors == ("attribute-profile", "edge-preserving")
    assert found.describe()["priors"] == ["attribute-profile", "edge-preserving"]
    assert json.dumps(found.describe())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"priors": ["kernle"]}, "unknown prior 'kernle'; did you mean 'kernel'?"),
        ({"priors": ["zzz"]}, "unknown prior 'zzz'; choose from attribute-profile, kernel"),
        ({"priors": ["none", "kernel"]}, "the prior none cannot be combined with others"),
        ({"options": {"epoch": 3}}, "lrr-net-plus has no option 'epoch'; its options are atoms, stages, epochs, "),
        ({"options": {"epochs": -1}}, "epochs of lrr-net-plus must be at least 0, not -1"),
        ({"model": "rpca", "options": {"outer": 3}}, "rpca has no option 'outer'; its options are"),
        ({"model": "rxx"}, "unknown model 'rxx' for detect-anomaly; did you mean 'rx'?"),
        ({"model": "l-rpcanet"}, "l-rpcanet"),
        ({"object_size": 0}, "--object-size must be at least 1 pixel, not 0"),
        ({"window": 15}, "--window must be at least 16 pixels, not 15"),
        ({"seed": -1}, "the seed must lie between 0 and 4294967295, not -1"),
        ({"seed": 2**32}, "the seed must lie between 0 and 4294967295, not 4294967296"),
        ({"model": "rx", "device": "cuda"}, "rx is a classical method and runs only on the CPU, not on cuda"),
        ({"device": "gpu"}, "unknown --device 'gpu'"),
        ({"memory": "lots"}, "--memory takes a size"),
    ],
)
def test_what_cannot_be(extra, message):
    with pytest.raises(UsageError) as caught:
        AnomalyDetector(**{"device": "cpu" if extra.get("model") != "rx" else "auto", **extra})
    assert message in str(caught.value)


def test_options_that_were_not_given_are_left_out():
    found = AnomalyDetector("local-rx", options={"outer": 19, "inner": None})
    assert found.options == {"outer": 19} and found.model.outer == 19


def test_options_go_to_the_models_that_know_them():
    given = {"epochs": 3, "outer": 9}
    models = ["lrr-net-plus", "rx", "crd"]
    assert options_of("lrr-net-plus", given, models) == {"epochs": 3}
    assert options_of("rx", given, models) == {}
    assert options_of("crd", given, models) == {"outer": 9}
    assert options_of("rx", given, ["rx"]) == given  # and the detector says that it has none such


def test_stages_belong_to_an_unrolled_network():
    for name in MODELS:
        if name != "lrr-net-plus":
            with pytest.raises(UsageError, match=f"{name} has no stages; leave out --stages"):
                AnomalyDetector(name).require_stages()
    with pytest.raises(UsageError, match="cannot be combined with --window"):
        AnomalyDetector(device="cpu", window=32).require_stages()
    AnomalyDetector(device="cpu").require_stages()


# ---------------------------------------------------------------- what the parts do


def test_no_prior_is_the_model_itself(scene, make):
    cube = unit(scene.cube)
    expected = get_model("rx").build().fit(scene_of(cube))(cube, np.ones(cube.shape[1:], bool))
    found = scored(scene.cube, make("rx"))
    np.testing.assert_allclose(found.score, expected, rtol=1e-4)
    assert found.score.dtype == np.float32 and found.valid.all() and found.plan.whole and found.learned is None


@pytest.mark.parametrize("prior", PRIORS)
def test_each_prior_is_its_function(prior, scene, make):
    cube, everywhere = unit(scene.cube), np.ones(scene.truth.shape, bool)
    plain = scored(scene.cube, make("rx")).score
    whole = scene_of(cube)

    def rx(seen):
        return get_model("rx").build().fit(scene_of(seen))(seen, everywhere)

    expected = {
        "attribute-profile": lambda: rx(AttributeProfile(whole, 20)(cube)),
        "kernel": lambda: np.sqrt(plain * np.sqrt(get_model("kernel-rx").build().fit(whole)(cube, everywhere))),
        "small-object": lambda: small_object(plain, 20),
        "edge-preserving": lambda: edge_preserving(plain, guide_of(whole)(cube)[0] / 8, everywhere),
    }[prior]()
    found = scored(scene.cube, make("rx", priors=[prior])).score
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert not np.allclose(found, plain, rtol=1e-2)


def test_the_default_finds_the_objects(scene, make):
    found = scored(scene.cube, make())
    assert detection(found.score, scene.truth)["auc_df"] > 0.99
    assert found.learned is not None and len(found.learned["stages"]) == 2 and json.dumps(found.learned)


def test_larger_objects_than_asked_for_are_none(scene, make):
    truth = np.zeros_like(scene.truth)
    truth[3:9, 3:9] = True
    cube = np.where(truth, scene.cube[:, 4:5, 5:6], scene.cube)
    for prior in ("attribute-profile", "small-object"):
        small, large = (scored(cube, make("rx", priors=[prior], object_size=n)).score[truth].mean() for n in (20, 60))
        assert large > 3 * small, prior


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides(name, scene, make):
    first, again = (scored(scene.cube, make(name, options=tiny(name), seed=3)).score for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("model", ["rx", "lrr-net-plus"])
def test_units_do_not_matter(model, scene, make):
    plain = scored(scene.cube, make(model)).score
    for gain, offset in ((1e-4, 0.0), (1.0, -5000.0)):
        other = scored(scene.cube * np.float32(gain) + np.float32(offset), make(model)).score
        np.testing.assert_allclose(other, plain, rtol=5e-3, atol=5e-3 * float(plain.max()))


# ---------------------------------------------------------------- pixels and bands that take no part


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "nan") for name in MODELS), *((name, "nodata") for name in LIGHT), ("rx", "masked")]
)
def test_invalid_pixels_are_nan_and_without_influence(name, kind, scene, make):
    holes = np.zeros(scene.truth.shape, bool)
    holes[8:11, 3:6] = holes[29, 33] = holes[20, 20] = True

    def run(fill: float):
        cube = scene.cube.copy()
        if kind == "nodata":
            cube[:, holes] = fill
            return scored(cube, make(name, options=tiny(name)), nodata=fill)
        if kind == "nan":
            cube[:, holes] = fill
            cube[2, holes] = np.nan
            return scored(cube, make(name, options=tiny(name)))
        cube[:, holes] = fill
        return scored(np.ma.array(cube, mask=np.broadcast_to(holes, cube.shape)), make(name, options=tiny(name)))

    first, second = run(-1e4), run(1e6)
    np.testing.assert_array_equal(np.isnan(first.score), holes)
    np.testing.assert_array_equal(first.valid, ~holes)
    np.testing.assert_array_equal(first.score, second.score)
    assert (first.score[~holes] >= 0).all()


@pytest.mark.parametrize("name", ["rx", "kernel-rx", "rpca"])
def test_what_fills_holes_is_in_no_statistics(name, scene, make):
    """A pixel's score depends on the statistics alone: without a part of the image they are those of the rest."""
    cube = scene.cube.copy()
    cube[:, 20:] = np.nan
    rest = scored(scene.cube[:, :20], make(name, options=tiny(name))).score
    found = scored(cube, make(name, options=tiny(name))).score[:20]
    np.testing.assert_allclose(found, rest, rtol=1e-3, atol=1e-4 * float(rest.max()))


def test_holes_do_not_hide_objects(scene, make):
    cube = scene.cube.copy()
    cube[:, 8:11, 3:6] = np.nan
    found = scored(cube, make())
    assert detection(found.score, scene.truth, found.valid)["auc_df"] > 0.99


@pytest.mark.parametrize("model", ["rx", "lrr-net-plus"])
def test_bands_that_take_no_part(model, scene, make):
    cube = np.concatenate([scene.cube, np.full((1, 30, 34), 7, np.float32), scene.cube[:1] * 1e6, scene.cube[:1]])
    cube[10] = np.nan
    bad = tuple(i == 9 for i in range(11))
    found = scored(cube, make(model), bad_bands=bad)
    np.testing.assert_allclose(found.score, scored(scene.cube, make(model)).score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_duplicate_bands(name, scene, make):
    found = scored(np.concatenate([scene.cube, scene.cube]), make(name, options=tiny(name))).score
    assert np.isfinite(found).all() and found.std() > 0
    if name in ("rx", "lrr-net-plus"):
        plain = scored(scene.cube, make(name)).score
        np.testing.assert_allclose(found, plain, rtol=2e-2, atol=2e-3 * float(plain.max()))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("priors", [[], list(PRIORS)], ids=["plain", "priors"])
@pytest.mark.parametrize("shape", [(1, 2), (40, 1), (2, 2), (3, 5)])
def test_fewer_pixels_than_bands_and_thin_images(name, priors, shape, make):
    rows, cols = shape
    cube = scenery(50, *(max(30, n) for n in shape)).cube[:, :rows, :cols]
    detector = make(name, priors=priors, options=tiny(name), object_size=9)
    # The profile of a line spans fewer dimensions than pixels.
    refused = {"crd": lambda model: max(shape) <= model.inner // 2 + 1, "rx": lambda _: not priors or min(shape) > 1}
    if name in refused and refused[name](detector.model):
        with pytest.raises(InputError, match=f"has no pixel with a score, as {name} finds too few others"):
            scored(cube, detector)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scored(cube, detector).score
    assert found.shape == shape and np.isfinite(found).all() and (found >= 0).all()


@pytest.mark.parametrize("priors", [[], list(PRIORS)], ids=["plain", "priors"])
def test_one_band(priors, scene, make):
    cube = scene.cube[:1].copy()
    cube[0, 7, 7] = 2 * cube.max()
    found = scored(cube, make(priors=priors)).score
    assert np.isfinite(found).all() and found.argmax() == 7 * 34 + 7


def test_nothing_to_look_at(make):
    with pytest.raises(InputError, match="is constant in every band"):
        scored(np.full((3, 8, 8), 7, np.float32), make())
    with pytest.raises(InputError, match="has no valid pixel"):
        scored(np.full((3, 8, 8), np.nan, np.float32), make())


# ---------------------------------------------------------------- stages


def test_stages(scene, make):
    cube = scene.cube.copy()
    cube[:, 3, 3] = np.nan
    found = scored(cube, make(priors=[]), stages=True)
    assert [tuple(s) for s in found.stages] == [("background", "residual", "S")] * 2
    np.testing.assert_array_equal(found.stages[-1]["residual"], found.score)
    for maps in found.stages:
        for values in maps.values():
            assert values.dtype == np.float32 and np.isnan(values[3, 3]) and np.isfinite(values).sum() == 30 * 34 - 1
    assert scored(cube, make(priors=[])).stages == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(DeviceError, match="cuda"):
        AnomalyDetector(device="cuda")


@pytest.mark.parametrize(
    "model", ["rx", "local-rx:inner=5:outer=9", "kernel-rx", "lrasr", "rpca", "crd:inner=5:outer=9"]
)
def test_one_wild_sample_changes_little_elsewhere(model):
    """A spike of a single band, as atmospheric correction leaves them: other pixels keep their rank."""
    rng = np.random.default_rng(4)
    row, col = np.mgrid[:24, :24] / 24
    parts = np.stack([np.ones_like(row), np.sin(4 * row), np.cos(5 * col)])
    cube = (np.tensordot(rng.random((12, 3)), parts, 1) / 5 + rng.normal(0, 0.01, (12, 24, 24))).astype(np.float32)
    spiked = cube.copy()
    spiked[7, 3, 4] = 1e6
    found, below = [], []
    for data in (cube, spiked):
        detector = AnomalyDetector(model, memory="4GB")
        with SpectralImage(ArrayReader(data), spikes="limited") as image:
            score = detector.scored(image).score
            assert ("were limited" in str(image.remarks())) == (data is spiked)
        below.append(float((score < score[3, 4]).mean()))
        found.append(np.delete(score.ravel(), 3 * 24 + 4))
    assert below[1] > max(below[0], 0.5)
    ranks = [np.argsort(np.argsort(score)) for score in found]
    assert np.corrcoef(*ranks)[0, 1] > 0.8


@pytest.mark.parametrize("model", ["crd", "local-rx"])
def test_pixels_with_nothing_to_compare_them_with_have_no_score(model, scene):
    """An island in a lake of nodata, smaller than the inner window."""
    cube = scene.cube.copy()
    cube[:, 4:26, 4:26] = np.nan
    cube[:, 14:17, 14:17] = scene.cube[:, 14:17, 14:17]
    detector = AnomalyDetector(f"{model}:inner=9:outer=11", memory="4GB")
    found = scored(cube, detector)
    island = np.zeros(found.valid.shape, bool)
    island[14:17, 14:17] = True
    assert found.alone == 9 and not found.valid[island].any() and np.isnan(found.score[island]).all()
    assert np.isfinite(found.score[found.valid]).all() and found.valid.sum() == np.isfinite(cube[0]).sum() - 9
    summary = detect_array(ArrayReader(cube), detector, Options()).summary
    assert summary["pixels_without_score"] == 9 and summary["valid_pixels"] == found.valid.sum() + 9
    (note,) = [n for n in summary["notes"] if "no score" in n]
    assert note.startswith(f"9 valid pixels have no score, as {model} finds too few others to compare them with: there")


def test_an_image_inside_the_inner_window(scene):
    with pytest.raises(InputError, match=r"crd finds .*: there are none between its two windows; make them smaller"):
        scored(scene.cube[:, :5, :5], AnomalyDetector("crd", memory="4GB"))
