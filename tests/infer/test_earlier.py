import hashlib
import json
import os
from contextlib import nullcontext

import pytest

from rsunfold.errors import InputError, OutputError
from rsunfold.infer.earlier import is_done
from rsunfold.infer.results import made_of
from rsunfold.io import inputs
from rsunfold.io.inputs import input_bytes, input_digest

ASKED = {"threshold": 0.5, "drop": ((1340, 1450),), "var": None}
SETTINGS = {"seed": 0, "object_size_px": 9, "priors": ["kernel"], "window": 32, "half": True}
ABOUT = {"model": "mpcm", "options": {"scales": (3, 5)}, "weights_sha256": "ab", **SETTINGS, "asked": ASKED}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"model": "rx"}, "was made with rx, not mpcm"),
        ({"model": "mpcm", "options": {}}, "was made with other options of mpcm"),
        ({"model": "mpcm", "weights_sha256": "cd"}, "was made with other weights of mpcm"),
        ({"model": "mpcm", "options": {"scales": [3, 5]}, "weights_sha256": "ab"}, None),
        ({"model": "mpcm", "options": {"dark": False, "scales": [3, 5]}}, None),
        ({"model": "mpcm", "options": {"dark": True, "scales": [3, 5]}}, "was made with other options of mpcm"),
        ({"model": "mpcm", "asked": {"threshold": 0.5, "drop": [[1340.0, 1450.0]], "later": 1}}, None),
        ({"model": "mpcm", "asked": {"threshold": 0.1}}, "with --threshold at 0.1, not at 0.5; choose another"),
        ({"model": "mpcm", "asked": {"drop": []}}, "with --drop at the default, not at 1340-1450; choose"),
        (
            {"model": "mpcm", "asked": {"var": None, "drop": [[1340, 1450]]}},
            "with --threshold at the default, not at 0.5",
        ),
        ({"model": "mpcm", "asked": {"threshold": 0.5, "drop": [[1340, 1450]]}}, None),  # before there was --var
        ({"model": "mpcm", "asked": {"var": "b"}}, "with --var at b, not at the default; choose"),
        ({"model": "mpcm", "seed": 3}, "with --seed at 3, not at 0; choose"),
        ({"model": "mpcm", "object_size_px": 4}, "with --object-size at 4, not at 9; choose"),
        ({"model": "mpcm", "priors": []}, "with --priors at the default, not at kernel; choose"),
        ({"model": "mpcm", "window": 64}, "with --window at 64, not at 32; choose"),
        ({"model": "mpcm", "half": False}, "with --half at the default, not at True; choose"),
        ({"model": "mpcm", **SETTINGS}, None),
        ({"model": "mpcm", "input": "elsewhere/a.tif"}, "was made from elsewhere/a.tif, not from .*/in/a.tif; choose"),
        ({"model": "mpcm", "input": "/elsewhere/a.tif"}, "was made from /elsewhere/a.tif, not"),
        ({"model": "mpcm", "input": "in/a.img"}, None),  # from the folder above
        ({"model": "mpcm", "input": "../in/a.tif"}, None),
        ({"model": "mpcm", "input": "a.tif"}, None),
        ({"model": "mpcm", "input": "/vsizip/z.zip/a.tif"}, "was made from /vsizip/z.zip/a.tif, not"),
        (
            {"model": "mpcm", "asked": {"threshold": [0.5, 2, *range(9)]}},
            "threshold at 0.5,2,0,... .11 values., not at 0.5",
        ),
        ({"model": "mpcm"}, None),
        ({}, "a_summary.json is empty or damaged; check the results, and pass --overwrite"),
        ([], "is empty or damaged"),
    ],
)
def test_results_of_another_image_model_or_other_weights_and_options_are_not_done(tmp_path, told, words):
    names, source = {"summary": "a_summary.json"}, str(tmp_path / "in" / "a.tif")
    assert not is_done(tmp_path, names, source, ABOUT)
    (tmp_path / "a_summary.json").write_text(json.dumps(told))
    if words is None:
        assert is_done(tmp_path, names, source, ABOUT)
    else:
        with pytest.raises(OutputError, match=words):
            is_done(tmp_path, names, source, ABOUT)


def test_an_image_behind_a_link_is_done(tmp_path, monkeypatch):
    (tmp_path / "deep" / "in").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "in")
    monkeypatch.chdir(tmp_path)
    for told in ("link/a.tif", "./link/a.tif", "deep/../link/a.tif", "deep/in/a.tif", str(tmp_path / "link" / "a.tif")):
        (tmp_path / "a_summary.json").write_text(json.dumps({"model": "mpcm", "input": told}))
        assert is_done(tmp_path, {"summary": "a_summary.json"}, "link/a.tif", ABOUT)


def test_an_input_of_another_size_is_not_done(tmp_path):
    source = tmp_path / "a.tif"
    source.write_bytes(bytes(9))
    told = {"model": "mpcm", "input": str(source), "input_bytes": input_bytes(str(source))}
    (tmp_path / "a_summary.json").write_text(json.dumps(told))
    names = {"summary": "a_summary.json"}
    assert is_done(tmp_path, names, str(source), ABOUT)
    source.write_bytes(bytes(10))
    with pytest.raises(OutputError, match=r"was made when .*a\.tif had another size"):
        is_done(tmp_path, names, str(source), ABOUT)
    source.unlink()
    with pytest.raises(InputError, match=r"a\.tif does not exist\.$"):
        is_done(tmp_path, names, str(source), ABOUT)


