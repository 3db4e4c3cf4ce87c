"""A pupil takes over what it can of its teacher, and its last layers are fitted to the teacher's variables."""

import copy

import pytest
import torch
from torch import nn

from rsunfold.registry import all_models, get_model
from rsunfold.train.imitate import Led, heads_fitted, taken_over
from rsunfold.unfold.unrolled import Record

NETWORKS = [spec.name for spec in all_models("detect-ir", "network")]
IMAGES = [torch.rand(2, 1, 40, 36, generator=torch.Generator().manual_seed(n)) for n in range(4)]


def shown(net, image):
    record = Record()
    net(image, keep=record, reconstruct=True)
    return record.stages


def with_other_heads(net):
    """A copy whose last layers are random."""
    pupil = copy.deepcopy(net)
    draw = torch.Generator().manual_seed(5)
    for stage in pupil.stages:
        for name in pupil.heads.values():
            for p in stage.get_submodule(name).parameters():
                p.copy_(torch.randn(p.shape, generator=draw))
    return pupil


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pupil_whose_layers_are_the_teachers_becomes_the_teacher(name, random_network):
    teacher = random_network(name)
    pupil = with_other_heads(teacher)
    image = torch.rand(1, 1, 33, 47, generator=torch.Generator().manual_seed(9))  # not one that it is fitted to
    expected = teacher(image, reconstruct=True)
    assert not torch.allclose(pupil(image)[0], expected[0], rtol=0.1)
    assert heads_fitted(teacher, pupil, IMAGES) is pupil
    for found, wanted in zip(pupil(image, reconstruct=True), expected, strict=True):
        assert float((found - wanted).std()) < 0.02 * float(wanted.std())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_loss_is_that_of_each_operator_alone(name, random_network):
    teacher = random_network(name)
    theirs = shown(teacher, IMAGES[0])
    led = Led(theirs)
    teacher(IMAGES[0], keep=led, reconstruct=True)
    assert float(led.loss()) == 0

    pupil = copy.deepcopy(teacher)
    last = pupil.stages[0].get_submodule(pupil.heads["B"])
    last.bias.add_(0.5)  # which all that follows would be told of, if it worked on this B
    led = Led(theirs)
    pupil(IMAGES[0], keep=led, reconstruct=True)
    B = theirs[0]["B"]
    expected = 0.25 / float(B.var()) / sum(len(stage) for stage in theirs)
    assert float(led.loss()) == pytest.approx(expected, rel=1e-3)


def test_an_rpcanet_takes_over_from_an_l_rpcanet_of_as_many_channels(random_network):
    teacher, pupil = random_network("l-rpcanet", c=8, C=8), random_network("rpcanet")
    fresh = copy.deepcopy(pupil)
    assert taken_over(teacher, pupil) is pupil
    for old, new, random in zip(teacher.stages, pupil.stages, fresh.stages, strict=True):
        assert torch.equal(new.eps, old.eps)
        middle = new.FT.features[0].weight  # 3x3 from 1x1
        assert torch.equal(middle[:, :, 1:2, 1:2], old.FT.features[0].weight) and (middle != 0).sum() == 8
        image = IMAGES[0]
        for part, layers in (("FB", 12), ("FT", 14), ("FD", 12)):  # all but the projection
            own, theirs = getattr(new, part), getattr(old, part)
            assert len(own.features) == layers
            torch.testing.assert_close(own.features(image), theirs.features[:layers](image))
        # F_B and F_T have another layer where the projection is; that of F_D has as many channels.
        assert torch.equal(new.FB.head.weight, random.FB.head.weight)
        assert torch.equal(new.FD.head.weight, old.FD.head.weight)


def test_a_fitted_pupil_finds_what_the_teacher_finds(random_network):
    teacher = random_network("l-rpcanet", c=8, C=8, carry_noise=False)
    torch.manual_seed(2)
    fresh = get_model("rpcanet").build(K=2, C=8).eval().requires_grad_(False)
    pupil = taken_over(teacher, copy.deepcopy(fresh))
    errors = []
    for net in (fresh, pupil, heads_fitted(teacher, copy.deepcopy(pupil), IMAGES)):
        led = Led(shown(teacher, IMAGES[0]))
        net(IMAGES[0], keep=led, reconstruct=True)
        errors.append(float(led.loss()))
    assert errors[2] < 0.5 * errors[1] and errors[2] < 0.5 * errors[0]


def test_a_teacher_of_other_channels_throughout_is_none(random_network):
    with pytest.raises(ValueError, match=r"no layer has the channels of the teacher's, whose architecture is .*'c': 4"):
        taken_over(random_network("l-rpcanet", c=4, C=6), random_network("rpcanet"))


@pytest.mark.parametrize("arch", [{"c": 4, "C": 8}, {"c": 8, "C": 6}])
def test_layers_of_other_channels_are_not_taken_over(arch, random_network):
    teacher, pupil = random_network("l-rpcanet", **arch), random_network("rpcanet")
    fresh = copy.deepcopy(pupil)
    taken_over(teacher, pupil)
    same = {n: torch.equal(v, dict(fresh.state_dict())[n]) for n, v in pupil.state_dict().items()}
    for part, channels in (("FB", arch["c"]), ("FT", arch["c"]), ("FD", arch["C"])):
        assert same[f"stages.0.{part}.features.0.weight"] == (channels != 8)


def test_who_cannot_be_teacher_and_pupil(random_network):
    with pytest.raises(ValueError, match="it has 2 stages, and the teacher 3"):
        taken_over(random_network("l-rpcanet", K=3), random_network("rpcanet"))
    with pytest.raises(ValueError, match="only networks for infrared targets"):
        taken_over(random_network("l-rpcanet"), nn.Linear(1, 1))
