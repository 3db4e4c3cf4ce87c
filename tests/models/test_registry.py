"""Every registered network: what its task asks of it, shapes, gradients, saving, and being found by name."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from rsunfold import registry, weights
from rsunfold.contracts import AnomalyMethod, AnomalyNetwork, DenoisingMethod, PieceMethod, Selector, TargetMethod
from rsunfold.errors import UsageError
from rsunfold.infer.infrared.evaluate import first_stages
from rsunfold.registry import (
    DEFAULTS,
    ModelSpec,
    Task,
    all_models,
    chosen_model,
    get_model,
    models_to_compare,
    register,
)
from rsunfold.scene import scene_of
from rsunfold.train.network import networks
from rsunfold.train.recipe import Recipe
from rsunfold.unfold.unrolled import DenoisingNetwork, Record, TargetNetwork, Unrolled

NETWORKS = all_models("detect-ir", "network")
DENOISERS = all_models("denoise-hsi", "network")
ANOMALY_DETECTORS = all_models("detect-anomaly", "network")
PARAMETERS = {
    "l-rpcanet": 215_916,
    "rpcanet": 679_896,
    "rpcanet-pp": 1_434_551,
    "drpca-net": 1_168_971,
    "lsnet": 2_241_414,
}
SIZES = [(1, 1), (1, 40), (39, 1), (1, 7), (2, 3), (5, 8), (17, 16), (33, 40)]


@pytest.fixture(params=NETWORKS, ids=lambda spec: spec.name)
def spec(request) -> ModelSpec:
    return request.param


def variants(spec: ModelSpec) -> list[dict]:
    """The tiny architecture; where a network can carry its noise, both ways."""
    tiny = spec.sizes["tiny"]
    if "carry_noise" in spec.build(**tiny).arch:
        return [{**tiny, "carry_noise": carry} for carry in (True, False)]
    return [tiny]


def tiny(spec: ModelSpec, **arch) -> Unrolled:
    torch.manual_seed(0)
    return spec.build(**{**spec.sizes["tiny"], **arch})


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7))


CONTRACTS = {
    ("detect-ir", "network"): TargetNetwork,
    ("detect-ir", "classical"): TargetMethod,
    ("denoise-hsi", "network"): DenoisingNetwork,
    ("denoise-hsi", "classical"): DenoisingMethod,
    ("detect-anomaly", "network"): AnomalyNetwork,
    ("detect-anomaly", "classical"): AnomalyMethod,
    ("select-features", "network"): Selector,
    ("select-features", "classical"): Selector,
}


@pytest.mark.parametrize("every", all_models(), ids=lambda spec: spec.name)
def test_a_model_is_what_its_task_asks_for(every):
    model, contract = every.build(), CONTRACTS[every.task, every.kind]
    assert isinstance(model, contract)
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if not name.startswith("_") and contract not in (TargetNetwork, DenoisingNetwork):
            asked = list(inspect.signature(method).parameters)[1:]
            assert list(inspect.signature(getattr(model, name)).parameters)[: len(asked)] == asked, name
    if every.task == "detect-ir" and not isinstance(model, Unrolled):
        assert (model.radius is None) == isinstance(model, PieceMethod)


def test_both_published_families_are_registered():
    assert {"l-rpcanet", "rpcanet"} <= {m.name for m in NETWORKS}


def test_declaration_is_complete(spec, declared):
    declared(spec, bands=(1, 1), sizes=("tiny", "paper"))
    assert 0 < spec.threshold < 1 and spec.factory.letters, f"threshold of {spec.name} in (0, 1), letters of its class"
    assert spec.factory.heads.keys() >= {"B", "T", "D"}, f"heads of {spec.name} must name those of B, T and D"
    assert {"K", "C"} <= spec.options.keys(), f"{spec.name} must have the options K, its stages, and C, its channels"


def test_what_looks_at_neighbours_lies_in_operators(spec):
    tiny(spec).check()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), "the layer stages.0 of the network TargetNetwork lies in no MapOperator"),
        (nn.MaxPool2d(3, 1, 1), "the layer stages.0 of the network TargetNetwork lies in no MapOperator"),
        (nn.ConvTranspose2d(1, 1, 3), "the layer stages.0 of the network TargetNetwork lies in no MapOperator"),
        (nn.Conv2d(1, 1, 1), "every layer of the network TargetNetwork lies in no MapOperator"),
    ],
)
def test_a_network_of_ordinary_layers_is_refused_before_it_is_trained_or_used(layer, words, monkeypatch, tmp_path):
    def build() -> TargetNetwork:
        net = TargetNetwork()
        net.arch, net.stages = {}, nn.ModuleList([layer])
        return net

    plain = ModelSpec(name="plain", task="detect-ir", kind="network", factory=build, paper="")
    monkeypatch.setitem(registry._MODELS, "plain", plain)
    with pytest.raises(UsageError, match=words):
        networks(Recipe("own", "plain"))
    weights.save(tmp_path / "own.safetensors", build(), weights.WeightRecord("own", "plain", {}))
    with pytest.raises(UsageError, match=words):
        weights.load(tmp_path / "own.safetensors")


def test_paper_size(spec):
    found = spec.build(**spec.sizes["paper"]).parameters_count
    assert spec.name in PARAMETERS, f"PARAMETERS above lacks {spec.name}, whose paper's size has {found:_} parameters"
    assert found == PARAMETERS[spec.name]


@pytest.mark.parametrize("rows, cols", SIZES)
def test_any_size_in_gives_the_same_size_out(spec, rows, cols):
    net = tiny(spec).eval()
    with torch.inference_mode():
        T, D = net(image(1, 1, rows, cols), reconstruct=True)
    assert T.shape == D.shape == (1, 1, rows, cols)
    assert T.isfinite().all() and D.isfinite().all()


def test_a_batch_gives_what_its_images_give_alone(spec):
    net = tiny(spec).eval()
    x = image(2, 1, 21, 30)
    with torch.inference_mode():
        both = net(x, reconstruct=True)
        for i in range(2):
            for together, alone in zip(both, net(x[i : i + 1], reconstruct=True), strict=True):
                torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)


def test_a_network_in_double_precision_computes_in_it(spec):
    net, x = tiny(spec).eval(), image(1, 1, 21, 30)
    with torch.inference_mode():
        usual = net(x, reconstruct=True)
        double = net.double()(x.double(), reconstruct=True)
    for a, b in zip(usual, double, strict=True):
        assert b.dtype == torch.float64
        torch.testing.assert_close(b.float(), a, rtol=1e-4, atol=1e-4)


def test_a_network_in_half_precision_computes_in_it(spec):
    if spec.name == "rpcanet-pp":
        pytest.skip("its wide windows are computed in single precision")
    net, x = tiny(spec).eval().bfloat16(), image(1, 1, 21, 30).bfloat16()
    with torch.inference_mode():
        assert all(y.dtype == torch.bfloat16 for y in net(x, reconstruct=True))


def biases_before_normalisation(net: nn.Module) -> set[str]:
    """Biases of convolutions that a batch normalisation follows: it takes any constant off, so their gradient is 0."""
    names = set()
    for name, m in net.named_modules():
        if isinstance(m, nn.Sequential):
            following = itertools.pairwise(m.named_children())
            names |= {f"{name}.{conv}.bias" for (conv, _), (_, after) in following if isinstance(after, nn.BatchNorm2d)}
    return names


def test_gradients_reach_every_parameter(spec):
    x = image(2, 1, 24, 25)
    for arch in variants(spec):
        largest: dict[str, float] = {}
        for seed in range(8):  # the two hidden units of a channel attention may both be off under one seed, not all
            torch.manual_seed(seed)
            net = spec.build(**arch).train()
            T, D = net(x, reconstruct=True)
            (T.square().mean() + (D - 0.3).square().mean()).backward()
            for name, p in net.named_parameters():
                largest[name] = max(largest.get(name, 0.0), float(p.grad.abs().max()))
        idle = biases_before_normalisation(net)
        assert idle < largest.keys()
        assert not [n for n, g in largest.items() if n not in idle and g == 0]
        assert all(largest[n] < 1e-5 * max(largest.values()) for n in idle)


def test_without_reconstruction_only_the_last_reconstruction_branches_get_no_gradient(spec):
    """All others get one that is not 0, so that the target depends on them."""
    for arch in variants(spec):
        reached: set[str] = set()
        for seed in range(8):
            torch.manual_seed(seed)
            net = spec.build(**arch).train()
            T, D = net(image(2, 1, 24, 25))
            assert D is None
            T.square().mean().backward()
            reached |= {n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        names = [n for n, _ in net.named_parameters()]
        dead = {n for n, p in net.named_parameters() if p.grad is None}
        # With or without carry_noise: the N of earlier stages reaches T^K through their D.
        last = f"stages.{len(net.stages) - 1}."
        B, T, D = ({n for n in names if n.startswith(last + net.heads[v].partition(".")[0] + ".")} for v in "BTD")
        assert D and dead >= D and dead.isdisjoint(B | T) and all(n.startswith(last) for n in dead)
        assert set(names) == dead | reached | biases_before_normalisation(net)


def test_the_target_depends_on_the_image(spec, random_network):
    for arch in variants(spec):
        net, x = random_network(spec.name, **arch), image(2, 1, 24, 25).requires_grad_()
        T, _ = net(x)
        T.square().sum().backward()
        assert float(x.grad.abs().max()) > 1e-3
        first, second = T.detach()
        assert float((first - second).abs().max()) > 1e-2 * float(first.std()) > 0


def test_skipping_dead_branches_gives_the_same_logits(spec):
    for arch in variants(spec):
        net = tiny(spec, **arch).eval()
        x = image(1, 1, 19, 22)
        with torch.inference_mode():
            assert torch.equal(net(x)[0], net(x, reconstruct=True)[0])


def test_the_first_stages_alone_give_the_target_of_the_last_of_them(spec):
    for arch in variants(spec):
        net, record = tiny(spec, **arch).eval(), Record()
        x = image(1, 1, 19, 22)
        with torch.inference_mode():
            net(x, keep=record)
            for k, stage in enumerate(record.stages, start=1):
                short = first_stages(net, k)
                assert torch.equal(short(x)[0], stage["T"])
                assert len(net.stages) >= len(short.stages) == k
        assert short.parameters_count == net.parameters_count and short.macs(9, 8) == net.macs(9, 8) > 0


def test_arch_rebuilds_the_network(spec):
    for arch in variants(spec):
        net = tiny(spec, **arch)
        again = spec.build(**net.arch)
        again.load_state_dict(net.state_dict())
        assert again.arch == net.arch and set(arch) <= set(net.arch)
        assert again.macs(30, 20) == net.macs(30, 20)


def test_saved_and_loaded_weights_give_identical_outputs(spec, tmp_path):
    net = tiny(spec).eval()
    record = weights.WeightRecord(name="own", model=spec.name, arch=net.arch, threshold=0.3)
    path = tmp_path / "own.safetensors"
    sha = weights.save(path, net, record)
    loaded, found, sha_again = weights.load(str(path), spec.name)
    assert found == record and sha == sha_again
    x = image(1, 1, 20, 17)
    with torch.inference_mode():
        for a, b in zip(loaded(x, reconstruct=True), net(x, reconstruct=True), strict=True):
            assert torch.equal(a, b)


# ---------------------------------------------------------------------- networks for hyperspectral denoising


@pytest.fixture(params=DENOISERS, ids=lambda spec: spec.name)
def denoiser(request) -> ModelSpec:
    return request.param


def spectra(bands: int, rank: int, rows: int = 14, cols: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    Y = 3 * torch.randn(bands, rows, cols, generator=draw)
    return Y, torch.linalg.qr(torch.randn(bands, rank, generator=draw))[0]


def test_all_denoisers_are_registered():
    assert {"smds-net", "star-net", "star-net-s"} <= {m.name for m in DENOISERS}


def test_declaration_of_denoisers_is_complete(denoiser, declared):
    declared(denoiser, bands=(1, None), sizes=("tiny", "paper"))
    assert denoiser.factory.letters, f"the class of {denoiser.name} has no letters"
    assert isinstance(denoiser.factory.outliers, bool)
    assert "K" in denoiser.options, f"{denoiser.name} must have the option K, its stages"


def test_star_net_s_alone_of_the_papers_takes_outliers_away():
    assert get_model("star-net-s").factory.outliers
    assert not get_model("star-net").factory.outliers and not get_model("smds-net").factory.outliers


def test_a_denoiser_in_double_precision_computes_in_it(denoiser):
    net = tiny(denoiser).eval()
    Y, A = spectra(12, 10)
    with torch.inference_mode():
        usual, _ = net(Y, A)
        double, _ = net.double()(Y.double(), A.double())
    assert double.dtype == torch.float64 and float((double.float() - usual).abs().mean()) < 1e-2


@pytest.mark.parametrize(("bands", "rank"), [(12, 10), (6, 4)])
def test_every_denoiser_keeps_the_contract(denoiser, bands, rank):
    net, record = tiny(denoiser).eval(), Record()
    Y, A = spectra(bands, rank)
    with torch.inference_mode():
        found, context = net(Y, A)
        again, _ = net(Y, A, context, keep=record)
    assert found.shape == Y.shape and found.dtype == torch.float32 and found.isfinite().all()
    torch.testing.assert_close(again, found, rtol=1e-4, atol=1e-4)
    assert [tuple(stage) for stage in record.stages] == [net.letters] * net.arch["K"]
    assert net.radius > 0 and net.codes_per_pixel(20) > net.codes_per_pixel(9) > 0
    # The result lies in the subspace: nothing outside it can be signal.
    flat = found.flatten(1)
    bases = [A] if context is None else context.bases
    torch.testing.assert_close(bases[-1] @ (bases[-1].mT @ flat), flat, rtol=1e-3, atol=1e-3)


def test_a_window_gives_the_result_of_the_image_beyond_the_radius(denoiser, random_network):
    """Tiles rely on it; infrared networks run by tiles in tests/infer/test_outofcore.py."""
    net = random_network(denoiser.name).double()
    m, stride = net.radius, net.stride
    assert m % stride == 0, f"radius {m} of {denoiser.name} is no multiple of its stride {stride}"
    rows, cols = m + stride + 9, m + 2 * stride + 7
    Y, A = (x.double() for x in spectra(9, 9, rows, cols))
    with torch.inference_mode():
        whole, context = net(Y, A)
        lower = net(Y[:, stride:, 2 * stride :], A, context)[0][:, m:, m:]
        upper = net(Y[:, : rows - stride, : cols - stride], A, context)[0][:, :9, : stride + 7]
    for part, expected in ((lower, whole[:, stride + m :, 2 * stride + m :]), (upper, whole[:, :9, : stride + 7])):
        off = float((part - expected).abs().max() / expected.abs().max())
        assert off < 1e-7, f"a window of {denoiser.name} is off by {off:.1g} beyond its radius of {m} pixels: raise it"


def test_step_sizes_of_denoisers_are_some_of_their_parameters(denoiser):
    net = tiny(denoiser)
    steps, every = {id(p) for p in net.step_sizes()}, {id(p) for p in net.parameters()}
    assert len(steps) == len(net.step_sizes()) and steps and steps < every


# ---------------------------------------------------------------------- detectors of anomalies


@pytest.fixture(params=ANOMALY_DETECTORS, ids=lambda spec: spec.name)
def finder(request) -> ModelSpec:
    return request.param


def quick(spec: ModelSpec) -> dict:
    """Its size "tiny", with as few steps of learning as it can do."""
    few = {name: least for name, least in (("iterations", 2), ("epochs", 1)) if name in spec.options}
    return {**spec.sizes.get("tiny", {}), **few}


def test_all_detectors_of_anomalies_are_registered(finder, declared):
    assert {"auto-ad", "lrr-net-plus"} <= {m.name for m in ANOMALY_DETECTORS}
    declared(finder, "url", bands=(1, None))
    assert finder.weights is None
    model = finder.build(**quick(finder))
    assert model.radius is None or model.radius >= 0
    assert model.bytes_per_pixel(200) >= model.bytes_per_pixel(100) > 0


@pytest.mark.parametrize("bands", [1, 5, 200])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (12, 1), (3, 40), (9, 8)])
def test_every_detector_scores_any_size(finder, size, bands):
    cube = np.random.default_rng(0).random((bands, *size), np.float32)
    kept, valid = cube.copy(), np.ones(size, bool)
    model = finder.build(**quick(finder))
    first, again = (model.fit(scene_of(cube, valid, seed=3), "cpu")(cube, valid) for _ in range(2))
    assert first.shape == size and first.dtype == np.float32
    assert np.isfinite(first).all() and (first >= 0).all()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(cube, kept)


# ---------------------------------------------------------------------- options


def test_whole_numbers_that_are_too_small_are_refused():
    for spec in all_models(kind="network"):
        for name, annotation in spec.annotations.items():
            if annotation.removesuffix(" | None") == "int":
                value = -1 if spec.per_scene else spec.least.get(name, 1) - 1
                with pytest.raises(UsageError, match=rf"{name}.*{value}\.$"):
                    spec.build(**{name: value})
        assert spec.least.keys() <= set(spec.options)


@pytest.mark.parametrize("every", all_models(), ids=lambda spec: spec.name)
def test_options_are_of_kinds_that_are_checked(every):
    assert {each.removesuffix(" | None") for each in every.annotations.values()} <= registry.KINDS.keys()


def test_options_are_checked_however_they_are_annotated():
    """With and without ``from __future__ import annotations``."""

    class Written:
        def __init__(self, side: int = 3, lam: float | None = None) -> None: ...

    class Deferred:
        def __init__(self, side: "int" = 3, lam: "float | None" = None, rng: "Nowhere" = None) -> None: ...  # noqa: F821

    for factory in (Written, Deferred):
        hat = ModelSpec(name="hat", task="detect-ir", kind="classical", factory=factory, paper="")
        hat.build(side=4, lam=None)
        for options, words in [({"side": 2.5}, "a whole number"), ({"side": True}, "a whole"), ({"lam": "x"}, "a num")]:
            with pytest.raises(UsageError, match=f"of hat must be {words}"):
                hat.build(**options)


def test_a_network_runs_with_the_least_that_is_declared(spec):
    T, _ = tiny(spec, **spec.least)(image(1, 1, 9, 8))
    assert T.isfinite().all()


def test_a_denoiser_runs_with_the_least_that_is_declared(denoiser):
    Y, A = spectra(12, 10)
    assert tiny(denoiser, **denoiser.least)(Y, A)[0].isfinite().all()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("top-hat", {}),
        ("top-hat:disk=7", {"disk": 7}),
        ("mpcm:scales=3+5:dark", {"scales": (3, 5), "dark": True}),
        ("mpcm:scales=9:dark=false", {"scales": (9,), "dark": False}),
        ("ipi:lam=1e-1:step=5", {"lam": 0.1, "step": 5}),
    ],
)
def test_options_follow_the_name_after_colons(text, options):
    spec, found = chosen_model(text, "detect-ir")
    assert spec is get_model(text.split(":")[0]) and found == options
    assert all(type(found[k]) is type(v) for k, v in options.items())
    spec.build(**found)


@pytest.mark.parametrize(
    ("text", "given", "words"),
    [
        ("crd:iner=3", {}, "crd has no option 'iner'; its options are inner, outer, lam"),
        ("crd", {"rank": 3}, "crd has no option 'rank'"),
        ("crd:inner=3", {"inner": 5}, "inner of crd is given twice, as --inner too"),
        ("crd:inner=3:inner=5", {}, "inner of crd is given twice"),
        ("crd:inner=x", {}, "inner of crd must be a whole number, not 'x'"),
        ("crd:", {}, "an option of crd must follow each colon"),
        ("crd:inner=", {}, "inner of crd must be a whole number, not ''"),
        ("crd:inner=1_1", {}, "inner of crd must be a whole number, not '1_1'"),
        ("crd:lam=nan", {}, "lam of crd must be finite"),
        ("crd:outer=99999999999999999999999", {}, "outer of crd must be finite and at most 1000000"),
        ("kernel-rx:landmarks=900000", {}, "at most 5000 landmarks"),
        ("crdd:inner=3", {}, "unknown model 'crdd' for detect-anomaly; did you mean 'crd'"),
    ],
)
def test_options_that_cannot_be_are_refused(text, given, words):
    with pytest.raises(UsageError, match=words):
        spec, options = chosen_model(text, "detect-anomaly", given)
        spec.build(**options)


def test_the_architecture_of_trained_weights_is_no_option(spec, denoiser):
    for each in (spec, denoiser):
        with pytest.raises(UsageError, match=f"{each.name} takes no options: its architecture is stored with"):
            chosen_model(f"{each.name}:K=2", each.task)


# ---------------------------------------------------------------------- names


def test_unknown_architecture_keyword_is_refused(spec):
    with pytest.raises(TypeError, match="banana"):
        spec.build(banana=1)


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("l-rpcnet", "l-rpcanet"),
        ("lrpcanet", "l-rpcanet"),
        ("rpcanett", "rpcanet"),
        ("RPCA-Net", "rpcanet"),
        ("TopHat", "top-hat"),
    ],
)
def test_near_misses_name_the_nearest_model(typed, nearest):
    with pytest.raises(UsageError, match=f"unknown model '{typed}' for detect-ir; did you mean '{nearest}'") as caught:
        get_model(typed, "detect-ir")
    assert caught.value.exit_code == 2


def test_a_name_like_no_other_lists_what_is_known():
    with pytest.raises(UsageError, match=r"choose from .*l-rpcanet.*top-hat"):
        get_model("qqqq", "detect-ir")
    with pytest.raises(UsageError, match="unknown model 'detect'; choose from"):
        get_model("detect")


def test_names_are_found_in_any_case():
    assert chosen_model("CRD:inner=3", "detect-anomaly") == (get_model("crd"), {"inner": 3})
    with pytest.raises(UsageError, match="--model names rx twice"):
        models_to_compare("RX,crd,rx", "detect-anomaly", "cpu")


@pytest.mark.parametrize("task", DEFAULTS)
def test_all_are_the_models_that_can_run(task: Task):
    said: list[str] = []
    where = models_to_compare("all", task, "cuda", say=said.append)
    absent = [s.name for s in all_models(task) if s.name not in where]
    assert all(get_model(name).weighted and get_model(name).weights is None for name in absent)
    assert bool(said) == bool(absent) and all(name in said[0] for name in absent)
    assert {get_model(name).kind for name, device in where.items() if device == "cuda"} == {"network"}
    assert set(absent) & set(models_to_compare("all", task, "cpu", given=absent)) == set(absent)
    with pytest.raises(UsageError, match="--model all stands alone"):
        models_to_compare(f"all,{next(iter(where))}", task, "cpu")


def test_a_model_of_another_task_is_not_found():
    assert get_model("l-rpcanet").task == "detect-ir"
    with pytest.raises(UsageError, match="for select-features"):
        get_model("l-rpcanet", "select-features")


def test_two_models_of_one_name_are_refused(spec):
    register_again = register(spec.name, task=spec.task, kind=spec.kind, paper="another")
    copy = type(spec.factory.__name__, (), {"__module__": "copy", "__qualname__": spec.factory.__qualname__})
    for other in (copy, type("Another", (), {"__module__": spec.factory.__module__})):
        here, there = (f"{cls.__module__}.{cls.__qualname__}" for cls in (spec.factory, other))
        with pytest.raises(ValueError, match=f"two models are called '{spec.name}': {here} and {there}"):
            register_again(other)
    assert dataclasses.replace(spec) == get_model(spec.name)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("spca-net", {"rank": "x"}, "rank of spca-net must be a whole number, not 'x'"),
        ("spca-net", {"published": 3}, "published of spca-net must be true or false, not 3"),
        ("crd", {"lam": True}, "lam of crd must be a number, not True"),
        ("l-rpcanet", {"K": 2.5}, "K of l-rpcanet must be a whole number, not 2.5"),
        ("mpcm", {"scales": 3}, r"scales of mpcm must be whole numbers, such as 3\+5\+7, not 3"),
    ],
)
def test_an_option_of_another_kind_is_refused(model, options, words):
    with pytest.raises(UsageError, match=words):
        get_model(model).build(**options)
