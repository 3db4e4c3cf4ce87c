import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from rsunfold.errors import InputError, OutputError
from rsunfold.metrics.anomaly import detection
from rsunfold.report.anomaly import (
    _counted,
    anomaly_quicklook,
    anomaly_stages_picture,
    separability_picture,
    spectra_picture,
)

BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
MASK, NO_DATA = "#FF6A3D", "#CFE3F2"


def separability(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    truth = rng.random((30, 30)) < 0.1
    return detection(rng.gamma(2, 1, truth.shape) + 4 * truth, truth)["separability"]


def single(shape, *pixels) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


# ---------------------------------------------------------------- separability


def test_every_model_has_a_box_of_each_kind(tmp_path, size_of, shows):
    path = tmp_path / "s.png"
    separability_picture(path, {"a": separability(0)}, title="t")
    assert size_of(path) == (1000, 190)
    assert shows(path, BLUE) and shows(path, ORANGE)
    separability_picture(tmp_path / "m.png", {name: separability(i) for i, name in enumerate("abc")})
    assert size_of(tmp_path / "m.png") == (1000, 310)


def test_boxes_are_quartiles_whiskers_p10_and_p90_and_the_gap_is_between_these(tmp_path, figures):
    values = {
        ("rx", "anomaly"): (0.5, 0.6, 0.65, 0.8, 1), ("rx", "background"): (0, 0.1, 0.12, 0.2, 0.3),
        ("net", "anomaly"): (0.2, 0.3, 0.35, 0.7, 0.9), ("net", "background"): (0.1, 0.15, 0.16, 0.4, 0.6),
    }  # fmt: skip
    boxes = {model: {} for model, _ in values}
    for (model, kind), ends in values.items():
        boxes[model][kind] = dict(zip(("p10", "p25", "p50", "p75", "p90"), ends, strict=True))
    separability_picture(tmp_path / "s.png", boxes)
    (axes,) = figures[0].axes
    bars, lines = np.reshape(axes.patches, (2, 2)), np.reshape(axes.collections, (2, 3))
    for i, (kind, colour) in enumerate((("anomaly", ORANGE), ("background", BLUE))):
        p10, p25, p50, p75, p90 = np.transpose([values[model, kind] for model in ("rx", "net")])
        assert [to_hex(bar.get_edgecolor()) for bar in bars[i]] == [colour.lower()] * 2
        np.testing.assert_allclose([(b.get_x(), b.get_x() + b.get_width()) for b in bars[i]], np.transpose([p25, p75]))
        whiskers, caps, medians = (np.array(c.get_segments())[..., 0] for c in lines[i])
        np.testing.assert_allclose(whiskers, np.transpose([[*p10, *p75], [*p25, *p90]]))
        np.testing.assert_allclose(caps, np.transpose([[*p10, *p90]] * 2))
        np.testing.assert_allclose(medians, np.transpose([p50] * 2))
    assert [text.get_text() for text in axes.texts] == ["+0.200", "−0.400", "gap"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["rx", "net"]


def test_a_constant_score_has_boxes_too(tmp_path, shows):
    constant = detection(np.ones((3, 3)), single((3, 3), (0, 0)))["separability"]
    separability_picture(tmp_path / "s.png", {"a": constant})
    assert shows(tmp_path / "s.png", ORANGE)


def test_boxes_without_percentiles_are_refused(tmp_path):
    lacking = {**separability(0), "anomaly": {"p10": 0.1}}
    for boxes, says in [({}, "no score"), ({"a": separability(0), "b": lacking}, "^b lacks"), ({"c": {}}, "^c lacks")]:
        with pytest.raises(InputError, match=says):
            separability_picture(tmp_path / "s.png", boxes)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- quicklook


def quicklook(path, image, score, mask, *, shape=None, title="") -> None:
    """Of an image that is not decimated, unless ``shape`` says so."""
    counts = {"pixels": int(mask.sum()), "objects": 1}
    anomaly_quicklook(path, image, score, mask, shape=shape or mask.shape, title=title, **counts)


def test_quicklook_outlines_the_mask(tmp_path, scene, size_of, shows):
    image, score, mask, _ = scene
    path = tmp_path / "q.png"
    quicklook(path, image, score, mask, title="scene")
    assert size_of(path)[0] == 1400 and shows(path, MASK) and not shows(path, NO_DATA, within=0)


def test_quicklook_shows_colours_and_what_has_no_data(tmp_path, scene, shows):
    _, score, mask, _ = scene
    image = np.zeros((*mask.shape, 3))
    image[..., 1], image[..., 2] = 1.5, 0.4  # beyond the stretch is its end
    nothing = np.zeros_like(mask)
    quicklook(tmp_path / "q.png", image, score, nothing)
    assert shows(tmp_path / "q.png", "#00FF66") and not shows(tmp_path / "q.png", MASK)
    image[20:, :, 0] = np.nan
    quicklook(tmp_path / "n.png", image, score, nothing)
    assert shows(tmp_path / "n.png", NO_DATA, within=0) and shows(tmp_path / "n.png", "#00FF66")


@pytest.mark.parametrize("shape", [(20, 2000), (2000, 20), (700, 800)])
def test_a_single_pixel_is_seen_in_a_large_image(tmp_path, shape, size_of, shows):
    image = np.full(shape, 0.4)
    score = np.random.default_rng(0).gamma(2, 1, shape)
    path = tmp_path / "q.png"
    quicklook(path, image, score, single(shape, (7, 9)))
    assert size_of(path)[0] == 1400 and size_of(path)[1] < 1300
    pixels = np.rint(imread(path)[..., :3] * 255)
    assert (np.abs(pixels - (0xFF, 0x6A, 0x3D)).max(axis=2) <= 8).sum() > 20


def test_panels_of_a_wide_image_lie_below_one_another(tmp_path, figures):
    for shape in ((10, 100), (50, 100)):
        score = np.random.default_rng(0).random(shape)
        quicklook(tmp_path / f"{shape[0]}.png", score, score, single(shape))
    grids = [figure.axes[0].get_gridspec().get_geometry() for figure in figures]
    assert grids == [(2, 1), (1, 2)]


@pytest.mark.parametrize(
    ("score", "shape"), [(0.0, (1, 1)), (3.0, (1, 40)), (-2.0, (40, 1)), (np.nan, (2, 2)), (np.inf, (3, 2))]
)
def test_scores_without_contrast_and_thin_images(tmp_path, score, shape, size_of):
    on = np.ones(shape, bool)
    quicklook(tmp_path / "q.png", on * 0.5, np.full(shape, score), on)
    assert size_of(tmp_path / "q.png")[0] == 1400


def test_the_scale_of_the_score_is_logarithmic_unless_it_is_negative(tmp_path):
    pictures = []
    grades = np.tile(np.geomspace(1e-3, 1, 40), (40, 1))
    grey, nothing = np.full(grades.shape, 0.5), np.zeros(grades.shape, bool)
    for name, score in (("log", grades), ("linear", np.where(grades < 2e-3, -1e-3, grades))):
        quicklook(tmp_path / name, grey, score, nothing)
        row = imread(tmp_path / name)[400, 700:1280, :3].sum(axis=1)
        pictures.append(np.mean(row < 0.5 * row.max()))
    # magma reaches half of its brightness in the middle of the scale: half of the columns, or all but one decade's
    assert 0.4 < pictures[0] < 0.75 < pictures[1]


def test_quicklook_of_a_decimated_image_has_the_axes_of_the_full_one(tmp_path, scene):
    image, score, mask, _ = scene
    quicklook(tmp_path / "a.png", image, score, mask)
    quicklook(tmp_path / "b.png", image, score, mask, shape=(900, 1200))
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("pixels", "objects", "title"),
    [(31, 3, "mask: 31 pixels in 3 objects"), (31, 1, "mask: 31 pixels in 1 object"), (0, 0, "mask: no pixel")],
)
def test_titles_count_the_whole_mask(pixels, objects, title):
    assert _counted(pixels, objects) == title


def test_sizes_that_do_not_fit_are_refused(tmp_path, scene):
    image, score, mask, _ = scene
    for bad in (
        (image[1:], score, mask),
        (image, score, mask[1:]),
        (np.stack([image] * 4, axis=2), score, mask),
        (image, score[0], mask),
    ):
        with pytest.raises(InputError, match="do not have the same rows and columns"):
            quicklook(tmp_path / "q.png", *bad)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- stages and spectra


def test_stages_have_one_row_each_and_one_column_per_name(tmp_path, size_of, shows):
    rng = np.random.default_rng(1)
    stage = {"background": rng.random((32, 32)), "S": rng.random((32, 32))}
    anomaly_stages_picture(tmp_path / "a.png", [{"background": stage["background"]}, stage, stage], title="t")
    anomaly_stages_picture(tmp_path / "b.png", [stage])
    assert size_of(tmp_path / "a.png")[0] == size_of(tmp_path / "b.png")[0] == 560
    assert size_of(tmp_path / "a.png")[1] > 2.5 * size_of(tmp_path / "b.png")[1]
    with pytest.raises(InputError, match="no stage"):
        anomaly_stages_picture(tmp_path / "n.png", [])


def test_signed_maps_are_blue_and_red_others_are_not(tmp_path):
    def coloured(name: str, data: np.ndarray) -> np.ndarray:
        anomaly_stages_picture(tmp_path / name, [{"S": data}, {"S": np.abs(data)}])
        return imread(tmp_path / name)[..., :3]

    half = np.ones((32, 32))
    half[:, :16] = -1
    signed, positive = coloured("s.png", half), coloured("p.png", np.abs(half))
    blue = lambda picture: (picture[..., 2] > picture[..., 0] + 0.2).sum()  # noqa: E731
    assert blue(signed) > 1000 > blue(positive)


def test_grey_maps_have_no_colour(tmp_path):
    for name, grey in (("background", True), ("reconstruction", True), ("S", False)):
        anomaly_stages_picture(tmp_path / name, [{name: np.random.default_rng(0).random((20, 20))}])
        assert (np.ptp(imread(tmp_path / name)[..., :3], axis=2).max() == 0) == grey


def test_spectra_lie_over_the_background(tmp_path, size_of, shows):
    mean, std = np.linspace(0.2, 0.4, 30), np.full(30, 0.05)
    spectra = {f"{i}": mean + 0.1 * i for i in range(1, 10)}
    path = tmp_path / "s.png"
    spectra_picture(path, mean, std, dict(list(spectra.items())[:3]), np.linspace(400, 1000, 30), title="t", units="1")
    assert size_of(path) == (1000, 600)
    assert all(shows(path, colour) for colour in (BLUE, ORANGE, GREEN, "#606060"))
    pictures = []
    for name, count in (("eight", 8), ("nine", 9)):
        spectra_picture(tmp_path / f"{name}.png", mean, std, dict(list(spectra.items())[:count]))
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1]  # the ninth is left out
    assert shows(tmp_path / "nine.png", BLACK)
    spectra_picture(tmp_path / "none.png", mean, std, {})
    assert not shows(tmp_path / "none.png", BLUE)
    spectra_picture(tmp_path / "nan.png", mean[:1] * np.nan, std[:1], {"a": mean[:1] * np.nan})
    assert size_of(tmp_path / "nan.png") == (1000, 600)


