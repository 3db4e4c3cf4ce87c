"""Wrong types are named by the public functions, before anything is read."""

import importlib
import io
import tempfile
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

import rsunfold
from rsunfold.arguments import checked
from rsunfold.errors import InputError, UsageError

IMAGE = np.zeros((8, 8), np.float32)
MODULES = {
    "detect_ir": "rsunfold.infer.infrared.run",
    "denoise_hsi": "rsunfold.infer.hsi.run",
    "select_features": "rsunfold.infer.features.run",
}
CUBE = np.random.default_rng(0).random((3, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (rsunfold.detect_ir, {"threshold": "0.5"}, "threshold must be a number or None, not '0.5'"),
        (rsunfold.detect_ir, {"threshold": 7}, "^threshold must lie between 0 and 1, not 7"),
        (rsunfold.select_features, {"k": 27}, "^k 27 is more than the"),
        (rsunfold.detect_ir, {"scale": 5}, "scale must be a sequence of a number or None, not 5"),
        (rsunfold.detect_ir, {"scale": (0, 1, 2)}, r"scale must be two numbers, \(cold, hot\), not 3"),
        (rsunfold.detect_ir, {"min_area": 1.5}, "min_area must be a whole number, not 1.5"),
        (rsunfold.detect_ir, {"model": 3}, "model must be text or None, not 3"),
        (rsunfold.detect_ir, {"nodata": "-99"}, "nodata must be a number or None"),
        (rsunfold.detect_ir, {"detector": "top-hat"}, "detector must be what load_detector gave"),
        (rsunfold.detect_ir, {"var": "x"}, "var selects a variable of a file and cannot be used with an array"),
        (
            rsunfold.denoise_hsi,
            {"sigma": np.ones((3, 1))},
            "sigma must be a number or a sequence of a number or None or text",
        ),
        (rsunfold.denoise_hsi, {"sigma": np.ones(4)}, "^sigma has 4 numbers, but array has 3 bands; give one for each"),
        (rsunfold.detect_anomaly, {"drop_bands": [2, 4]}, "^drop_bands 4 is not within the 3 bands of array"),
        (rsunfold.denoise_hsi, {"adapt": 1}, "adapt must be True or False, not 1"),
        (rsunfold.detect_anomaly, {"priors": "kernel"}, "priors must be a sequence of text or None, not 'kernel'"),
        (rsunfold.detect_anomaly, {"seed": 1.5}, "seed must be a whole number"),
        (
            rsunfold.detect_anomaly,
            {"model": "rx", "object_size": 9},
            "^object_size applies to the priors attribute-profile and small-object, which are not in use",
        ),
        (
            rsunfold.select_features,
            {"k": 1, "variance": 0.5},
            "^use one of k, the number to choose, variance",
        ),
        (rsunfold.select_features, {"k": True}, "k must be a whole number or None, not True"),
        (rsunfold.select_features, {"k": 2, "drop": [(1,)]}, r"drop must be a sequence of \(a number, a number\)"),
        (rsunfold.select_features, {"k": 2, "options": 3}, "options must be a dictionary or None, not 3"),
        (rsunfold.select_features, {"k": 2, "seed": -1}, "the seed must lie between 0 and"),
    ],
)
def test_what_is_wrong_is_named(function, given, message):
    with pytest.raises(UsageError, match=message):
        function(IMAGE if function is rsunfold.detect_ir else CUBE, **given)


def test_numbers_of_numpy_and_lists_are_what_they_look_like():
    @checked
    def function(a: "float", b: "int" = 1, c: "tuple[float, float] | None" = None, d: "bool" = False) -> "float":
        return a + b + sum(c or ()) + d

    assert function(np.float32(1), np.int16(2), [3, np.float64(4)], d=np.bool_(True)) == 11
    with pytest.raises(TypeError, match="missing"):
        function()


@pytest.mark.parametrize(
    ("number", "kind"), [(np.float64(1.5), float), (np.float32(1.5), float), (np.int16(2), int), (np.array(2)[()], int)]
)
def test_numbers_of_numpy_are_made_those_of_python(number, kind):
    @checked
    def function(number: "float | None") -> "type":
        return type(number)

    assert function(number) is function(number=number) is kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"treshold": 0.5}, r"detect_ir\(\) got an unexpected keyword .* 'treshold'; did you mean 'threshold'\?$"),
        ({"zzzz": 1}, r"detect_ir\(\) got an unexpected keyword argument 'zzzz'$"),
    ],
)
def test_an_unknown_argument_is_told_with_its_function_and_the_nearest(given, message):
    with pytest.raises(TypeError, match=message):
        rsunfold.detect_ir(IMAGE, **given)


