"""Bands told by number or name, and those of one image found in another."""

import pytest

from rsunfold.errors import InputError, UsageError
from rsunfold.infer.bands import Bands, dropped

NAMES = ("B2", "B3", "B8A", "B8A", "7", "6")


@pytest.mark.parametrize(
    ("words", "names", "expected"),
    [
        ((), (), []),
        (("2", "4-6"), (), [1, 3, 4, 5]),
        (("B3", "1", "1-2"), NAMES, [0, 1]),
        (("6",), (*NAMES[:4], "x", "6"), [5]),
        (("842", "443-490", "1"), ("a", "b", "443-490", "842", "1-9", "0"), [0, 2, 3]),
        (("1-9", "0"), ("a", "b", "443-490", "842", "1-9", "0"), [4, 5]),
        (("104-108", "150-163", "220"), ("",) * 220, [*range(103, 108), *range(149, 163), 219]),
    ],
)
def test_bands_to_drop(words, names, expected):
    assert sorted(dropped(words, "a.mat", 220 if len(names) > 9 else 6, names)) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("7-9", "--drop-bands 7-9 is not within the 6 bands of a.mat"),
        ("0", "--drop-bands 0 is not within the 6 bands"),
        ("1-99999999999", "--drop-bands 1-99999999999 is not within"),
        ("5-3", "a.mat has no band '5-3'; --drop-bands takes numbers from 1"),
        ("B4", "a.mat has no band 'B4'"),
        ("B8A", "B8A may mean several bands of a.mat; write 3-3 for band number 3 or 4-4 for band number 4.$"),
        ("5", "may mean several bands of a.mat; write 5-5 for band number 5 or 6-6 for band number 6.$"),
        ("1-5", "write 1-1 for band number 1 or 2-2 for band number 2 or 3-3 for band number 3 and so on.$"),
    ],
)
def test_bands_that_are_not_there_or_not_clear(word, message):
    names = ("B2", "1-5", "B8A", "B8A", "7", "5")
    with pytest.raises(UsageError, match=message):
        dropped([word], "a.mat", 6, names)
    assert [*dropped(["5-5"], "a.mat", 6, names)] == [4]


def within(of, among, count=6):
    mine, theirs = ((Bands(p, count, range(len(w)), w)) for p, w in (("a", of), ("b", among)))
    return mine.within(theirs)


def test_bands_are_found_by_wavelength():
    waves = (400.0, 410.0, 420.0, 430.0, 900.0, 910.0)
    assert within(waves, waves) == [0, 1, 2, 3, 4, 5]
    assert within([w + 3 for w in waves], waves[::-1]) == [5, 4, 3, 2, 1, 0]
    assert within((406.0, 436.0, 650.0, 906.0), waves) == [1, None, None, 5]
    twice = (400.0, 410.0, 410.0, 420.0)  # where two spectrometers overlap
    assert within(twice, twice) == [0, 1, 2, 3]


def test_a_place_is_that_of_the_nearest_band_alone():
    waves = (400.0, 410.0, 420.0, 430.0)
    assert within((413.0, 411.0, 408.0), waves) == [None, 1, None]
    assert within((411.0, 414.0), waves) == [None, 1]  # the number decides


@pytest.mark.parametrize(("count", "place"), [(4, 1), (9, 0)])
def test_the_number_decides_only_where_there_are_as_many_bands(count, place):
    theirs = Bands("b", 4, range(4), (500.0, 504.0, 520.0, 540.0))
    assert Bands("a", count, (1,), (500.5,)).within(theirs) == [place]


def test_without_wavelengths_bands_are_found_by_number():
    first = Bands("a", 6, (4, 1), (500.0, 410.0))
    for waves in ((), (0.0,) * 6):
        assert first.within(Bands("b", 6, range(6), waves)) == [4, 1]
    assert first.within(Bands("b", 6, (1, 2))) == [None, 0]
    with pytest.raises(InputError, match="a has 6 bands, but b 7: without wavelengths in both"):
        first.within(Bands("b", 7, range(7)))
