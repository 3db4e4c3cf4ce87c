import numpy as np
import pytest

from rsunfold import report
from rsunfold.errors import InputError, OutputError

WAVELENGTHS = np.linspace(400, 1000, 30)
PIXELS = [(4, 6), (20, 40), (31, 2)]
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SHADE, NO_DATA = "#F3E6C8", "#CFE3F2"


@pytest.fixture
def cubes():
    """(before, after): 30 bands of a smooth scene, 36 x 48, with and without noise."""
    rows, cols = np.mgrid[:36, :48]
    scene = np.sin(rows / 9) * np.cos(cols / 11) + 2
    after = scene * (1 + np.linspace(0, 1, 30) ** 2)[:, None, None]
    return after + np.random.default_rng(0).normal(0, 0.1, after.shape), after


@pytest.fixture
def draw(cubes):
    """Draws band 12 of the cubes and the spectra of PIXELS; ``changed`` replaces single arguments."""
    before, after = cubes
    rows, cols = zip(*PIXELS, strict=True)
    arguments = {
        "band_before": before[11], "band_after": after[11], "band": 12, "pixels": PIXELS,
        "spectra_before": before[:, rows, cols].T, "spectra_after": after[:, rows, cols].T,
    }  # fmt: skip

    def run(path, **changed):
        report.denoising_picture(path, **{**arguments, **changed})
        return path.read_bytes()

    return run


def test_a_band_and_spectra_before_and_after(tmp_path, draw, size_of, shows):
    path = tmp_path / "d.png"
    draw(path, wavelengths=WAVELENGTHS, units="reflectance", title="scene")
    assert size_of(path) == (1400, 918)
    assert all(shows(path, colour) for colour in (BLUE, ORANGE, GREEN))
    assert not any(shows(path, colour, within=0) for colour in (PINK, SHADE, NO_DATA))


def test_what_was_removed_is_the_band_before_minus_the_band_after(tmp_path, draw, cubes, figures):
    before, after = (cube[11] for cube in cubes)
    draw(tmp_path / "d.png")
    panels = figures[0].axes[:3]
    for axes, data in zip(panels, (before, after, before - after), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), data)
    assert [axes.images[0].get_cmap().name for axes in panels] == ["gray", "gray", "RdBu_r"]
    grey, largest = np.percentile(after, (0.5, 99.5)), np.percentile(np.abs(before - after), 99.5)
    for axes, limits in zip(panels, (grey, grey, (-largest, largest)), strict=True):
        np.testing.assert_allclose(axes.images[0].get_clim(), limits)
    rms = np.sqrt(np.mean((before - after) ** 2))
    assert [axes.get_title() for axes in panels] == [
        "band 12: before", "after", f"removed: before − after, rms {rms:.3g}",
    ]  # fmt: skip


def test_spectra_before_are_thin_and_after_strong(tmp_path, draw, cubes, figures):
    draw(tmp_path / "d.png", wavelengths=WAVELENGTHS)
    (axes,) = (axes for axes in figures[0].axes if axes.get_xlabel() == "wavelength (nm)")
    curves = [line for line in axes.lines if len(line.get_xdata()) == 30]
    for k, (row, col) in enumerate(PIXELS):
        thin, strong = curves[2 * k : 2 * k + 2]
        for line, cube in ((thin, cubes[0]), (strong, cubes[1])):
            np.testing.assert_array_equal(line.get_xydata(), np.transpose([WAVELENGTHS, cube[:, row, col]]))
        assert thin.get_linewidth() < strong.get_linewidth() and thin.get_color() == strong.get_color()
        assert strong.get_label() == f"{k + 1}: row {row}, column {col}"
    (shown,) = (line for line in axes.lines if line.get_label() == "band shown above")
    assert set(shown.get_xdata()) == {WAVELENGTHS[11]}


def test_each_argument_changes_the_picture(tmp_path, draw, cubes, sketch):
    before, after = cubes
    pictures = [
        draw(tmp_path / f"{i}.png", **changed)
        for i, changed in enumerate(
            [
                {}, {"band_before": before[12]}, {"band_after": after[11].T.reshape(36, 48)}, {"band": 13},
                {"spectra_before": after[:, :3, 0].T}, {"spectra_after": before[:, :3, 0].T},
                {"pixels": [(4, 6), (20, 40), (31, 3)]}, {"wavelengths": WAVELENGTHS}, {"units": "DN"},
                {"title": "t"}, {"shape": (72, 96)}, {"bad": np.arange(30) == 3},
            ]
        )
    ]  # fmt: skip
    assert len(set(pictures)) == len(pictures)
    assert draw(tmp_path / "again.png") == pictures[0]


def test_bad_bands_are_shaded_and_do_not_stretch_the_spectra(tmp_path, draw, cubes, shows):
    before = cubes[0][:, :3, 0].T
    bad = np.arange(30) > 26
    wild = np.where(bad, 1e6, before)
    draw(tmp_path / "calm.png", spectra_before=before, spectra_after=before, bad=bad)
    draw(tmp_path / "wild.png", spectra_before=np.where(bad, np.nan, before), spectra_after=wild, bad=bad)
    draw(tmp_path / "gaps.png", spectra_before=np.where(bad, np.nan, before), spectra_after=before, bad=bad)
    assert (tmp_path / "wild.png").read_bytes() == (tmp_path / "gaps.png").read_bytes()
    assert shows(tmp_path / "calm.png", SHADE, within=0)
    draw(tmp_path / "all.png", bad=np.ones(30, bool))
    assert shows(tmp_path / "all.png", SHADE, within=0)


