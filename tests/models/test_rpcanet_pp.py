"""RPCANet++ against its equations, written down once more under the names of the published tensors."""

import pytest
import torch
import torch.nn.functional as F

from rsunfold.models.rpcanet_pp import Contrast, ConvLSTM, PooledNorm, RPCANetPP
from rsunfold.registry import get_model
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.unrolled import Record

State = dict[str, torch.Tensor]


def published(K: int, C: int, seed: int = 0) -> State:
    """A random checkpoint: the tensors that the published code saves."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {}

    def conv(name: str, c_in: int, c_out: int, k: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(c_out, c_in, k, k, generator=draw) / (k * c_in**0.5)
        if bias:
            state[f"{name}.bias"] = 0.1 * torch.randn(c_out, generator=draw)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=draw)
        state[f"{name}.bias"] = 0.3 * torch.randn(channels, generator=draw)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=draw)
        state[f"{name}.running_var"] = 0.1 + torch.rand(channels, generator=draw)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    for k in range(K):
        at = f"decos.{k}."
        conv(at + "lowrank.conv1_C.0", 1, C, 3)
        norm(at + "lowrank.conv1_C.1", C)
        for block in ("RB_1", "RB_2"):
            conv(at + f"lowrank.{block}.conv1", C, C, 3)
            conv(at + f"lowrank.{block}.conv2", C, C, 3)
        conv(at + "lowrank.convC_1", C, 1, 3)
        for source in "xh":
            for gate in "fioj":
                conv(at + f"lowrank.ConvLSTM.conv_{source}{gate}", C, C, 3)
        for n in range(8):
            conv(at + f"sparse.convs.{2 * n}", C if n else 1, C if n < 7 else 1, 3)
        state[at + "sparse.epsilon"] = torch.tensor([0.3 + 0.1 * k])
        conv(at + "sparse.contrast.0", 1, C, 3)
        conv(at + "sparse.contrast.2.conv", C, C, 17, bias=False)
        conv(at + "sparse.contrast.2.attn.avg_channel.1", C, C // 4, 1)
        norm(at + "sparse.contrast.2.attn.avg_channel.2", C // 4)
        conv(at + "sparse.contrast.2.attn.avg_channel.4", C // 4, C, 1)
        norm(at + "sparse.contrast.2.attn.avg_channel.5", C)
        norm(at + "sparse.contrast.3", C)
        conv(at + "sparse.contrast.5", C, 1, 3)
        for n in range(5):
            conv(at + f"merge.mapping.{3 * n}", C if n else 1, C if n < 4 else 1, 3)
            if n < 4:
                norm(at + f"merge.mapping.{3 * n + 1}", C)
    return state


class Naive:
    """The network as its equations say, without any module."""

    def __init__(self, state: State, K: int) -> None:
        self.s, self.K = state, K

    def conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.s[f"{name}.weight"]
        return F.conv2d(x, weight, self.s.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, a, b = (self.s[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        shape = (1, -1, 1, 1)
        scale = a / (var + 1e-5).sqrt()
        return (x - mean.reshape(shape)) * scale.reshape(shape) + b.reshape(shape)

    def residual(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(f"{name}.conv2", F.relu(self.conv(f"{name}.conv1", x)))

    def cell(self, name: str, x, h, c):
        if h is None:
            i, o, j = (self.conv(f"{name}.conv_x{g}", x) for g in "ioj")
            c = torch.sigmoid(i) * torch.tanh(j)
            return torch.sigmoid(o) * c, c
        f, i, o, j = (self.conv(f"{name}.conv_x{g}", x) + self.conv(f"{name}.conv_h{g}", h) for g in "fioj")
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(j)
        return torch.sigmoid(o) * torch.tanh(c), c

    def theta(self, name: str, f: torch.Tensor) -> torch.Tensor:
        m = f.mean((2, 3), keepdim=True)
        m = F.relu(self.norm(f"{name}.2", self.conv(f"{name}.1", m)))
        return torch.sigmoid(self.norm(f"{name}.5", self.conv(f"{name}.4", m)))

    def contrast(self, name: str, x: torch.Tensor) -> torch.Tensor:
        f = F.relu(self.conv(f"{name}.0", x))
        y = differences(f, self.s[f"{name}.2.conv.weight"], self.theta(f"{name}.2.attn.avg_channel", f))
        return self.conv(f"{name}.5", F.leaky_relu(self.norm(f"{name}.3", y), 0.1))

    def chain(self, name: str, x: torch.Tensor, convs: int, normed: bool) -> torch.Tensor:
        step = 3 if normed else 2
        for n in range(convs - 1):
            x = self.conv(f"{name}.{step * n}", x)
            x = F.relu(self.norm(f"{name}.{step * n + 1}", x) if normed else x)
        return self.conv(f"{name}.{step * (convs - 1)}", x)

    def __call__(self, D: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        T, h, c, kept = torch.zeros_like(D), None, None, []
        for k in range(self.K):
            at = f"decos.{k}."
            x = D - T
            f = F.relu(self.norm(at + "lowrank.conv1_C.1", self.conv(at + "lowrank.conv1_C.0", x)))
            h, c = self.cell(at + "lowrank.ConvLSTM", self.residual(at + "lowrank.RB_1", f), h, c)
            B = x + self.conv(at + "lowrank.convC_1", self.residual(at + "lowrank.RB_2", h))
            x = T + D - B
            w = self.contrast(at + "sparse.contrast", x)
            T = x - self.s[at + "sparse.epsilon"] * self.chain(at + "sparse.convs", x + w, 8, False)
            D = self.chain(at + "merge.mapping", B + T, 5, True)
            kept.append({"B": B, "T": T, "D": D})
        return kept


def differences(f: torch.Tensor, W: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """sum over channels i and offsets q of W_oi(q) (theta_o f_i(p) - f_i(p + q)), f 0 beyond the image."""
    batch, C, rows, cols = f.shape
    around = F.unfold(f, 17, padding=8).reshape(batch, 1, C, 289, rows * cols)
    here = f.reshape(batch, 1, C, 1, rows * cols) * theta.reshape(batch, -1, 1, 1, 1)
    return (W.reshape(1, -1, C, 289, 1) * (here - around)).sum((2, 3)).reshape(batch, -1, rows, cols)


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("fast", [False, True], ids=["trained", "fast"])
def test_the_network_of_a_published_checkpoint_follows_the_equations(K, fast):
    state = published(K, 8)
    net = RPCANetPP.from_published(state).eval()
    assert net.arch == {"K": K, "C": 8}
    record, D = Record(), image(2, 1, 19, 22)
    with torch.no_grad():
        expected = Naive(state, K)(D)
        (for_inference(net) if fast else net)(D, keep=record, reconstruct=True)
    for found, true in zip(record.stages, expected, strict=True):
        assert list(found) == list(true)
        for letter, value in true.items():
            torch.testing.assert_close(found[letter], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))


@pytest.mark.parametrize(("K", "count"), [(3, 1_434_551), (6, 2_915_342), (9, 4_396_133)])
def test_parameters_of_the_published_sizes(K, count):
    """The paper's 1.435, 2.915 and 4.396 million; five convolutions of the first stage more in the files."""
    name = {3: "paper", 6: "s6", 9: "s9"}[K]
    net = get_model("rpcanet-pp").build(**get_model("rpcanet-pp").sizes[name])
    assert net.arch["K"] == K and net.parameters_count == count
    per_stage = sum(t.numel() for n, t in published(1, 32).items() if "running" not in n and "tracked" not in n)
    assert K * per_stage - count == 5 * (9 * 32 * 32 + 32) == 46_240


