"""AnomalyDetector on images that do not fit, or are not looked at, in one piece: tiles, and windows of their own."""

import numpy as np
import pytest
from scipy import ndimage

from rsunfold.cube import Window
from rsunfold.errors import DeviceError
from rsunfold.infer.anomaly import detector as module
from rsunfold.infer.spectral import SpectralImage
from rsunfold.infer.tiles import Plan
from rsunfold.io.memory import ArrayReader
from rsunfold.metrics.anomaly import detection
from rsunfold.registry import all_models, get_model
from rsunfold.scene import scene_of

from .conftest import scenery

MODELS = [spec.name for spec in all_models("detect-anomaly")]
WHOLE = [name for name in MODELS if get_model(name).build().radius is None]
WHOLE_IMAGE = Window(0, 0, 60, 50)
LOCAL = [name for name in MODELS if name not in WHOLE]


def opened(cube) -> SpectralImage:
    return SpectralImage(ArrayReader(cube))


def scored(cube, detector, *, stages=False):
    with opened(cube) as image:
        return detector.scored(image, stages=stages)


def tiny(name: str) -> dict:
    """Options that make a method fast."""
    sizes = get_model(name).sizes.get("tiny", {})
    return {**sizes, "iterations": 5} if name == "auto-ad" else sizes


# ---------------------------------------------------------------- tiles


@pytest.fixture
def large():
    """A scene of two tiles by two with a hole, and few enough pixels that the sample is all of them."""
    cube = scenery(6, 60, 50, seed=2).cube
    cube[:, 30:34, 26:29] = np.nan
    return cube


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("priors", [[], ["kernel", "small-object", "edge-preserving"]], ids=["plain", "priors"])
def test_tiles_give_the_whole_image(name, priors, large, make, monkeypatch):
    options = {"inner": 3, "outer": 7} if name in ("local-rx", "crd") else tiny(name)
    whole = scored(large, make(name, priors=priors, options=options))
    assert whole.plan.whole
    monkeypatch.setattr(module, "POST_TILE", 27)
    monkeypatch.setattr(module, "plan", lambda *args, **kwargs: Plan(False, 37))
    # Sums in another order would change a centre of k-means in its last digits, and a pixel's label with it.
    monkeypatch.setattr(SpectralImage, "scene", lambda self, seed: scene_of(*self.scaled(WHOLE_IMAGE)))
    tiles = scored(large, make(name, priors=priors, options=options))
    assert not tiles.plan.whole and tiles.plan.tile == 37
    close = {"rtol": 1e-3, "atol": 1e-4 * float(np.nanmax(whole.score))}
    np.testing.assert_allclose(tiles.score, whole.score, **close)
    np.testing.assert_array_equal(tiles.valid, whole.valid)


@pytest.mark.parametrize("prior", ["small-object", "edge-preserving"])
def test_the_last_priors_leave_no_seams(prior, large, make, monkeypatch):
    whole = scored(large, make("rx", priors=[prior])).score
    monkeypatch.setattr(module, "POST_TILE", 27)
    np.testing.assert_allclose(scored(large, make("rx", priors=[prior])).score, whole, rtol=1e-4, atol=1e-5)


def test_tiles_with_an_attribute_profile(large, make, monkeypatch):
    """Of a small image its statistics come from all pixels, of a large one from windows."""
    whole = scored(large, make(object_size=8, options={"epochs": 1}))
    monkeypatch.setattr(module, "plan", lambda *args, **kwargs: Plan(False, 37))
    tiles = scored(large, make(object_size=8, options={"epochs": 1}))
    close = {"rtol": 1e-2, "atol": 1e-3 * float(np.nanmax(whole.score))}
    np.testing.assert_allclose(tiles.score, whole.score, **close)
    monkeypatch.setattr(module, "SAMPLE", 2000)
    monkeypatch.setattr(module, "FEATURE_SIDE", 24)
    again = scored(large, make(object_size=8, options={"epochs": 1})).score
    assert not np.array_equal(again, tiles.score)
    order = [np.argsort(np.argsort(s[np.isfinite(s)])) for s in (again, whole.score)]
    assert np.corrcoef(*order)[0, 1] > 0.9


