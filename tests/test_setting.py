"""Settings of the whole process, while calls run and after them."""

import pytest

from rsunfold.setting import Setting


@pytest.mark.parametrize("first", [0, 1])
def test_calls_that_overlap_have_their_value_and_give_back_the_callers(first):
    held = {"value": 5}
    setting = Setting(lambda: held["value"], lambda value: held.update(value=value))
    calls = [setting.set_to(1), setting.set_to(1)]
    for call in calls:
        call.__enter__()
    assert held["value"] == 1
    calls.pop(first).__exit__(None, None, None)
    assert held["value"] == 1
    calls.pop().__exit__(None, None, None)
    assert held["value"] == 5