def test_names_of_bands_stand_along_an_axis_without_wavelengths(tmp_path, figures):
    short, mean = ("B2", "B3", "B8A"), np.ones(3)
    calls = ({"names": short}, {"names": short, "wavelengths": (490.0, 560.0, 865.0)}, {"names": ("B2", "B3", "")})
    for i, call in enumerate((*calls, {"names": ("B" * 17, "B3", "B8A")})):
        spectra_picture(tmp_path / f"{i}.png", mean, mean, {}, **call)
    shown = [[label.get_text() for label in figure.axes[0].get_xticklabels()] for figure in figures]
    assert shown[0] == list(short) and not any(label in short for labels in shown[1:] for label in labels)


def test_spectra_of_other_lengths_are_refused(tmp_path):
    mean = np.ones(5)
    for bad in ((mean, mean[1:], {}), (mean, mean, {"a": mean[1:]}), (mean, mean, {}, (400.0, 500.0))):
        with pytest.raises(InputError, match="5 bands"):
            spectra_picture(tmp_path / "s.png", *bad)


def test_a_file_that_exists_is_kept(tmp_path, scene):
    image, score, mask, _ = scene
    path = tmp_path / "x"
    path.write_text("mine")
    calls = [
        lambda: separability_picture(path, {"a": separability(0)}),
        lambda: quicklook(path, image, score, mask),
        lambda: anomaly_stages_picture(path, [{"S": image}]),
        lambda: spectra_picture(path, np.ones(3), np.ones(3), {}),
    ]
    for call in calls:
        with pytest.raises(OutputError):
            call()
        assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
