import numpy as np
import pytest
from matplotlib.figure import Figure

from rsunfold import report
from rsunfold.errors import InputError, OutputError
from rsunfold.report.spectral import BandAxis

BLUE, ORANGE, GREEN, PINK, SHADE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#F3E6C8"
SIGMA = np.geomspace(0.01, 0.2, 30)


@pytest.fixture
def axes():
    return Figure().subplots()


def drawn(axes) -> tuple[list[list[float]], list[float]]:
    """(pieces of the line, the positions drawn as dots) of one curve."""
    line, dots = axes.lines
    x = np.where(np.isfinite(line.get_ydata()), line.get_xdata(), np.nan)
    pieces = np.split(x, np.nonzero(np.isnan(x))[0])
    return [p[np.isfinite(p)].tolist() for p in pieces if np.isfinite(p).any()], list(dots.get_xdata())


@pytest.mark.parametrize(
    ("wavelengths", "pieces", "dots"),
    [
        ((), [[1, 2, 3, 4, 5, 6]], []),
        ([400, 410, 420, 430, 440, 450], [[400, 410, 420, 430, 440, 450]], []),
        ([400, 410, 420, 415, 425, 435], [[400, 410, 420], [415, 425, 435]], []),  # two spectrometers
        ([400, 410, 420, 480, 490, 500], [[400, 410, 420], [480, 490, 500]], []),  # bands are missing
        ([400, 410, 420, 430, 440, 500], [[400, 410, 420, 430, 440], [500]], [500]),
        ([450, 440, 430, 420, 410, 400], [[400, 410, 420, 430, 440, 450]], []),  # listed backwards
        ([443, 490, 560, 945, 1375, 1610], [[443, 490, 560, 945, 1375, 1610]], []),  # wide steps are no gap
        ([400, 410, 0, 430, 440, 450], [[1, 2, 3, 4, 5, 6]], []),  # one band has none
    ],
)
def test_a_curve_is_interrupted_where_the_spectrum_is(axes, wavelengths, pieces, dots):
    BandAxis(6, wavelengths).curve(axes, np.ones(6))
    assert drawn(axes) == (pieces, dots)


def test_bands_in_no_order_are_drawn_in_that_of_their_wavelengths(axes):
    wavelengths = [500.0, 420, 460, 400, 520, 440, 480]
    BandAxis(7, wavelengths).curve(axes, np.arange(7.0))
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(x, sorted(wavelengths))
    np.testing.assert_array_equal(y, np.argsort(wavelengths))


def test_values_that_are_not_finite_are_gaps(axes):
    BandAxis(6).curve(axes, np.array([1, np.nan, 2, np.inf, 3, 4]))
    assert drawn(axes) == ([[1], [3], [5, 6]], [1, 3])


def test_shading_covers_whole_bands_but_no_gap(axes):
    axis = BandAxis(6, (400, 410, 420, 480, 490, 500))
    axis.shade(axes, np.array([0, 1, 1, 0, 0, 1], bool), "bad")
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in axes.patches]
    assert spans == [(405, 430), (495, 505)]
    assert axes.patches[0].get_label() == "bad"
    axis.finish(axes)
    assert axes.get_xlim() == (395, 505) and axes.get_xlabel() == "wavelength (nm)"
    assert axis.name(2) == "band 2, 410.0 nm" and BandAxis(6).name(2) == "band 2"


def test_noise_has_a_panel_for_each_measure(tmp_path, size_of, shows):
    path = tmp_path / "n.png"
    rest = (SIGMA / 8, np.linspace(-0.1, 0.2, 30))
    waves = np.linspace(400, 1000, 30)
    report.noise_picture(path, SIGMA, *rest, noise=SIGMA / 2, wavelengths=waves, units="DN", title="t")
    assert size_of(path) == (1000, 820)
    assert all(shows(path, colour) for colour in (BLUE, ORANGE, GREEN, PINK)) and not shows(path, SHADE, within=0)
    report.noise_picture(tmp_path / "a.png", SIGMA, *rest, noise=SIGMA / 2, bad=np.arange(30) == 7)
    assert shows(tmp_path / "a.png", SHADE, within=0)


