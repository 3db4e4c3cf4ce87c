import pytest

from rsunfold.cube import Aside
from rsunfold.io.bands import spectral_fields, split_list


@pytest.mark.parametrize(
    ("units", "factor"),
    [("Nanometers", 1), ("nm", 1), ("Micrometers", 1e3), ("um", 1e3), ("µm", 1e3), ("Angstroms", 0.1), ("mm", 1e6)],
)
def test_units_become_nanometres(units, factor):
    fields, notes = spectral_fields(2, ["400.5", "900"], ["9.5", "10"], units=units)
    assert fields["wavelengths"] == pytest.approx((400.5 * factor, 900 * factor))
    assert fields["fwhm"] == pytest.approx((9.5 * factor, 10 * factor))
    assert notes == []


@pytest.mark.parametrize(
    ("values", "expected", "word"),
    [
        ([0.4005, 2.5], (400.5, 2500), "micro"),
        ([400.5], (400.5,), "nano"),
        ([50, 200], (50000, 200000), "micro"),
    ],
)
def test_missing_units_are_guessed_and_said(values, expected, word):
    fields, notes = spectral_fields(len(values), values)
    assert fields["wavelengths"] == expected
    assert len(notes) == 1 and f"{word}metres" in notes[0]
    assert isinstance(notes[0], Aside) == (values != [50, 200])  # these may be numbers of bands


@pytest.mark.parametrize(
    ("units", "values", "expected"),
    [
        ("Micrometers", (420, 2450), (420, 2450)),
        ("nm", (0.42, 2.45), (420, 2450)),
        ("nm", (8000, 12000), (8000, 12000)),
    ],
)
def test_units_that_the_values_contradict(units, values, expected):
    fields, notes = spectral_fields(2, wavelength=values, units=units)
    assert fields["wavelengths"] == expected
    assert len(notes) == (expected != values or units == "Micrometers")


def test_units_that_are_no_length_are_ignored_and_said():
    fields, notes = spectral_fields(2, [1, 2], [1, 1], units="Index")
    assert fields["wavelengths"] == fields["fwhm"] == ()
    assert "Index" in notes[0]


SPELLINGS = ("cm^-1", "cm⁻¹", "1 / cm", "Wavenumber (cm-1)", "wavenumbers [cm^{-1}]", "Wavenumber / cm-1")


@pytest.mark.parametrize(
    ("units", "values", "widths", "centres", "fwhm"),
    [
        ("Wavenumber", [1250, 1000], [4, 5], (8000, 10000), (25.6, 50)),
        *((units, [1250, 1000], [], (8000, 10000), ()) for units in SPELLINGS),
        ("GHz", [30000, 29979.2458], [], (9993.081933, 10000), ()),
        ("MHz", ["29979245.8"], ["2997.92458"], (10000,), (1,)),
    ],
)
def test_wavenumbers_and_frequencies_become_wavelengths(units, values, widths, centres, fwhm):
    fields, notes = spectral_fields(len(values), values, widths, units=units)
    assert fields["wavelengths"] == pytest.approx(centres) and fields["fwhm"] == pytest.approx(fwhm)
    assert not notes


@pytest.mark.parametrize(
    ("units", "values"),
    [
        *(("cm-1", values) for values in ([-100, 0, 3500], [0, 90, 3500], [0, 2, 4], [301, 200.3, 100.5, 0])),
        *(("GHz", [-1, 1, 2]), ("Raman shift (cm-1)", [100, 200, 3500])),
    ],
)
def test_raman_shifts_are_no_wavelengths(units, values):
    fields, (note,) = spectral_fields(len(values), values, [4] * len(values), units=units)
    assert fields["wavelengths"] == fields["fwhm"] == ()
    assert "ignored" in note and "Raman shift" in note and not isinstance(note, Aside)


@pytest.mark.parametrize(
    "values",
    [[1000, 900, 0], [0, 1000], [1250, 0, 1000], [0, 0, 1, 2], [400, 401, 402, 800, 801, 0], [0, 0]],
    ids=["far", "single", "among", "repeated", "two spectrometers", "all"],
)
def test_a_wavenumber_of_0_is_that_of_a_band_of_which_none_is_known(values):
    fields, notes = spectral_fields(len(values), values, [4] * len(values), units="cm-1")
    assert fields["wavelengths"] == pytest.approx([1e7 / value if value else 0 for value in values])
    assert [bool(width) for width in fields["fwhm"]] == [bool(value) for value in values]
    assert all(isinstance(note, Aside) for note in notes)


def test_a_quantity_before_its_unit():
    assert spectral_fields(2, [0.45, 0.9], units="Wavelength (µm)")[0]["wavelengths"] == (450, 900)
    assert not spectral_fields(2, [450, 900], units="Wavenumber (nm)")[0]["wavelengths"]


def test_fwhm_alone_needs_units():
    assert spectral_fields(1, fwhm=["9.5"], units="nm")[0]["fwhm"] == (9.5,)
    fields, notes = spectral_fields(1, fwhm=["9.5"])
    assert fields["fwhm"] == () and "fwhm" in notes[0]


@pytest.mark.parametrize("name", ["wavelength", "fwhm", "bbl"])
@pytest.mark.parametrize(("entries", "word"), [(["1", "2", "3"], "3 values for 2 bands"), (["1", "x"], "not a number")])
def test_lists_that_do_not_fit_are_ignored_and_said(name, entries, word):
    fields, notes = spectral_fields(2, **{name: entries}, units="nm")
    assert set(fields.values()) == {()}
    assert len(notes) == 1 and name in notes[0] and word in notes[0]


def test_repeated_wavelengths_are_kept_and_said():
    fields, notes = spectral_fields(3, [500, 600, 500], units="nm")
    assert fields["wavelengths"] == (500, 600, 500)
    assert "share the wavelength 500" in notes[0]


def test_bad_bands_are_the_zeros_of_bbl():
    assert spectral_fields(3, bbl=["1", "0", "1.0"])[0]["bad_bands"] == (False, True, False)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        *(("{a, b}", ["a", "b"]), ("{\n a,\n b}", ["a", "b"]), ("a", ["a"]), ("{}", []), (None, [])),
        *(("{a, b,\n}", ["a", "b"]), ("{a, , b}", ["a", "", "b"]), ("{a,,}", ["a", ""])),
    ],
)
def test_split_list(text, entries):
    assert split_list(text) == entries


def test_units_may_differ_from_band_to_band():
    fields, notes = spectral_fields(3, [450, 0.9, 2.2], [10, 0.01, 0.02], units=["Nanometers", "um", "Micrometers"])
    assert fields["wavelengths"] == (450, 900, 2200) and fields["fwhm"] == (10, 10, 20) and not notes
    fields, notes = spectral_fields(2, [450, 900], units=["nm", "NM"])
    assert fields["wavelengths"] == (450, 900) and not notes
    fields, notes = spectral_fields(3, [0.45, 0.6, 0.9], units=["um", "", "um"])
    assert fields["wavelengths"] == (450, 600, 900) and not notes
    fields, (note,) = spectral_fields(2, [450, 0.9], units=["nm", "index"])
    assert not fields["wavelengths"] and "not all bands give a unit" in note


def test_widths_in_nanometres_beside_wavelengths_in_micrometres():
    fields, notes = spectral_fields(2, [0.45, 0.9], [10, 12], units="um")
    assert fields["wavelengths"] == (450, 900) and fields["fwhm"] == (10, 12)
    assert any("exceed the wavelengths" in note for note in notes)
    assert spectral_fields(2, [0.45, 0.9], [0.01, 0.012], units="um")[0]["fwhm"] == (10, 12)
