"""Classical detectors of infrared small targets against their definitions, and what every one of them must do."""

import numpy as np
import pytest

from rsunfold.classical.ipi import IPI
from rsunfold.classical.max_median import MaxMedian
from rsunfold.classical.mpcm import MPCM
from rsunfold.classical.pstnn import PSTNN
from rsunfold.classical.top_hat import TopHat
from rsunfold.cube import Window
from rsunfold.errors import UsageError
from rsunfold.infer.infrared.detector import CLASSICAL_BYTES
from rsunfold.registry import all_models
from rsunfold.simulate.infrared import infrared_scene

MODELS = {spec.name: spec for spec in all_models("detect-ir", "classical")}
LOCAL = {name: spec for name, spec in MODELS.items() if spec.build().radius is not None}


def noise(rows, cols, seed=0):
    return np.random.default_rng(seed).random((rows, cols), dtype=np.float32)


def spot(contrast, at=(30, 25), size=64):
    row, col = np.ogrid[:size, :size]
    gauss = np.exp(-((row - at[0]) ** 2 + (col - at[1]) ** 2) / (2 * 1.5**2))
    return (0.3 + contrast * gauss).astype(np.float32)


def target(spec, contrast):
    """A spot at (30, 25): methods that look at the whole image are given one to look at."""
    if spec.name in LOCAL:
        return spot(contrast)
    clouds = infrared_scene(160, 160, background="clouds", targets=0, seed=0).image
    return (0.2 + 0.5 * (clouds - 0.5) + spot(contrast, size=160)).astype(np.float32)


def test_which_baselines_are_registered():
    assert {"top-hat", "max-median", "mpcm"} <= set(LOCAL)
    assert {"ipi", "pstnn"} <= set(MODELS) - set(LOCAL)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
class TestEveryModel:
    def test_a_constant_image_scores_zero(self, spec):
        for level in (0.0, 0.1, 1.0):
            assert not spec.build().score(np.full((40, 33), level, dtype=np.float32)).any()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (300, 1), (2, 3), (13, 200)])
    def test_any_size(self, spec, shape):
        score = spec.build().score(noise(*shape))
        assert score.shape == shape
        assert score.dtype == np.float32
        assert (score >= 0).all()

    def test_input_is_left_alone(self, spec):
        image = noise(30, 30)
        kept = image.copy()
        spec.build().score(image)
        np.testing.assert_array_equal(image, kept)

    def test_a_bright_spot_scores_highest_and_passes_the_threshold(self, spec):
        score = spec.build().score(target(spec, 0.6))
        assert np.unravel_index(score.argmax(), score.shape) == (30, 25)
        assert score.max() > spec.threshold > spec.build().score(target(spec, 0.02)).max()

    def test_a_dark_spot_stays_below_the_threshold(self, spec):
        assert spec.build().score(target(spec, -0.29))[30, 25] <= spec.threshold

    def test_the_record_is_complete(self, spec, declared):
        declared(spec, bands=(1, 1))
        assert 0 < spec.threshold < 1
        model = spec.build()
        assert model.radius > 0 if spec.name in LOCAL else model.overlap > 0

    def test_no_more_memory_than_declared(self, spec, peak):
        image, model = noise(150, 150, seed=5), spec.build()
        model.score(image[:60, :60])  # imports what it needs
        assert peak(lambda: model.score(image)) <= getattr(model, "bytes_per_pixel", CLASSICAL_BYTES) * image.size


@pytest.mark.parametrize("spec", LOCAL.values(), ids=LOCAL)
class TestWindows:
    @pytest.mark.parametrize(
        "tile", [Window(0, 0, 40, 40), Window(37, 41, 23, 30), Window(70, 60, 30, 35)], ids=["corner", "middle", "end"]
    )
    def test_a_tile_with_a_margin_of_the_radius_equals_the_whole(self, spec, tile):
        image, model = noise(100, 95, seed=3), spec.build()
        outer = tile.grown(model.radius, *image.shape)
        part = model.score(image[outer.slices])[tile.within(outer)]
        np.testing.assert_allclose(part, model.score(image)[tile.slices], atol=1e-6)

    def test_pixels_beyond_the_radius_do_not_matter(self, spec):
        image, model = noise(101, 101, seed=4), spec.build()
        changed = image.copy()
        changed[50, 50] = 5
        row, col = np.nonzero(~np.isclose(model.score(image), model.score(changed), atol=1e-6))
        assert max(abs(row - 50).max(), abs(col - 50).max()) <= model.radius

    def test_no_normalisation_by_the_image(self, spec):
        """A brighter thing elsewhere must not change the score of a target."""
        image = spot(0.2, size=128)
        brighter = image.copy()
        brighter[100:103, 100:103] = 1
        model = spec.build()
        assert model.score(image)[30, 25] == pytest.approx(model.score(brighter)[30, 25], rel=1e-5)


