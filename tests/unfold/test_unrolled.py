"""The base of unrolled networks: what is recorded, and what a pixel costs."""

import pytest
import torch
from torch import nn

from rsunfold.models.l_rpcanet import LRPCANet
from rsunfold.models.rpcanet import RPCANet
from rsunfold.unfold.unrolled import Record, Unrolled, macs_per_pixel


@pytest.mark.parametrize(
    ("net", "parameters", "macs"),
    [
        (LRPCANet(K=6, c=16, C=32, R=6), 475_188, 465_888),
        (LRPCANet(K=6, c=16, C=32, R=3), 433_428, 424_416),
        (LRPCANet(K=6, c=4, C=32, R=6), 215_916, 208_488),
        (RPCANet(K=6, C=32), 679_896, 6 * (288 * 6 + 12 * 9216)),
    ],
    ids=["c16-R6", "c16-R3", "c4-R6", "rpcanet"],
)
def test_published_sizes(net, parameters, macs):
    assert net.parameters_count == parameters
    assert macs_per_pixel(net) == macs and net.macs(3, 5) == 15 * macs


def test_the_arithmetic_of_a_branch():
    last = LRPCANet(K=2, c=4, C=8, R=1).stages[-1]
    assert macs_per_pixel(last.FN) == 9 * 4 + 9 * 16 + 9 * 32 + 9 * 8
    assert macs_per_pixel(last.FD) == 9 * 8 + 3 * 9 * 64 + 9 * 8


@pytest.mark.parametrize("net", [LRPCANet(K=3, c=4, C=8, R=1), RPCANet(K=3, C=4)], ids=lambda n: type(n).__name__)
def test_record_keeps_every_letter_in_order(net):
    net.eval()
    x = torch.rand(1, 1, 8, 9)
    full, bare = Record(), Record()
    with torch.no_grad():
        T, D = net(x, keep=full, reconstruct=True)
        net(x, keep=bare)
    assert [tuple(s) for s in full.stages] == [net.letters] * 3
    assert [tuple(s) for s in bare.stages] == [net.letters] * 2 + [("B", "T")]
    assert full.stages[-1]["T"] is T and full.stages[-1]["D"] is D
    assert all(v.shape == x.shape for s in full.stages for v in s.values())


def test_a_stage_goes_on_with_what_keep_gives_back():
    net = RPCANet(K=1, C=4).eval()
    x = torch.rand(1, 1, 6, 6)
    seen = Record()

    def no_background(stage, letter, value):
        return seen(stage, letter, torch.zeros_like(value) if letter == "B" else value)

    with torch.no_grad():
        T = net(x, keep=no_background)[0]
        stage = net.stages[0]
        torch.testing.assert_close(T, x - stage.eps * stage.FT(x))


def test_stage_equations_of_l_rpcanet():
    for carry in (True, False):
        net = LRPCANet(K=2, c=4, C=8, R=1, carry_noise=carry).eval()
        D = torch.rand(1, 1, 7, 7)
        record = Record()
        with torch.no_grad():
            net(D, keep=record, reconstruct=True)
            T = N = torch.zeros_like(D)
            for stage, kept in zip(net.stages, record.stages, strict=True):
                x = D - T - N
                B = x + stage.FB(x)
                x = T + D - B - N
                T_next = x - stage.eps * stage.FT(x)
                x = N + D - B - T_next
                N_next = x - stage.sig * stage.FN(x)
                D = stage.FD(B + T_next + N_next)
                T, N = T_next, N_next
                for letter, value in zip("BTND", (B, T, N, D), strict=True):
                    torch.testing.assert_close(kept[letter], value)
                if not carry:
                    N = torch.zeros_like(D)


def test_defaults_of_the_base():
    with pytest.raises(ValueError, match="no published checkpoint of Unrolled"):
        Unrolled.from_published({})
    with pytest.raises(NotImplementedError):
        nn.Module.__call__(Unrolled(), torch.zeros(1, 1, 2, 2))
