import json

import pytest

from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.infer.results import is_done, work_folder


@pytest.mark.parametrize("kind", [UsageError, InputError, OutputError, DeviceError])
def test_no_error_names_the_hidden_folder(tmp_path, kind):
    with pytest.raises(kind) as error, work_folder(tmp_path / "out") as work:
        raise kind(f"{work / 'a.tif'} cannot be.")
    assert str(error.value) == f"{tmp_path}/out/a.tif cannot be."
    assert not (tmp_path / "out").exists()


ABOUT = {"model": "crd", "options": {"scales": (3, 5)}, "weights_sha256": "ab"}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"model": "rx"}, "was made with rx, not crd"),
        ({"model": "crd", "options": {}}, "was made with other options of crd"),
        ({"model": "crd", "weights_sha256": "cd"}, "was made with other weights of crd"),
        ({"model": "crd", "options": {"scales": [3, 5]}, "weights_sha256": "ab"}, None),
        ({"model": "crd"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_results_of_another_model_weights_or_options_are_not_done(tmp_path, told, words):
    assert not is_done(tmp_path, {"summary": "a_summary.json"}, ABOUT)
    (tmp_path / "a_summary.json").write_text(json.dumps(told))
    if words is None:
        assert is_done(tmp_path, {"summary": "a_summary.json"}, ABOUT)
    else:
        with pytest.raises(OutputError, match=words):
            is_done(tmp_path, {"summary": "a_summary.json"}, ABOUT)
