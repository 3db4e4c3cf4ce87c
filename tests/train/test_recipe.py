"""Recipes: what they hold, and what is said about one that cannot be used."""

import pytest

from rsunfold import registry
from rsunfold.errors import InputError, UsageError
from rsunfold.registry import ModelSpec, all_models, get_model
from rsunfold.train.infrared.recipe import InfraredRecipe
from rsunfold.train.recipe import Recipe
from rsunfold.train.recipefile import SHIPPED, load_recipe, recipe_path

HEAD = 'name = "r"\nmodel = "l-rpcanet"\n'


def load(tmp_path, text: str) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return load_recipe(path)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_load_and_build_their_network(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert get_model(recipe.model).build(**recipe.arch).parameters_count > 0
    assert (recipe.continued or recipe.begins_with != recipe.model) == ("--from" in path.read_text())


@pytest.mark.parametrize("name", [spec.name for spec in all_models(kind="network") if spec.weighted])
def test_every_network_with_weights_has_the_recipe_of_its_name(name):
    assert load_recipe(recipe_path(name)).model == name


def test_values_land_where_they_belong(tmp_path):
    text = "seed = 3\narch = {K = 2}\noptim = {lr = 1}\naugment = {scale = [1, 2.0]}\n"
    recipe = load(tmp_path, HEAD + text + "data = {validation_of = {a = 0.5}}\n")
    assert (recipe.name, recipe.model, recipe.seed, recipe.arch) == ("r", "l-rpcanet", 3, {"K": 2})
    assert recipe.optim.lr == 1 and recipe.augment.scale == (1, 2.0) and recipe.data.validation_of == {"a": 0.5}
    assert recipe.optim.batch == Recipe("r", "m").optim.batch and recipe.data.split is None
    assert Recipe("r", "RPCANet++").model == "rpcanet-pp"  # as the record of its weights will say


def test_the_model_decides_which_tables_a_recipe_has(tmp_path, monkeypatch):
    assert type(load(tmp_path, HEAD)) is InfraredRecipe
    with pytest.raises(UsageError, match="unknown model 'rpcanett'; did you mean 'rpcanet'"):
        load(tmp_path, 'name = "r"\nmodel = "rpcanett"\n')
    spec = ModelSpec(name="rx", task="detect-anomaly", kind="classical", factory=object, paper="")
    monkeypatch.setitem(registry._MODELS, "rx", spec)
    with pytest.raises(InputError, match="'rx' cannot be trained: training is not available for detect-anomaly"):
        load(tmp_path, 'name = "r"\nmodel = "rx"\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "[optim]\nlearning_rate = 1\n", r"\[optim\] has no key 'learning_rate' \(known: steps, batch, lr"),
        (HEAD + "colour = 1\n", "the top level has no key 'colour'"),
        ('name = "r"\n', "the top level lacks the key 'model'"),
        ('name = "r"\nmodel = 3\n', "model in the top level must be text, not 3"),
        ('model = "l-rpcanet"\nname = 3\n', "name in the top level must be text, not 3"),
        (HEAD + 'seed = "x"\n', "seed in the top level must be a whole number, not 'x'"),
        (HEAD + "[optim]\nsteps = 10.5\n", r"steps in \[optim\] must be a whole number, not 10.5"),
        (HEAD + "[optim]\nsteps = true\n", r"steps in \[optim\] must be a whole number, not True"),
        (HEAD + '[optim]\nlr = "fast"\n', r"lr in \[optim\] must be a number, not 'fast'"),
        (HEAD + "[augment]\nscale = 2.0\n", r"scale in \[augment\] must be a list of 2 numbers, not 2.0"),
        (HEAD + "[augment]\nscale = [1.0]\n", r"scale in \[augment\] must be a list of 2 numbers"),
        (HEAD + '[teacher]\nmodel = "l-rpcanet"\n', "the teacher must be of another model than the network, l-rpcanet"),
        (HEAD + "[teacher]\nsteps = 5\n", "steps of imitation need the model of a teacher"),
        (HEAD + '[teacher]\nmodel = "rpcanet"\nsteps = -1\n', "teacher.steps must be at least 0, not -1"),
        (
            HEAD + '[teacher]\nmodel = "lsnet"\n[optim]\nstart_share = 0.5\n',
            "with a teacher there are no weights of this model",
        ),
        (HEAD + "[data]\nsplit = 3\n", r"split in \[data\] must be text, not 3"),
        (HEAD + '[data]\nweights = {a = "often"}\n', r"weights in \[data\] must be a table of numbers"),
        (HEAD + "[data]\nband = 1.5\n", r"band in \[data\] must be a whole number, not 1.5"),
        (HEAD + "[data]\nband = 0\n", "data.band must be at least 1, not 0"),
        (HEAD + "[data]\nscale = 280\n", r"scale in \[data\] must be a list of 2 numbers, not 280"),
        (HEAD + "[data]\nscale = [320, 320.0]\n", "data.scale must be two numbers that differ"),
        (HEAD + f"[data]\nscale = [0, {10**400}]\n", "data.scale must be two numbers that differ"),
        (HEAD + "data = 3\n", r"\[data\] must be a table, not 3"),
        (HEAD + "arch = 3\n", "arch in the top level must be a table, not 3"),
        (HEAD + "[optim]\nsteps = 0\n", "steps must be at least 1, not 0"),
        (HEAD + "[optim]\nlr = -1.0\n", "lr must be above 0, not -1.0"),
        (HEAD + "[optim]\nlr = nan\n", "lr must be above 0, not nan"),
        (HEAD + "[optim]\nclip = inf\n", "clip must be above 0, not inf"),
        (HEAD + "seed = -1\n", "seed must be at least 0, not -1"),
        (HEAD + "seed = 9223372036854775808\n", "seed must be below 2.63"),
        (HEAD + "[data]\nvalidation = 1.5\n", "validation must be at most 1, not 1.5"),
        (HEAD + "[data]\nvalidation_of = {a = -0.1}\n", "validation_of.a must be at least 0, not -0.1"),
        (HEAD + "[data]\nweights = {a = -1}\n", "weights.a must be at least 0, not -1"),
        (HEAD + "[loss]\npixel = [-1, 1]\n", "pixel at first must be at least 0, not -1"),
        (HEAD + "[augment]\nscale = [2.0, 0.5]\n", "scale must be an ascending range, not 2.0 to 0.5"),
        (HEAD + "[augment]\nscale = [0, 1]\n", "scale must be above 0, not 0"),
        (
            'name = "../r"\nmodel = "l-rpcanet"\n',
            r"name must be the plain name of a file, without folders, not '\.\./r'",
        ),
        *(
            (f'name = "{name}"\nmodel = "l-rpcanet"\n', "name must be the plain name of a file, without folders, not")
            for name in ("..", "a\\u0000b", "CON:*?", "con", "nul.v2", "a.", "a\\\\b")
        ),
        (f'name = "{"a" * 300}"\nmodel = "l-rpcanet"\n', "name must have at most 200 bytes, not 300"),
        (HEAD + "[optim]\nsteps = 99999999999999999999999999\n", r"steps must be below 2\^63"),
        (HEAD + f"validate_every = 1{'0' * 400}\n", r"validate_every must be below 2\^63"),
        (HEAD + f"[optim]\nlr = 1{'0' * 400}\n", r"lr must be below 2\^63"),
        ('name = ""\nmodel = "l-rpcanet"\n', "name must be the plain name of a file, without folders, not ''"),
        (HEAD + '[optim]\nprecision = "float16"\n', "precision must be float32 or bfloat16, not 'float16'"),
    ],
)
def test_recipes_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"the recipe .*r\.toml cannot be used: {message}") as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 3


