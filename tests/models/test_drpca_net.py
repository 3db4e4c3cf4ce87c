"""DRPCA-Net against its equations, written down once more under the names of the published tensors."""

import pytest
import torch
import torch.nn.functional as F

from rsunfold.models.drpca_net import DRPCANet, Reconstruction
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.operators import Place
from rsunfold.unfold.unrolled import Record

State = dict[str, torch.Tensor]


def published(K: int, C: int, seed: int = 0) -> State:
    """A random checkpoint: the tensors that the published code saves."""
    draw = torch.Generator().manual_seed(seed)
    state: State = {}

    def conv(name: str, c_in: int, c_out: int, k: int) -> None:
        state[f"{name}.weight"] = torch.randn(c_out, c_in, k, k, generator=draw) / (k * c_in**0.5)
        state[f"{name}.bias"] = 0.1 * torch.randn(c_out, generator=draw)

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=draw)
        state[f"{name}.bias"] = 0.3 * torch.randn(channels, generator=draw)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=draw)
        state[f"{name}.running_var"] = 0.1 + torch.rand(channels, generator=draw)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    for k in range(K):
        at = f"decos.{k}."
        for n in range(5):
            conv(at + f"lowrank.convs.{3 * n}", C if n else 1, C if n < 4 else 1, 3)
            if n < 4:
                norm(at + f"lowrank.convs.{3 * n + 1}", C)
        for n in range(8):
            conv(at + f"sparse.convs.{2 * n}", C if n else 1, C if n < 7 else 1, 3)
        for name in ("gamma", "epsilon"):
            conv(at + f"sparse.{name}_generator.generator.1", 1, 3, 1)
            conv(at + f"sparse.{name}_generator.generator.3", 3, 1, 1)
        conv(at + "merge.mapping.0", 1, C, 1)
        norm(at + "merge.mapping.1", C)
        for n in range(5):
            block = at + f"merge.mapping.3.body.{n}.body."
            conv(block + "0", C, C, 3)
            norm(block + "1", C)
            conv(block + "3", C, C, 3)
            norm(block + "4", C)
            conv(block + "5.fc.0", C, max(2, C // 16), 1)
            conv(block + "5.fc.2", max(2, C // 16), C, 1)
            conv(block + "6.kernel_generator.1", C, C, 1)
            conv(block + "6.kernel_generator.3", C, 9, 1)
        conv(at + "merge.mapping.3.body.5", C, C, 3)
        conv(at + "merge.mapping.4", C, 1, 1)
    return state


class Naive:
    """The network as its equations say, without any module, one image at a time."""

    def __init__(self, state: State, K: int) -> None:
        self.s, self.K = state, K

    def conv(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.s[f"{name}.weight"]
        return F.conv2d(x, weight, self.s[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, a, b = (self.s[f"{name}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        shape = (1, -1, 1, 1)
        scale = a / (var + 1e-5).sqrt()
        return (x - mean.reshape(shape)) * scale.reshape(shape) + b.reshape(shape)

    def chain(self, name: str, x: torch.Tensor, convs: int, normed: bool) -> torch.Tensor:
        step = 3 if normed else 2
        for n in range(convs - 1):
            x = self.conv(f"{name}.{step * n}", x)
            x = F.relu(self.norm(f"{name}.{step * n + 1}", x) if normed else x)
        return self.conv(f"{name}.{step * (convs - 1)}", x)

    def generated(self, name: str, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.conv(f"{name}.1", x.mean().reshape(1, 1, 1, 1)))
        return torch.sigmoid(self.conv(f"{name}.3", hidden))

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(self.norm(f"{name}.1", self.conv(f"{name}.0", x)), 0.2)
        y = self.norm(f"{name}.4", self.conv(f"{name}.3", y))
        pooled = [y.mean((2, 3), keepdim=True), y.flatten(2).max(2).values[..., None, None]]
        weights = sum(self.conv(f"{name}.5.fc.2", F.relu(self.conv(f"{name}.5.fc.0", p))) for p in pooled)
        y = y * torch.sigmoid(weights)
        m = y.mean((2, 3), keepdim=True)
        kernel = self.conv(f"{name}.6.kernel_generator.3", F.relu(self.conv(f"{name}.6.kernel_generator.1", m)))
        place = F.conv2d(y.mean(1, keepdim=True), kernel.reshape(1, 1, 3, 3), padding=1)
        return x + y * torch.sigmoid(place)

    def merge(self, name: str, x: torch.Tensor) -> torch.Tensor:
        first = y = F.leaky_relu(self.norm(f"{name}.1", self.conv(f"{name}.0", x)), 0.2)
        for n in range(5):
            y = self.block(f"{name}.3.body.{n}.body", y)
        return self.conv(f"{name}.4", first + self.conv(f"{name}.3.body.5", y))

    def __call__(self, D: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        T, kept = torch.zeros_like(D), []
        for k in range(self.K):
            at = f"decos.{k}."
            x = D - T
            B = x + self.chain(at + "lowrank.convs", x, 5, True)
            gamma = self.generated(at + "sparse.gamma_generator.generator", T)
            x = gamma * T + (1 - gamma) * (D - B)
            eps = self.generated(at + "sparse.epsilon_generator.generator", x)
            T = x - eps * self.chain(at + "sparse.convs", x, 8, False)
            D = self.merge(at + "merge.mapping", B + T)
            kept.append({"B": B, "T": T, "D": D})
        return kept


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("fast", [False, True], ids=["trained", "fast"])
def test_the_network_of_a_published_checkpoint_follows_the_equations(K, fast):
    state = published(K, 8)
    net = DRPCANet.from_published(state).eval()
    assert net.arch == {"K": K, "C": 8}
    record, D = Record(), image(2, 1, 19, 22)
    with torch.no_grad():
        alone = [Naive(state, K)(one[None]) for one in D]
        (for_inference(net) if fast else net)(D, keep=record, reconstruct=True)
    for found, *true in zip(record.stages, *alone, strict=True):
        assert list(found) == list(true[0])
        for letter, value in found.items():
            expected = torch.cat([t[letter] for t in true])
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_parameters_of_the_published_size():
    """The paper's 1.169 million; the files hold nine numbers more, since gamma of the first stage is one here."""
    files = sum(t.numel() for n, t in published(6, 32).items() if "running" not in n and "tracked" not in n)
    assert files == 1_168_980 and DRPCANet().parameters_count == files - 9


def test_multiply_accumulates():
    C = 32
    stage = 9 * C * C * (3 + 6 + 11) + 9 * C * 4 + 2 * C + 5 * 9
    assert DRPCANet().macs(10, 20) == 200 * 6 * stage


def test_what_is_no_checkpoint_of_it_is_refused():
    state = published(2, 8)
    with pytest.raises(ValueError, match="not those of a DRPCA-Net"):
        DRPCANet.from_published({n: t for n, t in state.items() if "gamma" not in n})
    with pytest.raises(ValueError, match="do not fit"):
        DRPCANet.from_published({n: t for n, t in state.items() if "epsilon" not in n})
    with pytest.raises(ValueError, match="do not fit"):
        DRPCANet.from_published(state | {"decos.1.merge.mapping.4.weight": torch.zeros(1, 8, 3, 3)})
    with pytest.raises(ValueError, match="banana"):
        DRPCANet.from_published(state | {"decos.1.banana": torch.zeros(1)})


def test_step_sizes_are_those_that_a_stage_takes_and_differ_from_image_to_image(random_network):
    net = random_network("drpca-net", K=3)
    D, record = torch.cat([image(1, 1, 20, 21), 0.2 * image(1, 1, 20, 21)]), Record()
    net(D, keep=record, reconstruct=True)
    T = torch.zeros_like(D)
    for k, (stage, kept) in enumerate(zip(net.stages, record.stages, strict=True)):
        x = stage.mix(D, T, kept["B"])
        step = {"gamma": stage.gamma(T), "eps": stage.eps(x)}
        assert all(((s > 0) & (s < 1)).all() for s in step.values())
        torch.testing.assert_close(x, step["gamma"] * T + (1 - step["gamma"]) * (D - kept["B"]))
        torch.testing.assert_close(kept["T"], x - step["eps"] * stage.FT(x))
        assert step["eps"].shape == (2, 1, 1, 1) and float((step["eps"][0] - step["eps"][1]).abs()) > 1e-4
        assert len(step["gamma"]) == (2 if k else 1)
        D, T = kept["D"], kept["T"]
    assert {id(p) for p in net.step_sizes()} == {
        id(p) for n, p in net.named_parameters() if ".gamma." in n or ".eps." in n
    }


def test_each_pooled_thing_is_that_of_the_pieces_and_follows_from_those_before(random_network):
    FD: Reconstruction = random_network("drpca-net").stages[0].FD
    x, found = image(1, 1, 24, 61), []
    for n in range(FD.pools):
        whole = FD.gather(x, Place.whole(x), found)
        assert len(found) == n
        halves = []
        for start, stop in ((0, 30), (30, 61)):
            left, right = max(0, start - FD.radius), min(61, stop + FD.radius)
            inner = (slice(0, 24), slice(start - left, stop - left))
            halves.append(FD.gather(x[..., left:right], Place(None, inner, 24, 61), found))
        for part, total in zip(FD.merge(*halves), whole, strict=True):
            torch.testing.assert_close(part, total, rtol=1e-4, atol=1e-4)
        found.append(FD.finish(whole, 24, 61))
    torch.testing.assert_close(FD.local(x, Place.whole(x), found), FD(x), rtol=1e-4, atol=1e-5)


def test_half_precision_changes_little(random_network):
    net = random_network("drpca-net")
    with torch.inference_mode():
        exact = net(image(1, 1, 30, 33))[0]
        with torch.autocast("cpu", torch.bfloat16):
            T = net(image(1, 1, 30, 33))[0]
    assert float((T - exact).abs().max()) < 0.05 * float(exact.abs().max())