def test_the_share_of_the_noise_that_was_removed(tmp_path, figures):
    before, after, lag = np.array([0.4, 0.2, 0.1, 0]), np.array([0.1, 0.1, 0.15, 0.1]), np.array([0, 0.1, -0.2, 0.3])
    estimate = np.array([0.3, 0.1, 0.1, 0.05])
    report.noise_picture(tmp_path / "n.png", before, after, lag, noise=estimate)
    noise, share, correlation = figures[0].axes
    known = np.array([0.4, 0.2, 0.1, np.nan])
    for axes, number, expected in (
        (noise, 0, known),
        (noise, 2, estimate),
        (noise, 4, after),
        (share, 0, [75, 50, -50, np.nan]),
        (correlation, 1, lag),  # the line at 0 lies below it
    ):
        np.testing.assert_array_equal(axes.lines[number].get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(axes.lines[number].get_ydata(), expected)
    assert [text.get_text() for text in noise.get_legend().get_texts()] == [
        "finest detail before",
        "noise, as estimated",
        "finest detail after",
    ]
    low, high = share.get_ylim()
    assert low < -50 and high > 100


def test_noise_of_nothing_of_one_band_and_of_zeros(tmp_path, shows):
    nothing = np.full(30, np.nan)
    report.noise_picture(tmp_path / "nan.png", nothing, nothing, nothing, noise=nothing)
    assert not shows(tmp_path / "nan.png", GREEN) and not shows(tmp_path / "nan.png", PINK)
    one = (SIGMA[:1], SIGMA[:1] / 2, np.zeros(1))
    report.noise_picture(tmp_path / "one.png", *one, noise=SIGMA[:1], bad=np.ones(1, bool))
    assert shows(tmp_path / "one.png", GREEN) and shows(tmp_path / "one.png", PINK)
    gaps, zeros = SIGMA.copy(), SIGMA.copy()
    gaps[3:5], zeros[3:5] = np.nan, 0
    report.noise_picture(tmp_path / "gaps.png", gaps, SIGMA / 2, SIGMA, noise=SIGMA)
    report.noise_picture(tmp_path / "zeros.png", zeros, SIGMA / 2, SIGMA, noise=SIGMA)
    report.noise_picture(tmp_path / "full.png", SIGMA, SIGMA / 2, SIGMA, noise=SIGMA)
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("gaps", "zeros", "full")]
    assert pictures[0] == pictures[1] != pictures[2]


def test_quality_draws_every_method(tmp_path, size_of, shows):
    path = tmp_path / "q.png"
    curves = {"a": np.linspace(30, 40, 30), "b": np.where(np.arange(30) == 4, np.inf, 35), "c": np.full(30, np.nan)}
    report.quality_picture(path, curves, title="t", wavelengths=np.linspace(400, 1000, 30))
    assert size_of(path) == (1000, 600)
    assert shows(path, BLUE) and shows(path, ORANGE)
    report.quality_picture(tmp_path / "one.png", {"a": np.array([0.9])})
    assert shows(tmp_path / "one.png", BLUE)
    report.quality_picture(tmp_path / "nan.png", {"a": np.full(3, np.nan)})
    assert size_of(tmp_path / "nan.png") == (1000, 600)


def test_a_picture_of_quality_is_overwritten_only_when_asked(tmp_path, size_of):
    path = tmp_path / "mine.png"
    path.write_text("mine")
    with pytest.raises(OutputError):
        report.quality_picture(path, {"a": np.ones(30)})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]
    report.quality_picture(path, {"a": np.ones(30)}, overwrite=True)
    assert size_of(path)[0] >= 1000 and len(list(tmp_path.iterdir())) == 1


def test_the_legend_states_the_mean_of_the_finite_bands(tmp_path, figures):
    curves = {"a": np.array([30.0, 31, 35]), "b": np.array([20, np.inf, np.nan]), "c": np.full(3, np.inf)}
    report.quality_picture(tmp_path / "q.png", curves)
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ["a: mean 32 dB", "b: mean 20 dB", "c: no finite value"]
    (axes,) = figures[0].axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curves["a"])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda path: report.quality_picture(path, {}), "no curve"),
        (lambda path: report.quality_picture(path, {"a": SIGMA, "b": SIGMA[1:]}), r"\(29,\)"),
        (lambda path: report.quality_picture(path, {"a": SIGMA}, wavelengths=(400, 500)), "2 wavelengths"),
        (lambda path: report.noise_picture(path, SIGMA, SIGMA[1:], SIGMA, noise=SIGMA), r"\(29,\)"),
        (lambda path: report.noise_picture(path, SIGMA, SIGMA, SIGMA[1:], noise=SIGMA), r"\(29,\)"),
        (lambda path: report.noise_picture(path, *[SIGMA] * 3, noise=SIGMA[1:]), r"\(29,\)"),
        (lambda path: report.noise_picture(path, *[SIGMA] * 3, noise=SIGMA, bad=np.ones(29, bool)), r"\(29,\)"),
    ],
)
def test_curves_that_do_not_fit_are_refused(tmp_path, call, says):
    with pytest.raises(InputError, match=says):
        call(tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