def test_without_pixels_there_are_no_spectra(tmp_path, draw, size_of, shows):
    draw(tmp_path / "n.png", pixels=[], spectra_before=np.empty((0, 30)), spectra_after=np.empty((0, 30)))
    assert size_of(tmp_path / "n.png") == (1400, 518)
    assert not shows(tmp_path / "n.png", BLUE)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (36, 48)])
def test_pixels_and_spectra_without_data(tmp_path, draw, shape, size_of, shows):
    nothing, empty = np.full(shape, np.nan), np.full((1, 30), np.nan)
    path = tmp_path / "n.png"
    only = {"pixels": [(0, 0)], "spectra_before": empty, "spectra_after": empty}
    draw(path, band_before=nothing, band_after=nothing, **only)
    assert size_of(path)[0] == 1400 and shows(path, NO_DATA, within=0)


def test_gaps_of_the_image_are_light_blue(tmp_path, draw, cubes, shows):
    before, after = cubes
    before[11, 5:9, 5:9] = np.nan
    after[11, 5:9, 5:9] = np.inf
    draw(tmp_path / "g.png", band_before=before[11], band_after=after[11])
    assert shows(tmp_path / "g.png", NO_DATA, within=0)


def test_one_band_and_unsigned_samples(tmp_path, draw, cubes, size_of, shows):
    before, after = np.rint(cubes[0][11] * 1000).astype(np.uint16), np.rint(cubes[1][11] * 1000).astype(np.uint16)
    one = {"band": 1, "pixels": [(0, 0)], "wavelengths": (550.0,)}
    draw(
        tmp_path / "o.png", band_before=before, band_after=after,
        spectra_before=before[:1, :1], spectra_after=after[:1, :1], **one,
    )  # fmt: skip
    draw(
        tmp_path / "f.png", band_before=before.astype(float), band_after=after.astype(float),
        spectra_before=before[:1, :1], spectra_after=after[:1, :1], **one,
    )  # fmt: skip
    assert size_of(tmp_path / "o.png")[0] == 1400 and shows(tmp_path / "o.png", BLUE)
    assert (tmp_path / "o.png").read_bytes() == (tmp_path / "f.png").read_bytes()  # a difference that did not wrap


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pixels": PIXELS[:2]}, "2 pixels"),
        ({"spectra_after": np.zeros((3, 29))}, r"\(3, 29\)"),
        ({"band": 0}, "no band 0"),
        ({"band": 31}, "from 1 to 30"),
        ({"wavelengths": WAVELENGTHS[1:]}, "29 wavelengths"),
        ({"bad": np.zeros(29, bool)}, r"\(29,\)"),
        ({"band_after": np.zeros((36, 47))}, "cannot be compared"),
    ],
)
def test_sizes_that_do_not_belong_together(tmp_path, draw, changed, says):
    with pytest.raises(InputError, match=says):
        draw(tmp_path / "d.png", **changed)
    assert list(tmp_path.iterdir()) == []


def test_worst_bands_state_their_noise_and_their_scales(tmp_path, cubes, figures):
    before, after = (cube[2] for cube in cubes)
    band = report.NoisyBand(3, before, after, 0.1, 0.01, 450.0)
    report.worst_bands_picture(tmp_path / "w.png", [band], units="DN")
    line = figures[0].axes
    for axes, data in zip(line, (before, after, before - after), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), data)
    assert line[0].get_ylabel() == "band 3, 450.0 nm"
    assert [axes.get_title() for axes in line[:2]] == ["before: finest detail σ 0.1", "after: finest detail σ 0.01"]
    low, high = np.percentile(after, (0.5, 99.5))
    largest = np.percentile(np.abs(before - after), 99.5)
    grey, difference = f"{low:.3g} to {high:.3g} DN", f"−{largest:.3g} to {largest:.3g} DN"
    assert [axes.get_xlabel() for axes in line] == [grey, grey, difference]


def test_worst_bands_have_a_row_each(tmp_path, cubes, size_of, shows):
    before, after = cubes
    bands = [report.NoisyBand(3, before[2], after[2], 0.1, 0.01, 450.0), report.NoisyBand(9, before[8], after[8])]
    report.worst_bands_picture(tmp_path / "two.png", bands, title="worst", units="DN")
    assert size_of(tmp_path / "two.png") == (1000, 640)
    report.worst_bands_picture(tmp_path / "one.png", bands[:1], shape=(360, 480))
    assert size_of(tmp_path / "one.png") == (1000, 345)
    assert not shows(tmp_path / "one.png", NO_DATA, within=0)
    nothing = np.full((36, 48), np.nan)
    report.worst_bands_picture(tmp_path / "nan.png", [report.NoisyBand(1, nothing, nothing)])
    assert shows(tmp_path / "nan.png", NO_DATA, within=0)
    with pytest.raises(InputError, match="no band"):
        report.worst_bands_picture(tmp_path / "n.png", [])


@pytest.mark.parametrize("kind", ["denoising", "noise", "worst"])
def test_a_file_that_exists_is_kept(tmp_path, draw, kind):
    path = tmp_path / "mine.png"
    path.write_text("mine")
    call = {
        "denoising": lambda: draw(path),
        "noise": lambda: report.noise_picture(path, *np.ones((3, 30)), noise=np.ones(30)),
        "worst": lambda: report.worst_bands_picture(path, [report.NoisyBand(1, *np.ones((2, 4, 5)))]),
    }[kind]
    with pytest.raises(OutputError):
        call()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