@pytest.mark.parametrize("model", ["rx", "lrr-net-plus"])
def test_a_small_budget_makes_tiles(model, make):
    cube = scenery(30, 300, 260).cube
    detector = make(model, priors=["small-object"])
    whole = scored(cube, detector)
    detector.memory = detector.held + 16 * 300 * 260 + 16 * 2**20
    tiles = scored(cube, detector)
    assert whole.plan.whole and not tiles.plan.whole
    close = {"rtol": 1e-3, "atol": 1e-4 * float(whole.score.max())}
    np.testing.assert_allclose(tiles.score, whole.score, **close)
    detector.memory = detector.held + 16 * 300 * 260
    with pytest.raises(DeviceError, match="on top of the program itself"):
        scored(cube, detector)


def test_the_sample_of_a_large_image_is_spread_evenly(large, make, monkeypatch):
    """A scene of more pixels than SAMPLE is cut whatever the memory, and its sample does not depend on the cut."""
    from rsunfold import scene as scene_module
    from rsunfold.infer import spectral as image_module

    for each in (module, scene_module, image_module):
        monkeypatch.setattr(each, "SAMPLE", 700)
    detector = make("lrr-net-plus", priors=[])
    found = scored(large, detector)
    assert found.plan == Plan(False, 1024)
    monkeypatch.setattr(image_module, "STRIP_BYTES", 11 * 4 * 6 * 50)
    monkeypatch.setattr(ArrayReader, "block_shape", (1, 50), raising=False)
    with opened(large) as image:
        assert len(list(image.strips(6))) == 6
        scene = image.scene(5)
        whole = scene_of(*image.scaled(WHOLE_IMAGE))
    np.testing.assert_array_equal(scene.sample, whole.sample)
    assert scene.sample.shape[1] <= 700 and scene.seed == 5 and scene.count == whole.count
    np.testing.assert_allclose(scene.mean, whole.mean, rtol=1e-5)
    np.testing.assert_allclose(scene.covariance, whole.covariance, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(scored(large, detector).score, found.score, rtol=1e-4, atol=1e-6)
    with pytest.raises(DeviceError, match="--stages needs the whole image at once: at most 700 pixels"):
        scored(large, detector, stages=True)


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_that_needs_the_whole_image_says_so(name, large, make, monkeypatch):
    monkeypatch.setattr(module, "plan", lambda *args, **kwargs: Plan(False, 37))
    said = rf"^{name} on 60 x 50 pixels with 6 bands at once needs .*, or process windows separately with --window"
    with pytest.raises(DeviceError, match=said):
        scored(large, make(name, options=tiny(name)))


@pytest.mark.parametrize("name", ["rx", "lrr-net-plus"])
def test_tiles_learn_the_attribute_profile_from_the_same_pixels_as_the_whole(name, large, make, monkeypatch):
    """What one machine finds, another with less memory finds too."""
    cube = large.copy()
    cube[:, 5, 7] = np.nan
    detector = make(name, priors=["attribute-profile"], object_size=9, options=tiny(name))
    whole = scored(cube, detector).score
    monkeypatch.setattr(module, "FEATURE_SIDE", 16)
    monkeypatch.setattr(module, "plan", lambda *args, **kwargs: Plan(False, 37))
    np.testing.assert_allclose(scored(cube, detector).score, whole, rtol=2e-3, atol=1e-4 * np.nanmax(whole))


# ---------------------------------------------------------------- windows


def changing(rows: int = 40, cols: int = 120):
    """Noise that is ten times as strong on the right as on the left, and an object that only its own side shows."""
    rng = np.random.default_rng(0)
    cube = rng.normal(0, 1, (5, rows, cols)).astype(np.float32)
    cube[:, :, cols // 2 :] *= 10
    cube[:, 20, 20] = 6
    return cube


@pytest.mark.parametrize("name", ["rx", "rpca"])
def test_windows_are_scenes_of_their_own(name, make):
    cube = changing()
    whole, windows = (scored(cube, make(name, window=w)).score for w in (None, 40))
    assert whole[20, 20] < whole[:, 75:].max() and windows[20, 20] > windows[:, 75:].max()
    left, right = np.median(windows[:, :30]), np.median(windows[:, 75:])
    assert left == pytest.approx(1, rel=0.2) and right == pytest.approx(1, rel=0.2)


def test_a_window_larger_than_the_image_is_the_image(scene, make):
    plain = scored(scene.cube, make("rx"))
    np.testing.assert_array_equal(scored(scene.cube, make("rx", window=34)).score, plain.score)
    assert not np.array_equal(scored(scene.cube, make("rx", window=33)).score, plain.score)


@pytest.mark.parametrize("name", MODELS)
def test_windows_without_pixels_or_contrast(name, make):
    """One window is all holes, one has a single pixel, one is constant."""
    cube = scenery(5, 48, 60).cube
    cube[:, :20, :20] = np.nan
    cube[:, 20:48, :20] = np.nan
    cube[:, 30, 3] = cube[:, 0, 40]
    cube[:, :, 44:] = np.array([500, 700, 900, 1100, 1300], np.float32)[:, None, None]
    found = scored(cube, make(name, window=16, options=tiny(name)))
    assert np.isfinite(found.score[found.valid]).all() and np.isnan(found.score[~found.valid]).all()
    assert found.valid.sum() + found.alone == np.isfinite(cube).all(0).sum()
    assert found.alone <= (name in ("crd", "local-rx", "rx"))  # the single pixel


@pytest.mark.parametrize("model", ["crd:inner=5:outer=7", "local-rx:inner=5:outer=7"])
def test_a_pixel_has_a_score_if_a_window_has_one_for_it(model, make):
    """Islands of valid pixels: at the edge of a window some have nothing around them that the next window has."""
    cube = scenery(5, 60, 64).cube
    islands = np.random.default_rng(0).random((60, 64)) < 0.04
    cube[:, ~ndimage.maximum_filter(islands, 2)] = np.nan
    whole, windows = (scored(cube, make(model, window=w)) for w in (None, 20))
    assert whole.alone > 0 and windows.alone < 1.3 * whole.alone + 5
    known = whole.valid & windows.valid
    assert np.isfinite(windows.score[known]).all() and (windows.score[known] >= 0).all()


def test_windows_with_every_prior(make):
    cube = scenery(5, 50, 60).cube
    found = scored(cube, make(window=32, object_size=9)).score
    assert found.shape == (50, 60) and np.isfinite(found).all()
    truth = scenery(5, 50, 60).truth
    assert detection(found, truth)["auc_df"] > 0.95


def test_a_window_that_does_not_fit(large, make, monkeypatch):
    monkeypatch.setattr(module, "plan", lambda *args, **kwargs: Plan(False, 37))
    said = r"^rx on 48 x 48 pixels .* at once needs .*, or process smaller windows with --window"
    with pytest.raises(DeviceError, match=said):
        scored(large, make("rx", window=48))


def test_the_last_window_is_a_scene_of_full_size(make):
    """A sliver at the edge, fewer pixels than bands, would score every pixel alike."""
    rng = np.random.default_rng(0)
    cube = rng.normal(0.5, 0.05, (60, 101, 60)).astype(np.float32)
    cube[:, 100, 59] += 0.3
    found = scored(cube, make("rx", window=24))
    assert np.nanargmax(found.score) == 100 * 60 + 59 and found.windowed
    assert not scored(cube, make("rx", window=200)).windowed