def test_multiply_accumulates():
    C, px = 32, 10 * 20
    stage = 9 * C * C * (2 + 2 + 8 + 6 + 3) + 9 * C * (1 + 1 + 2 + 2 + 2) + 289 * C * C + C * C
    assert RPCANetPP(K=3, C=C).macs(10, 20) == px * (3 * stage - 5 * 9 * C * C)


def test_what_is_no_checkpoint_of_it_is_refused():
    state = published(2, 8)
    with pytest.raises(ValueError, match=r"not those of an RPCANet\+\+"):
        RPCANetPP.from_published({n: t for n, t in state.items() if "ConvLSTM" not in n})
    with pytest.raises(ValueError, match="do not fit"):
        RPCANetPP.from_published({n: t for n, t in state.items() if "contrast.3" not in n})
    with pytest.raises(ValueError, match="do not fit"):
        RPCANetPP.from_published(state | {"decos.1.sparse.convs.4.weight": torch.zeros(8, 8, 5, 5)})
    with pytest.raises(ValueError, match="banana"):
        RPCANetPP.from_published(state | {"decos.1.banana": torch.zeros(1)})
    with pytest.raises(ValueError, match="too few"):
        RPCANetPP(K=2, C=3)


def test_the_first_cell_has_no_forget_gate_and_the_others_forget():
    torch.manual_seed(0)
    x, h, c = torch.randn(3, 1, 4, 6, 7).unbind()
    first, later = ConvLSTM(4, first=True), ConvLSTM(4, first=False)
    assert {n.split(".")[1] for n, _ in first.named_parameters()} == set("ioj")
    with torch.no_grad():
        later.x["f"].bias.fill_(-100)
        later.x["i"].bias.fill_(-100)
        assert float(later(x, h, c)[1].abs().max()) < 1e-6
        later.x["f"].bias.fill_(100)
        torch.testing.assert_close(later(x, h, c)[1], c)


def test_contrast_compares_with_the_window_around():
    """On a constant image, away from its edges, nothing but theta is left to see."""
    torch.manual_seed(0)
    w = Contrast(8).eval()
    seen = []
    w.norm.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    with torch.no_grad():
        w(torch.full((1, 1, 40, 40), 0.7))
        f = w.lift(torch.full((1, 1, 40, 40), 0.7))
        theta = w.se(f.mean((2, 3), keepdim=True))
        expected = (theta - 1)[0, :, 0, 0] * (w.wide.weight.sum((2, 3)) @ f[0, :, 20, 20])
    torch.testing.assert_close(seen[0][0, :, 20, 20], expected, rtol=1e-3, atol=1e-5)


def test_a_batch_of_one_trains():
    torch.manual_seed(0)
    net = RPCANetPP(K=2, C=8).train()
    before = [(m, m.running_mean.clone()) for m in net.modules() if isinstance(m, PooledNorm)]
    assert len(before) == 4
    net(image(1, 1, 24, 24))[0].square().mean().backward()
    assert all(torch.equal(m.running_mean, mean) for m, mean in before)
    assert float(net.stages[0].w.wide.weight.grad.abs().max()) > 0
    assert float(net.stages[0].w.se[4].weight.grad.abs().max()) > 0
    net(image(2, 1, 24, 24))
    assert not any(torch.equal(m.running_mean, mean) for m, mean in before)


def test_half_precision_changes_little(random_network):
    net = random_network("rpcanet-pp")
    with torch.inference_mode():
        exact = net(image(1, 1, 30, 33))[0]
        with torch.autocast("cpu", torch.bfloat16):
            T = net(image(1, 1, 30, 33))[0]
    assert float((T - exact).abs().max()) < 0.05 * float(exact.abs().max())