def test_a_misspelt_argument_is_no_option_of_a_model():
    with pytest.raises(TypeError, match=r"detect_anomaly\(\) got .* 'modle'; did you mean 'model'\?$"):
        rsunfold.detect_anomaly(np.zeros((3, 9, 9)), modle="rx")
    with pytest.raises(UsageError, match="rx has no option 'zzzz'"):
        rsunfold.detect_anomaly(np.zeros((3, 9, 9)), model="rx", zzzz=1)


@pytest.mark.parametrize("function", [rsunfold.detect_ir, rsunfold.select_features])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("a\0b.csv", InputError, "has a null character"),
        (b"a.tif", UsageError, "in text, not as bytes or an open file"),
        (io.BytesIO(b"x"), UsageError, "in text, not as bytes or an open file"),
    ],
)
def test_what_is_no_path_is_told(function, given, error, message):
    with pytest.raises(error, match=message):
        function(given)


def test_samples_in_memory_are_never_none():
    for function in (rsunfold.detect_ir, rsunfold.denoise_hsi, rsunfold.select_features):
        module = importlib.import_module(MODULES[function.__name__])
        found = getattr(module, function.__annotations__["return"])
        names = {"score", "mask", "data", "valid"} & set(get_type_hints(found))
        assert names and not any(type(None) in get_args(get_type_hints(found)[name]) for name in names)


def test_a_scale_may_be_a_list():
    usual = rsunfold.detect_ir(IMAGE, scale=(0, 1), model="top-hat")
    for scale in ([0, 1], np.array([0, 1])):
        assert rsunfold.detect_ir(IMAGE, scale=scale, model="top-hat").summary["scale"] == usual.summary["scale"]


def test_names_of_files_are_no_flags():
    @checked
    def function(path: "str") -> None:
        raise UsageError(f"{path} is of another kind, give --min-area, or -k; see --scale.")

    with pytest.raises(UsageError) as caught:
        function("folder/a --scale-b.tif")
    assert str(caught.value) == "folder/a --scale-b.tif is of another kind, give min_area, or k; see scale."


def test_a_boolean_cube_comes_back_as_one():
    assert rsunfold.select_features(CUBE > 0.5, k=2).data.dtype == bool


@pytest.mark.filterwarnings("error")
def test_nodata_may_be_a_number_that_the_samples_cannot_hold():
    image = np.random.default_rng(0).random((16, 16), np.float32)
    found = rsunfold.detect_ir(image, model="top-hat", nodata=-1.7976931348623157e308)
    np.testing.assert_array_equal(found.mask, rsunfold.detect_ir(image, model="top-hat").mask)


@pytest.mark.parametrize("model", ["top-hat", "l-rpcanet"])
def test_an_image_in_memory_needs_no_folder(model, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/absent")
    assert rsunfold.detect_ir(np.zeros((8, 8), np.uint8), model=model).mask.shape == (8, 8)


def test_colour_pictures_are_refused():
    picture = Image.new("RGB", (8, 8))
    for function in (rsunfold.detect_ir, rsunfold.detect_anomaly, rsunfold.denoise_hsi):
        with pytest.raises(InputError, match="a palette or colour picture is no array"):
            function(picture)
    with pytest.raises(InputError, match="a palette or colour picture is no array"):
        rsunfold.select_features(picture, k=2)


def test_the_package_says_that_it_is_typed():
    assert (Path(rsunfold.__file__).parent / "py.typed").is_file()


def test_a_detector_is_loaded_once_for_many_images(monkeypatch):
    frames = np.random.default_rng(0).normal(300, 1, (3, 40, 50)).astype(np.float32)
    expected = [rsunfold.detect_ir(frame, scale=(295, 310)) for frame in frames]
    detector = rsunfold.load_detector()
    monkeypatch.setattr("rsunfold.weights.load", lambda *_: pytest.fail("loaded again"))
    for frame, alone in zip(frames, expected, strict=True):
        found = rsunfold.detect_ir(frame, scale=(295, 310), detector=detector)
        np.testing.assert_array_equal(found.score, alone.score)
    for other in ({"model": "top-hat"}, {"weights": "l-rpcanet-wide"}, {"device": "cpu"}, {"memory": "2GB"}):
        with pytest.raises(UsageError, match="a detector has its own model, weights, device and memory"):
            rsunfold.detect_ir(frames[0], detector=detector, **other)
