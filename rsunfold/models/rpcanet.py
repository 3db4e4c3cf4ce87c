"""RPCANet: robust PCA for infrared small targets, unrolled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.operators import plain
from rsunfold.unfold.published import rename_operators, stages_of
from rsunfold.unfold.unrolled import Keep, TargetNetwork


class Stage(nn.Module):
    """One iteration on D = B + T, in the order B, T, D::

    B^k = x + F_B(x)            x = D^{k-1} - T^{k-1}
    T^k = x - eps^k F_T(x)      x = T^{k-1} + D^{k-1} - B^k
    D^k = F_D(B^k + T^k)
    """

    def __init__(self, C: int) -> None:
        super().__init__()
        self.FB = plain(3, C, norm=True)
        self.FT = plain(6, C, norm=False)
        self.FD = plain(3, C, norm=True)
        self.eps = nn.Parameter(torch.tensor([0.01]))

    def forward(self, D: Any, T: Any, k: int, keep: Keep, dead: bool) -> tuple[Any, Any]:
        """(D^k, T^k); with ``dead`` the branch D is not computed and comes back as None."""
        x = D - T
        B = keep(k, "B", x + self.FB(x))
        x = T + D - B
        T = keep(k, "T", x - self.eps * self.FT(x))
        D = None if dead else keep(k, "D", self.FD(B + T))
        return D, T


@register(
    "rpcanet",
    task="detect-ir",
    kind="network",
    paper="Wu et al., RPCANet: Deep Unfolding RPCA Based Infrared Small Target Detection, WACV 2024",
    url="https://arxiv.org/abs/2311.00917",
    needs="one gray band in [0, 1]",
    sizes={"paper": {"K": 6, "C": 32}, "tiny": {"K": 2, "C": 8}},
)
class RPCANet(TargetNetwork):
    """RPCANet (Wu et al., WACV 2024): K unrolled iterations (:class:`Stage`) from T^0 = 0, C channels.

    min R(B) + lambda S(T) + mu/2 ||D - B - T||_F^2. T^K is the logit of a target, D^K serves the fidelity loss.
    """

    letters: ClassVar[tuple[str, ...]] = ("B", "T", "D")

    def __init__(self, K: int = 6, C: int = 32) -> None:
        super().__init__()
        self.arch = {"K": K, "C": C}
        self.stages = nn.ModuleList(Stage(C) for _ in range(K))

    @classmethod
    def _of_published(cls, state: Mapping[str, Tensor]) -> Self:
        """The network of a published checkpoint (tensors ``decos.K.{lowrank,sparse,merge}...``)."""
        first = state.get("decos.0.lowrank.convs.0.weight")
        if first is None or any(".residual." in n for n in state):
            raise ValueError("the tensors are not those of an RPCANet checkpoint")
        renamed = rename_operators(state, {"lowrank": "FB", "sparse": "FT", "merge": "FD"})
        net = cls(K=stages_of(renamed), C=first.shape[0])
        # The last convolution of each sequence is our projection.
        last = {
            f"stages.{k}.{op}.features.{i}.": f"stages.{k}.{op}.head."
            for k in range(net.arch["K"])
            for op, i in (("FB", 12), ("FT", 14), ("FD", 12))
        }
        for old, new in last.items():
            for part in ("weight", "bias"):
                renamed[new + part] = renamed.pop(old + part)
        net.load_state_dict(renamed)
        return net
