"""DRPCA-Net: robust PCA whose step sizes and reconstruction depend on the image, unrolled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.operators import MapOperator, Place, conv, exact, image_mean, plain
from rsunfold.unfold.precision import at_least_single
from rsunfold.unfold.published import rename_stages, stages_of
from rsunfold.unfold.unrolled import Keep, TargetNetwork, macs_per_pixel


class StepSize(nn.Module):
    """A step size in (0, 1) of an image: sigmoid(a . relu(b m + c) + d), m its mean and b, c of 3 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.se = nn.Sequential(*conv(1, 3, 1), *conv(3, 1, 1, act=False), nn.Sigmoid())

    def forward(self, image: Any) -> Tensor:
        """(B, 1, 1, 1) of an image (B, 1, H, W), a tensor or kept elsewhere."""
        size: Tensor = self.se(image_mean(image)[:, :, None, None])
        return size


class Constant(nn.Module):
    """A learned step size in (0, 1), sigmoid(d): what :class:`StepSize` comes to for images whose mean is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.d = nn.Parameter(torch.zeros(1))

    def forward(self, image: Any) -> Tensor:
        """(1, 1, 1, 1) of any image."""
        return self.d.sigmoid().reshape(1, 1, 1, 1)


class Block(nn.Module):
    """A residual block x + y * A, y = f * s, whose channels s and places A are weighted by what the image holds.

    f : 3x3 C->C, BN, LeakyReLU, 3x3 C->C, BN of x, pooled to the image's mean m and maximum M of each channel.
    s = sigmoid(V(m) + V(M)) weighs channels, V : 1x1 C->C/16 (2 at least), ReLU, 1x1.
    A = sigmoid(G * mean of y over channels) weighs places; the 3x3 kernel G is 1x1 C->C, ReLU, 1x1 C->9 of the mean of
    y, which is s m.
    """

    radius = 3

    def __init__(self, C: int) -> None:
        super().__init__()
        self.f = nn.Sequential(*_norm(conv(C, C, 3, norm=True, act=False)), *conv(C, C, 3, norm=True, act=False))
        hidden = max(2, C // 16)
        self.se = nn.ModuleDict(
            {
                "channels": nn.Sequential(*conv(C, hidden, 1), *conv(hidden, C, 1, act=False)),
                "kernel": nn.Sequential(*conv(C, C, 1), *conv(C, 9, 1, act=False)),
            }
        )

    def forward(self, x: Tensor, f: Tensor, mean: Tensor, highest: Tensor) -> Tensor:
        """The output of x (B, C, H, W) and its f, given what f is pooled to over the image, (B, C) each."""
        m, M = mean[:, :, None, None], highest[:, :, None, None]
        s = torch.sigmoid(self.se["channels"](m) + self.se["channels"](M))
        G = self.se["kernel"](s * m).reshape(-1, 1, 3, 3)
        y = f * s
        average = y.mean(1, keepdim=True).transpose(0, 1)  # the batch as channels, so that each has its own kernel
        A = F.conv2d(average, G, padding=1, groups=len(G)).transpose(0, 1).sigmoid()
        return x + y * A


def _norm(layers: list[nn.Module]) -> list[nn.Module]:
    """The layers and LeakyReLU of slope 0.2."""
    return [*layers, nn.LeakyReLU(0.2, inplace=True)]


class Reconstruction(MapOperator):
    """F_D: 1x1 1->C with BN and LeakyReLU; that plus 3x3 C->C of five :class:`Block` of it; 1x1 C->1.

    Each block pools the image. Window by window this means to go over the image once for each of them, up to that
    block, and once more for the output; what is in memory as a whole is computed once.
    """

    radius, width = 0, 0

    def __init__(self, C: int, blocks: int = 5) -> None:
        super().__init__()
        self.lift = nn.Sequential(*_norm(conv(1, C, 1, norm=True, act=False)))
        self.blocks: Any = nn.ModuleList(Block(C) for _ in range(blocks))
        self.last = conv(C, C, 3, act=False)[0]
        self.head = conv(C, 1, 1, act=False)[0]
        self.pools, self.radius, self.width = blocks, 3 * blocks + 1, 5 * C

    def forward(self, x: Any) -> Any:
        """F_D(x); see :meth:`MapOperator.forward`."""
        if not isinstance(x, Tensor):
            return x.through(self)
        z = first = self.lift(x)
        for block in self.blocks:
            f = block.f(z)
            (wide,) = at_least_single(f)
            z = block(z, f, wide.mean((2, 3)).to(self.kind), wide.amax((2, 3)).to(self.kind))
        return self.head(first + self.last(z))

    def _after(self, z: Tensor, found: Sequence[Any]) -> Tensor:
        """What as many blocks as there are things ``found`` make of z."""
        for block, pooled in zip(self.blocks, found, strict=False):
            z = block(z, block.f(z), *pooled)
        return z

    def gather(self, x: Tensor, place: Place, found: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Sums and maxima over the inner part of the f of the block after those whose pooled things are known."""
        f: Tensor = self.blocks[len(found)].f(self._after(self.lift(x), found))[:, :, *place.inner]
        (wide,) = at_least_single(f)
        return exact(wide.sum((2, 3))), wide.amax((2, 3))

    def merge(self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of the sums and the greater of the maxima."""
        return a[0] + b[0], torch.maximum(a[1], b[1])

    def finish(self, total: tuple[Tensor, Tensor], rows: int, cols: int) -> tuple[Tensor, Tensor]:
        """Means and maxima (B, C)."""
        return (total[0] / (rows * cols)).to(self.kind), total[1].to(self.kind)

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """F_D of a piece."""
        first = self.lift(x)
        y: Tensor = self.head(first + self.last(self._after(first, found)))
        return y


class Stage(nn.Module):
    """One iteration on D = B + T, in the order B, T, D::

        B^k = x + F_B(x)              x = D^{k-1} - T^{k-1}
        T^k = x - eps^k F_T(x)        x = gamma^k T^{k-1} + (1 - gamma^k) (D^{k-1} - B^k)
        D^k = F_D(B^k + T^k)

    gamma^k depends on T^{k-1} and eps^k on x, see :class:`StepSize`.
    """

    def __init__(self, C: int, first: bool) -> None:
        super().__init__()
        self.FB = plain(3, C, norm=True)
        self.FT = plain(6, C, norm=False)
        self.FD = Reconstruction(C)
        self.gamma = Constant() if first else StepSize()
        self.eps = StepSize()

    def forward(self, D: Any, T: Any, k: int, keep: Keep, dead: bool) -> tuple[Any, Any]:
        """(D^k, T^k); with ``dead`` the branch D is not computed and comes back as None."""
        x = D - T
        B = keep(k, "B", x + self.FB(x))
        x = self.mix(D, T, B)
        T = keep(k, "T", x - self.eps(x) * self.FT(x))
        D = None if dead else keep(k, "D", self.FD(B + T))
        return D, T

    def mix(self, D: Any, T: Any, B: Any) -> Any:
        """The x of T^k."""
        gamma = self.gamma(T)
        return gamma * T + (1 - gamma) * (D - B)


@register(
    "drpca-net",
    task="detect-ir",
    kind="network",
    paper="Xiong, Zhou, Wu, Yuan, Fu, Peng, Yang and Dai, DRPCA-Net: Make Robust PCA Great Again for Infrared Small "
    "Target Detection, TGRS 2025",
    url="https://arxiv.org/abs/2507.09541",
    needs="one gray band in [0, 1]",
    sizes={"paper": {"K": 6, "C": 32}, "tiny": {"K": 2, "C": 8}},
)
class DRPCANet(TargetNetwork):
    """DRPCA-Net (Xiong et al., TGRS 2025): K unrolled iterations (:class:`Stage`) from T^0 = 0, C channels.

    min R(B) + lambda S(T) + mu/2 ||D - B - T||_F^2. T^K is the logit of a target, D^K serves the fidelity loss.

    1,168,971 parameters, published 1.169 M. The published files hold 9 more: gamma^1 depends on T^0 = 0 alone, and is
    a number here.
    """

    letters: ClassVar[tuple[str, ...]] = ("B", "T", "D")

    def __init__(self, K: int = 6, C: int = 32) -> None:
        super().__init__()
        self.arch = {"K": K, "C": C}
        self.stages = nn.ModuleList(Stage(C, first=k == 0) for k in range(K))

    def step_sizes(self) -> list[nn.Parameter]:
        """The parameters that gamma and eps are computed with."""
        return [p for m in self.modules() if isinstance(m, (StepSize, Constant)) for p in m.parameters()]

    def macs(self, rows: int, cols: int) -> int:
        """Multiply-accumulates for an image: those of the convolutions, the kernels G among them."""
        kernels = 9 * sum(isinstance(m, Block) for m in self.modules())
        return rows * cols * (macs_per_pixel(self) + kernels)

    @classmethod
    def _of_published(cls, state: Mapping[str, Tensor]) -> Self:
        """The network of a published checkpoint (tensors ``decos.K.{lowrank,sparse,merge}...``).

        The names are those that the published code gives its modules, the arithmetic is tested against the equations
        under these names; no published file has been at hand, so that reading one is untested.
        """
        if "decos.0.sparse.gamma_generator.generator.1.weight" not in state:
            raise ValueError("the tensors are not those of a DRPCA-Net checkpoint")
        tensors = rename_stages(state, _PUBLISHED)
        net = cls(K=stages_of(tensors), C=tensors["stages.0.FD.lift.0.weight"].shape[0])
        a, c, d = (tensors.pop(f"stages.0.gamma.se.{name}") for name in ("2.weight", "0.bias", "2.bias"))
        del tensors["stages.0.gamma.se.0.weight"]
        tensors["stages.0.gamma.d"] = a.flatten() @ c.relu() + d
        net.load_state_dict(tensors)
        return net


_PUBLISHED = (
    (r"lowrank\.convs\.12\.", "FB.head."),
    (r"lowrank\.convs\.", "FB.features."),
    (r"sparse\.convs\.14\.", "FT.head."),
    (r"sparse\.convs\.", "FT.features."),
    (r"sparse\.gamma_generator\.generator\.1\.", "gamma.se.0."),
    (r"sparse\.gamma_generator\.generator\.3\.", "gamma.se.2."),
    (r"sparse\.epsilon_generator\.generator\.1\.", "eps.se.0."),
    (r"sparse\.epsilon_generator\.generator\.3\.", "eps.se.2."),
    (r"merge\.mapping\.([01])\.", r"FD.lift.\1."),
    (r"merge\.mapping\.3\.body\.5\.", "FD.last."),
    (r"merge\.mapping\.3\.body\.(\d)\.body\.5\.fc\.", r"FD.blocks.\1.se.channels."),
    (r"merge\.mapping\.3\.body\.(\d)\.body\.6\.kernel_generator\.1\.", r"FD.blocks.\1.se.kernel.0."),
    (r"merge\.mapping\.3\.body\.(\d)\.body\.6\.kernel_generator\.3\.", r"FD.blocks.\1.se.kernel.2."),
    (r"merge\.mapping\.3\.body\.(\d)\.body\.", r"FD.blocks.\1.f."),
    (r"merge\.mapping\.4\.", "FD.head."),
)
"""The published names within a stage, as patterns of their beginnings, and ours."""