def test_bad_toml_and_missing_files(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + HEAD.encode())  # as Windows writes it
    assert load_recipe(tmp_path / "r.toml").name == "r"
    with pytest.raises(InputError, match=r"r\.toml is not a valid TOML file: .*line 1"):
        load(tmp_path, "name = \n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.toml is not a valid TOML file"):
        load_recipe(tmp_path / "binary.toml")
    with pytest.raises(InputError, match=r"r\.toml is not a valid TOML file: maximum recursion"):
        load(tmp_path, "name = " + "[" * 10_000)
    with pytest.raises(InputError, match=r"absent\.toml cannot be read \(No such file"):
        load_recipe(tmp_path / "absent.toml")


def test_recipe_path(tmp_path):
    own = tmp_path / "l-rpcanet.toml"
    own.write_text(HEAD)
    assert recipe_path(str(own)) == own
    assert recipe_path("l-rpcanet") == recipe_path("recipes/l-rpcanet.toml") == SHIPPED / "l-rpcanet.toml"
    with pytest.raises(InputError, match=r"the recipe absent does not exist; shipped recipes are: .*l-rpcanet"):
        recipe_path("absent")


def test_changes_take_the_place_of_what_the_file_says(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(HEAD + "[optim]\nsteps = 10\nlr = 0.5\n")
    changes = ["optim.steps = 20", "data.weights.irstd-1k=2", "augment.scale=[1, 2.0]", "name=other", "arch.K=2"]
    changes.append("data.scale=[320, 280]")
    recipe = load_recipe(path, changes)
    assert isinstance(recipe, InfraredRecipe)
    assert (recipe.name, recipe.optim.steps, recipe.optim.lr, recipe.arch) == ("other", 20, 0.5, {"K": 2})
    assert recipe.data.weights == {"irstd-1k": 2} and list(recipe.augment.scale) == [1, 2]
    assert recipe.data.reading.scale == (320, 280)
    with pytest.raises(InputError, match=r"\[optim\] has no key 'absent'"):
        load_recipe(path, ["optim.absent=3"])
    with pytest.raises(InputError, match="steps must be at least 1, not 0"):
        load_recipe(path, ["optim.steps=0"])
    for change in ("optim.steps", "=3", "optim.=3"):
        with pytest.raises(UsageError, match="--set takes a key and a value such as"):
            load_recipe(path, [change])
    with pytest.raises(UsageError, match="seed=3: name is not a table of the recipe"):
        load_recipe(path, ["name.seed=3"])
