"""Recipes for hyperspectral denoising."""

import pytest

from rsunfold.errors import InputError
from rsunfold.registry import all_models, get_model
from rsunfold.train.hyperspectral.recipe import HyperspectralRecipe
from rsunfold.train.recipefile import SHIPPED, load_recipe

HEAD = 'name = "r"\nmodel = "star-net"\n'
HELD = '[data]\nvalidation = "a, b"\n'


def load(tmp_path, text: str):
    (tmp_path / "r.toml").write_text(text)
    return load_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("name", [spec.name for spec in all_models("denoise-hsi", "network")])
def test_shipped_recipes(name):
    recipe = load_recipe(SHIPPED / f"{name}.toml")
    assert isinstance(recipe, HyperspectralRecipe) and recipe.model == name
    assert recipe.data.places == ["hsi/clean", "had"] and len(recipe.data.held_out) == 3
    assert recipe.arch.items() <= get_model(name).build(**recipe.arch).arch.items()
    outliers = any(kind.startswith("case") for kind, _ in recipe.noise.protocol)
    assert outliers is get_model(name).factory.outliers


def test_values_land_where_they_belong(tmp_path):
    more = '[noise]\nkinds = {case2 = 1}\nvalidate = "iid:30, case2"\n[augment]\ncrop = 8\nscene = [8, 9]\n'
    recipe = load(tmp_path, HEAD + HELD + more)
    assert recipe.data.held_out == ["a", "b"] and recipe.data.places == ["."]
    assert recipe.noise.protocol == [("iid", 30.0), ("case2", None)] and recipe.noise.kinds == {"case2": 1}
    assert recipe.augment.crop == 8 and recipe.augment.scene == (8, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, r"\[data\] must name cubes for validation"),
        (HEAD + HELD + "[noise]\nkinds = {fog = 1}\n", "unknown noise 'fog'; choose from iid, bandwise, case1"),
        (HEAD + HELD + '[noise]\nvalidate = "iid:10, rain"\n', "unknown noise 'rain'"),
        (
            HEAD + HELD + '[noise]\nvalidate = "iid"\n',
            r"noise.validate needs entries such as iid:30 .*, not 'iid' .* above 0, .* got none\)\.$",
        ),
        (
            HEAD + HELD + '[noise]\nvalidate = "iid:10, bandwise:0"\n',
            "noise.validate needs entries .*, not 'bandwise:0'",
        ),
        (HEAD + HELD + '[noise]\nvalidate = "iid:nan"\n', "noise.validate needs entries .*, not 'iid:nan'"),
        (
            HEAD + HELD + '[noise]\nvalidate = "iid:1e-30"\n',
            r"not 'iid:1e-30' \(float32 cannot hold noise of less than 3e-05\)",
        ),
        (HEAD + HELD + '[noise]\nvalidate = "iid:x"\n', "noise.validate needs entries .*, not 'iid:x'"),
        (
            HEAD + HELD + '[noise]\nvalidate = "case2:30"\n',
            "noise.validate needs entries .*, not 'case2:30' .*leave sigma out",
        ),
        (HEAD + HELD + "[noise]\nkinds = {iid = 0}\n", "every kind of noise has share 0"),
        (HEAD + HELD + "[noise]\nkinds = {iid = -1}\n", "kinds.iid must be at least 0, not -1"),
        (HEAD + HELD + "[noise]\nsigma = [50, 10]\n", "sigma must be an ascending range, not 50 to 10"),
        (HEAD + HELD + "[noise]\nknown = 1.5\n", "known must be at most 1, not 1.5"),
        (HEAD + HELD + "[augment]\ncrop = 0\n", "crop must be at least 1, not 0"),
        (HEAD + HELD + "[augment]\nscene = [2, 9]\n", "scene must be at least 8 pixels, not 2"),
        (HEAD + HELD + "[augment]\nscene = [9, 8]\n", "scene must be an ascending range, not 9 to 8"),
        (HEAD + HELD + "[loss]\n", "the top level has no key 'loss'"),
    ],
)
def test_recipes_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