def test_top_hat_is_the_image_minus_its_opening():
    image, r = noise(17, 14), 2
    offsets = [(i, j) for i in range(-r, r + 1) for j in range(-r, r + 1) if i * i + j * j <= r * r]
    padded = np.pad(image, 2 * r, mode="symmetric")

    def eroded(row, col):
        return min(padded[row + i, col + j] for i, j in offsets)

    for row in range(17):
        for col in range(14):
            opened = max(eroded(row + 2 * r + i, col + 2 * r + j) for i, j in offsets)
            assert TopHat(disk=r).score(image)[row, col] == pytest.approx(image[row, col] - opened)


def test_top_hat_sees_as_far_as_its_radius():
    """One end of a plateau that just holds the disk decides on the other end, two disk radii away."""
    row, col = np.ogrid[:41, :41]
    plateau = ((row - 20) ** 2 + (col - 20) ** 2 <= 25).astype(np.float32)
    notched = plateau.copy()
    notched[15, 20] = 0
    model = TopHat(disk=5)
    assert (model.score(plateau)[25, 20], model.score(notched)[25, 20]) == (0, 1)
    assert model.radius == 25 - 15


def test_max_median_is_the_residual_of_the_four_lines():
    image, window = noise(12, 15), 5
    padded = np.pad(image, 2, mode="symmetric")
    score = MaxMedian(window=window).score(image)
    for row in range(12):
        for col in range(15):
            patch = padded[row : row + 5, col : col + 5]
            lines = (patch[2], patch[:, 2], np.diag(patch), np.diag(patch[:, ::-1]))
            assert score[row, col] == pytest.approx(max(0, image[row, col] - max(np.median(line) for line in lines)))


@pytest.mark.parametrize("dark", [False, True])
def test_mpcm_is_the_largest_patch_contrast_over_scales(dark):
    image, scales = noise(16, 13), (1, 3, 5)
    padded = np.pad(image.astype(np.float64), 10, mode="symmetric")

    def mean(row, col, side):
        half = side // 2
        return padded[row - half : row + half + 1, col - half : col + half + 1].mean()

    score = MPCM(scales=scales, dark=dark).score(image)
    ring = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    for row in range(16):
        for col in range(13):
            contrasts = [0.0]
            for side in scales:
                r, c = row + 10, col + 10
                d = [mean(r, c, side) - mean(r + i * side, c + j * side, side) for i, j in ring]
                products = [d[i] * d[i + 4] if dark or d[i] > 0 else 0 for i in range(4)]
                contrasts.append(min(products))
            assert score[row, col] == pytest.approx(max(contrasts), abs=1e-7)


def test_mpcm_answers_to_dark_spots_only_when_asked():
    assert MPCM(dark=True).score(spot(-0.29))[30, 25] > 10 * MPCM().score(spot(-0.29))[30, 25]


@pytest.mark.parametrize(
    "build",
    [
        lambda: TopHat(disk=0),
        lambda: MaxMedian(window=4),
        lambda: MaxMedian(window=1),
        lambda: MPCM(scales=()),
        lambda: MPCM(scales=(3, 4)),
        lambda: IPI(patch=0),
        lambda: IPI(step=51),
        lambda: IPI(step=0),
        lambda: IPI(lam=0),
        lambda: IPI(tile=99),
        lambda: PSTNN(patch=0),
        lambda: PSTNN(step=41),
        lambda: PSTNN(lam=float("nan")),
    ],
)
def test_impossible_parameters_are_refused(build):
    with pytest.raises(UsageError, match="got"):
        build()
