"""A wider or deeper network begins as the one it comes from, or is refused."""

import copy

import pytest
import torch

from rsunfold.registry import all_models, get_model
from rsunfold.train.grow import grown
from rsunfold.unfold.unrolled import TargetNetwork

NETWORKS = [spec.name for spec in all_models("detect-ir", "network")]
IMAGE = torch.rand(2, 1, 33, 29, generator=torch.Generator().manual_seed(3))


def wider(name: str, **arch):
    torch.manual_seed(5)
    spec = get_model(name)
    return spec.build(**{**spec.sizes["tiny"], **arch}).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [12, 48])
def test_what_comes_back_computes_the_same(name, channels, random_network):
    narrow, wide = random_network(name), wider(name, C=channels)
    before = narrow(IMAGE, reconstruct=True)
    try:
        made = grown(narrow, wide)
    except ValueError as error:
        # Gates and heads lie one after the other in one tensor: the first channels are not those of the narrow one.
        assert name not in ("l-rpcanet", "rpcanet") and ("compute" in str(error) or "layers" in str(error))
        return
    assert made is wide
    for a, b in zip(made.eval()(IMAGE, reconstruct=True), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_bottlenecks_grow_too_and_the_added_channels_learn(random_network):
    narrow = random_network("l-rpcanet")
    made = grown(narrow, wider("l-rpcanet", c=9, C=16))
    T, D = made(IMAGE, reconstruct=True)
    (T.square().mean() + D.square().mean()).backward()
    first = made.stages[0].FT.features[2].weight  # 3x3 c -> c
    assert (first[:4, 4:] == 0).all() and (first[4:, :4] != 0).all()
    assert (first.grad[:4, 4:] != 0).any()
    rows = first.detach()[4:].flatten(1)
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 0.01  # no two added channels are the same


@pytest.mark.parametrize("channels", [8, 12])
def test_added_stages_leave_the_targets_as_they_are_and_learn(channels, random_network):
    small = random_network("l-rpcanet", carry_noise=False)
    made = grown(small, wider("l-rpcanet", K=5, C=channels, carry_noise=False))
    assert len(made.stages) == made.arch["K"] == 5 and len(small.stages) == small.arch["K"] == 2
    targets = {}
    T, D = made(IMAGE, keep=lambda k, name, x: targets.setdefault((k, name), x), reconstruct=True)
    expected, _ = small(IMAGE)
    for k in range(1, 5):
        found = targets[k, "T"].detach()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    (T.square().mean() + D.square().mean()).backward()
    for stage in made.stages[2:]:
        assert (stage.FT.head.weight.grad[:, 1:8] != 0).any()  # channels that the projection does not see yet
        assert (stage.FB.head.weight.grad != 0).any()


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ({"C": 4}, "would shrink from"),
        ({"K": 3}, "only with two channels or more"),
        ({"R": 2}, "would shrink|only channels and stages"),
        ({"carry_noise": False}, "would not compute"),
    ],
)
def test_refused(arch, said, random_network):
    with pytest.raises(ValueError, match=said):
        grown(random_network("l-rpcanet"), wider("l-rpcanet", **arch))


def test_denoisers_do_not_grow():
    net = wider("smds-net")
    assert not isinstance(net, TargetNetwork)
    with pytest.raises(ValueError, match="infrared"):
        grown(net, copy.deepcopy(net))
