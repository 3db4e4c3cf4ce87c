import pytest

from rsunfold.errors import DeviceError, InputError, OutputError, UsageError
from rsunfold.infer.results import work_folder


@pytest.mark.parametrize("kind", [UsageError, InputError, OutputError, DeviceError])
def test_no_error_names_the_hidden_folder(tmp_path, kind):
    with pytest.raises(kind) as error, work_folder(tmp_path / "out") as work:
        raise kind(f"{work / 'a.tif'} cannot be.")
    assert str(error.value) == f"{tmp_path}/out/a.tif cannot be."
    assert not (tmp_path / "out").exists()