@pytest.mark.parametrize("read_whole", [True, False])
def test_an_input_of_the_same_size_and_other_content_is_not_done(tmp_path, monkeypatch, read_whole):
    """Frames that replace others, and those of two dates that are named from within their folders."""
    monkeypatch.setattr(inputs, "PIECE", 8 if read_whole else 1)
    monkeypatch.setattr(inputs, "PIECES", 2)
    names = {"summary": "a_summary.json"}
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.tif").write_bytes(day.encode())
    monkeypatch.chdir(tmp_path / "day1")
    (tmp_path / "a_summary.json").write_text(json.dumps({"model": "mpcm", **made_of("a.tif", {})}))
    assert is_done(tmp_path, names, "a.tif", ABOUT) and is_done(tmp_path, names, "../day1/a.tif", ABOUT)
    monkeypatch.chdir(tmp_path / "day2")
    with pytest.raises(
        OutputError, match=r"made from another image of this name, or before a\.tif was changed; choose"
    ):
        is_done(tmp_path, names, "a.tif", ABOUT)
    (tmp_path / "day2" / "a.tif").write_bytes(b"day1")
    os.utime("a.tif", (1, 1))
    assert is_done(tmp_path, names, "a.tif", ABOUT)


@pytest.mark.parametrize(("read_whole", "words"), [(True, None), (False, "was made from /day1/a.tif, not from")])
def test_the_same_image_elsewhere_is_done_where_it_was_read_whole(tmp_path, monkeypatch, read_whole, words):
    monkeypatch.setattr(inputs, "PIECE", 8 if read_whole else 1)
    monkeypatch.setattr(inputs, "PIECES", 2)
    source = tmp_path / "a.tif"
    source.write_bytes(b"day1")
    told = {"model": "mpcm", **made_of(str(source), {}), "input": "/day1/a.tif"}
    (tmp_path / "a_summary.json").write_text(json.dumps(told))
    with pytest.raises(OutputError, match=words) if words else nullcontext():
        assert is_done(tmp_path, {"summary": "a_summary.json"}, str(source), ABOUT)


def test_two_variables_of_a_file_are_not_the_same_image(tmp_path):
    """Whose results have the same names."""
    file, names = tmp_path / "n.nc", {"summary": "n_rad_x_summary.json"}
    file.write_bytes(b"both")
    one, other = f'NETCDF:"{file}":rad/x', f'NETCDF:"{file}":rad_x'
    (tmp_path / names["summary"]).write_text(json.dumps({"model": "mpcm", **made_of(one, {})}))
    assert is_done(tmp_path, names, one, ABOUT)
    with pytest.raises(OutputError, match=r"was made from .*:rad/x, not from .*:rad_x"):
        is_done(tmp_path, names, other, ABOUT)


@pytest.mark.parametrize("beside", ["cam.wld", "cam.pgw", "cam.pngw", "cam.png.aux.xml"])
def test_the_same_pixels_in_another_place_on_earth_are_not_done(tmp_path, beside):
    """Their files are equal; what says where they lie stands beside them."""
    for day in ("d1", "d2"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "cam.png").write_bytes(bytes(range(100)))
    one, other = (str(tmp_path / day / "cam.png") for day in ("d1", "d2"))
    (tmp_path / "cam_summary.json").write_text(json.dumps({"model": "mpcm", **made_of(one, {})}))
    assert is_done(tmp_path, {"summary": "cam_summary.json"}, other, ABOUT)
    (tmp_path / "d2" / beside).touch()
    with pytest.raises(OutputError, match=r"was made from .*d1/cam\.png, not from .*d2/cam\.png"):
        is_done(tmp_path, {"summary": "cam_summary.json"}, other, ABOUT)


def test_the_digest_of_an_input(tmp_path, monkeypatch):
    """Of all its files, whichever is named; of long ones the size, the ends and what lies evenly between."""
    image, header = tmp_path / "a.img", tmp_path / "a.hdr"
    image.write_bytes(bytes(range(100)))
    assert input_digest(str(image)) == f"sha256:{hashlib.sha256(bytes(range(100))).hexdigest()}"
    header.write_text("ENVI\nsamples = 10")
    both = input_digest(str(image))
    assert both == input_digest(str(header)) != f"sha256:{hashlib.sha256(bytes(range(100))).hexdigest()}"
    header.write_text("ENVI\nsamples = 50")
    assert input_digest(str(image)) not in (None, both)
    header.unlink()
    monkeypatch.setattr(inputs, "PIECE", 10)
    monkeypatch.setattr(inputs, "PIECES", 4)
    pieces = b"100" + b"".join(bytes(range(start, start + 10)) for start in (0, 30, 60, 90))
    assert input_digest(str(image)) == f"sha256-sampled:{hashlib.sha256(pieces).hexdigest()}"
    assert input_digest(str(tmp_path / "none.tif")) is None


def test_as_many_pieces_as_are_read_are_no_sample(tmp_path, monkeypatch):
    """Of several files together."""
    monkeypatch.setattr(inputs, "PIECE", 10)
    monkeypatch.setattr(inputs, "PIECES", 4)
    image = tmp_path / "a.img"
    image.write_bytes(bytes(range(40)))
    assert input_digest(str(image)) == f"sha256:{hashlib.sha256(bytes(range(40))).hexdigest()}"
    (tmp_path / "a.hdr").write_text("ENVI")
    for size, beginning in ((20, "sha256:"), (21, "sha256-sampled:")):
        image.write_bytes(bytes(size))
        assert input_digest(str(image)).startswith(beginning)
