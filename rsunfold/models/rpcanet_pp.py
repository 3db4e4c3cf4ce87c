"""RPCANet++: robust PCA with a memory of the background and a contrast prior of the target, unrolled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.fourier import wide_conv
from rsunfold.unfold.operators import MapOperator, Place, conv, exact, join, plain
from rsunfold.unfold.precision import at_least_single
from rsunfold.unfold.published import rename_stages, stages_of
from rsunfold.unfold.unrolled import Keep, TargetNetwork, as_is, macs_per_pixel

WINDOW = 17
"""Pixels a side of the window that a pixel is compared with."""


class Residual(nn.Module):
    """x + conv(relu(conv(x))), 3x3 C->C."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(C, C, 3), *conv(C, C, 3, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        y: Tensor = x + self.body(x)
        return y


class ConvLSTM(nn.Module):
    """The memory cell with 3x3 convolutions C->C in place of matrices (Shi et al., NeurIPS 2015), no peepholes::

        i = sigmoid(W_xi x + W_hi h)   f, o likewise   j = tanh(W_xj x + W_hj h)
        c' = f c + i j                 h' = o tanh(c')

    The ``first`` cell has no memory yet, hence neither f nor W_h, and by the published code no tanh either::

        c' = i j                       h' = o c'
    """

    def __init__(self, C: int, first: bool) -> None:
        super().__init__()
        self.x = nn.ModuleDict({gate: _conv3(C, C) for gate in ("ioj" if first else "fioj")})
        self.h = nn.ModuleDict({} if first else {gate: _conv3(C, C) for gate in "fioj"})

    def forward(self, x: Tensor, h: Tensor | None = None, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(h', c') of x (B, C, H, W) and, but for the first cell, of the h and c before."""

        def gate(name: str) -> Tensor:
            y: Tensor = self.x[name](x)
            return y if h is None else y + self.h[name](h)

        new = gate("i").sigmoid() * gate("j").tanh()
        if c is None:
            return gate("o").sigmoid() * new, new
        c = gate("f").sigmoid() * c + new
        return gate("o").sigmoid() * c.tanh(), c


class Memory(MapOperator):
    """M, what the background is read from: S = (h, c), an image of 2 C channels.

    Of x alone in the first stage, else of x and the S before it: 3x3 1->C with BN and ReLU, :class:`Residual`,
    :class:`ConvLSTM`.
    """

    radius, width = 4, 0

    def __init__(self, C: int, first: bool) -> None:
        super().__init__()
        self.lift = nn.Sequential(*conv(1, C, 3, norm=True))
        self.residual = Residual(C)
        self.cell = ConvLSTM(C, first)
        self.width = 5 * C if first else 8 * C

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """S of a piece."""
        h, c = x[:, 1:].chunk(2, 1) if x.shape[1] > 1 else (None, None)
        return torch.cat(self.cell(self.residual(self.lift(x[:, :1])), h, c), 1)


class Background(MapOperator):
    """F_B of S = (h, c): 3x3 C->1 of :class:`Residual` of h."""

    radius, width = 3, 0

    def __init__(self, C: int) -> None:
        super().__init__()
        self.residual = Residual(C)
        self.head = _conv3(C, 1)
        self.width = 5 * C

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """F_B of a piece."""
        y: Tensor = self.head(self.residual(x[:, : x.shape[1] // 2]))
        return y


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation of image-wide means (B, C, 1, 1).

    In training a batch of one has no spread to divide by: it is normalised as in evaluation, by the running mean and
    variance, which stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x normalised."""
        if self.training and len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Contrast(MapOperator):
    """The contrast prior w of an image x, 3x3 C->1 of LeakyReLU(BN(CD(f))), f = relu(3x3 1->C of x).

    CD compares a pixel with the window around it, W a kernel C->C of 17x17 without bias, S its sums over the window::

        CD(f) = theta (S f) - W * f        theta = BN(1x1 C/4->C of relu(BN(1x1 C->C/4 of the mean of f))), sigmoid

    Beyond the image f is 0.
    """

    pools, radius, width = 1, 1 + WINDOW // 2 + 1, 0

    def __init__(self, C: int) -> None:
        super().__init__()
        self.lift = nn.Sequential(*conv(1, C, 3))
        self.wide = nn.Conv2d(C, C, WINDOW, padding=WINDOW // 2, bias=False)
        nn.init.xavier_normal_(self.wide.weight)
        self.se = nn.Sequential(
            *conv(C, C // 4, 1, act=False),
            PooledNorm(C // 4),
            nn.ReLU(inplace=True),
            *conv(C // 4, C, 1, act=False),
            PooledNorm(C),
            nn.Sigmoid(),
        )
        self.norm = nn.BatchNorm2d(C)
        self.head = nn.Sequential(nn.LeakyReLU(0.1, inplace=True), _conv3(C, 1))
        self.width = 5 * C

    def gather(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """Sums of f over the inner part, :func:`exact` (B, C)."""
        f: Tensor = self.lift(x)[:, :, *place.inner]
        return exact(at_least_single(f)[0].sum((2, 3)))

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """w of a piece."""
        f, W = self.lift(x), self.wide.weight
        theta = self.se(found[0][:, :, None, None])
        w: Tensor = self.head(self.norm(theta * F.conv2d(f, W.sum((2, 3), keepdim=True)) - wide_conv(f, W)))
        return w


def _conv3(c_in: int, c_out: int) -> nn.Module:
    return conv(c_in, c_out, 3, act=False)[0]


class Stage(nn.Module):
    """One iteration on D = B + T, in the order S, B, T, D; S is the memory::

    S^k = M(x, S^{k-1})              x = D^{k-1} - T^{k-1}
    B^k = x + F_B(S^k)
    T^k = x - eps^k F_T(x + w(x))    x = T^{k-1} + D^{k-1} - B^k
    D^k = F_D(B^k + T^k)
    """

    def __init__(self, C: int, first: bool) -> None:
        super().__init__()
        self.M = Memory(C, first)
        self.FB = Background(C)
        self.w = Contrast(C)
        self.FT = plain(6, C, norm=False)
        self.FD = plain(3, C, norm=True)
        self.eps = nn.Parameter(torch.tensor([0.01]))

    def forward(self, D: Any, T: Any, S: Any, k: int, keep: Keep, dead: bool) -> tuple[Any, Any, Any]:
        """(D^k, T^k, S^k); with ``dead`` the branch D is not computed and comes back as None."""
        x = D - T
        S = keep(k, "", self.M(x if S is None else join(x, S)))
        B = keep(k, "B", x + self.FB(S))
        x = T + D - B
        T = keep(k, "T", x - self.eps * self.FT(x + self.w(x)))
        D = None if dead else keep(k, "D", self.FD(B + T))
        return D, T, S


@register(
    "rpcanet-pp",
    task="detect-ir",
    kind="network",
    paper="Wu, Dai, Zhang, Ding, Yang, Cheng and Peng, RPCANet++: Deep Interpretable Robust PCA for Sparse Object "
    "Segmentation, 2025",
    url="https://arxiv.org/abs/2508.04190",
    needs="one gray band in [0, 1]",
    sizes={
        "paper": {"K": 3, "C": 32},
        "s6": {"K": 6, "C": 32},
        "s9": {"K": 9, "C": 32},
        "tiny": {"K": 2, "C": 8},
    },
)
class RPCANetPP(TargetNetwork):
    """RPCANet++ (Wu, Dai, Zhang et al., 2025): K unrolled iterations (:class:`Stage`) from T^0 = 0, C channels.

    min R(B) + lambda S(T) + mu/2 ||D - B - T||_F^2. T^K is the logit of a target, D^K serves the fidelity loss. K is 3,
    6 or 9 in the paper.

    1,434,551, 2,915,342 and 4,396,133 parameters, as published. The published files hold 46,240 more: the first cell
    of theirs has the five convolutions of a later one that it never runs, and here does not have.
    """

    letters: ClassVar[tuple[str, ...]] = ("B", "T", "D")

    def __init__(self, K: int = 3, C: int = 32) -> None:
        super().__init__()
        if C < 4:
            raise ValueError(f"C = {C} channels are too few: a quarter of them is squeezed to")
        self.arch = {"K": K, "C": C}
        self.stages = nn.ModuleList(Stage(C, first=k == 0) for k in range(K))

    def forward(self, D: Any, *, keep: Keep = as_is, reconstruct: bool = False) -> tuple[Any, Any]:
        """(T^K, D^K or None); see :meth:`TargetNetwork.forward`."""
        T: Any = 0.0
        S: Any = None
        for k, stage in enumerate(self.stages):
            D, T, S = stage(D, T, S, k, keep, dead=k == len(self.stages) - 1 and not reconstruct)
        return T, D

    def macs(self, rows: int, cols: int) -> int:
        """Multiply-accumulates for an image: those of the convolutions as they are written, S f among them.

        On the CPU the 17x17 windows cost less, see :func:`wide_conv`.
        """
        return rows * cols * (macs_per_pixel(self) + len(self.stages) * int(self.arch["C"]) ** 2)

    @classmethod
    def _of_published(cls, state: Mapping[str, Tensor]) -> Self:
        """The network of a published checkpoint (tensors ``decos.K.{lowrank,sparse,merge}...``).

        The names are those that the published code gives its modules, the arithmetic is tested against the equations
        under these names; no published file has been at hand, so that reading one is untested. The
        five convolutions of the first cell that never run are left out.
        """
        if "decos.0.lowrank.ConvLSTM.conv_xi.weight" not in state:
            raise ValueError("the tensors are not those of an RPCANet++ checkpoint")
        never_run = re.compile(r"decos\.0\.lowrank\.ConvLSTM\.conv_(xf|h.)\.")
        tensors = rename_stages({n: t for n, t in state.items() if not never_run.match(n)}, _PUBLISHED)
        net = cls(K=stages_of(tensors), C=state["decos.0.lowrank.ConvLSTM.conv_xi.weight"].shape[0])
        net.load_state_dict(tensors)
        return net


_PUBLISHED = (
    (r"lowrank\.conv1_C\.", "M.lift."),
    (r"lowrank\.RB_1\.conv1\.", "M.residual.body.0."),
    (r"lowrank\.RB_1\.conv2\.", "M.residual.body.2."),
    (r"lowrank\.ConvLSTM\.conv_([xh])([fioj])\.", r"M.cell.\1.\2."),
    (r"lowrank\.RB_2\.conv1\.", "FB.residual.body.0."),
    (r"lowrank\.RB_2\.conv2\.", "FB.residual.body.2."),
    (r"lowrank\.convC_1\.", "FB.head."),
    (r"sparse\.contrast\.0\.", "w.lift.0."),
    (r"sparse\.contrast\.2\.conv\.", "w.wide."),
    (r"sparse\.contrast\.2\.attn\.avg_channel\.1\.", "w.se.0."),
    (r"sparse\.contrast\.2\.attn\.avg_channel\.2\.", "w.se.1."),
    (r"sparse\.contrast\.2\.attn\.avg_channel\.4\.", "w.se.3."),
    (r"sparse\.contrast\.2\.attn\.avg_channel\.5\.", "w.se.4."),
    (r"sparse\.contrast\.3\.", "w.norm."),
    (r"sparse\.contrast\.5\.", "w.head.1."),
    (r"sparse\.convs\.14\.", "FT.head."),
    (r"sparse\.convs\.", "FT.features."),
    (r"sparse\.epsilon$", "eps"),
    (r"merge\.mapping\.12\.", "FD.head."),
    (r"merge\.mapping\.", "FD.features."),
)
"""The published names within a stage, as patterns of their beginnings, and ours."""
