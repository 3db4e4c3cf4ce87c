"""SMDS-Net: sparse codes of eigen-images over a separable dictionary, by unrolled iterative soft-thresholding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.patches import BORDER, PART, SIDE, PatchGrid, synthesis
from rsunfold.unfold.proximal import soft_threshold
from rsunfold.unfold.unrolled import DenoisingNetwork, Keep, as_is

FIRST = 0.001
"""Threshold of the codes that the iterations begin with, where it is not learned."""
CODES = (SIDE, SIDE * SIDE, 1)
"""Shape of one threshold per coefficient, which broadcasts against codes (n, 9, 81, L)."""


class ModeProducts(nn.Module):
    """X -> X x1 M1 x2 M2 x3 M3 of patches or codes (n, 9, 81, L), with learned M1, M2, M3 (9, 9).

    The published code multiplies by their Kronecker product, 729 x 729, which is the same map.
    """

    def __init__(self, M: Tensor) -> None:
        super().__init__()
        self.M1, self.M2, self.M3 = (nn.Parameter(M.clone()) for _ in range(3))

    def forward(self, X: Tensor) -> Tensor:
        """(n, 9, 81, L)."""
        return synthesis(X, self.M1, torch.kron(self.M2, self.M3))


class Stage(nn.Module):
    """B = soft(B - (B x1 D1 x2 D2 x3 D3 - X) x1 C1 x2 C2 x3 C3, lam), lam one learned number per coefficient.

    Where ``squared`` the threshold is lam^2.
    """

    def __init__(self, threshold: float, *, squared: bool, signed: bool) -> None:
        super().__init__()
        self.lam = nn.Parameter(torch.full(CODES, threshold))
        self.squared, self.signed = squared, signed

    def forward(self, B: Tensor, X: Tensor, D: ModeProducts, C: ModeProducts) -> Tensor:
        """Codes (n, 9, 81, L) from codes and patches of that shape."""
        return shrink(B - C(D(B) - X), self.lam.square() if self.squared else self.lam, signed=self.signed)


@register(
    "smds-net",
    task="denoise-hsi",
    kind="network",
    paper="Xiong, Zhou, Tao et al., SMDS-Net: model guided spectral-spatial network for hyperspectral image denoising, "
    "IEEE Transactions on Image Processing, 2022",
    bands=(1, None),
    needs="whitened spectra of any number of bands, with their signal subspace",
    weights="smds-net",
    scaling="divided by the largest value of the cube",
    sizes={
        "paper": {"K": 6, "threshold": 0.02, "signed": True, "step": 1, "border": 0},
        "tiny": {"K": 2},
    },
    least={"border": 0},
)
class SMDSNet(DenoisingNetwork):
    """SMDS-Net (Xiong, Zhou, Tao et al., 2022), as its published code computes it.

    min 1/2 ||Y - G x3 A||^2 + sum_i 1/2 ||R_i G - B_i x1 D1 x2 D2 x3 D3||^2 + lam ||B_i||_1, the basis A given::

        G   = Y x3 A'                                        eigen-images, at least 9
        X_i = R_i G - m_i                                    m_i the mean of the patch
        B_i = soft(X_i x1 P x2 P x3 P, 0.001)                P the pseudo-inverse of the cosine dictionary
        B_i = soft(B_i - (B_i x1 D1 x2 D2 x3 D3 - X_i) x1 C1 x2 C2 x3 C3, lam_k)      K times
        G   = mean over the patches of B_i x1 W1 x2 W2 x3 W3 + m_i,      X_hat = G x3 A

    D, C and W are learned, not tied to each other, the same in all stages (in checkpoints C is apply_A).

    K : stages. threshold : what lam begins with; 0.02 as published. squared : the arithmetic of the published STAR-Net
    checkpoint, which is an SMDS-Net: the threshold is lam_k^2, and that of the first codes is learned. signed :
    negative thresholds, which published checkpoints hold, amplify: relu(x - l) - relu(-x - l); else they count as 0.
    step : eigen-images from patch to patch; 1 as published. border : mirrored pixels around the image; 0 as published.

    Published weights expect the cube itself, divided by its largest value. Ours expect it whitened, so that the noise
    of every eigen-image has the standard deviation 1 and one network serves all levels.
    """

    letters: ClassVar[tuple[str, ...]] = ("B",)
    P: Tensor
    first: Tensor

    def __init__(
        self,
        K: int = 6,
        threshold: float = 1.0,
        squared: bool = False,
        signed: bool = False,
        step: int = SIDE,
        border: int = BORDER,
    ) -> None:
        super().__init__()
        self.arch = {
            "K": K,
            "threshold": threshold,
            "squared": squared,
            "signed": signed,
            "step": step,
            "border": border,
        }
        dct = cosine_dictionary()
        D = (dct / torch.linalg.matrix_norm(dct, 2)).float()
        self.D, self.C, self.W = ModeProducts(D), ModeProducts(D.mT), ModeProducts(D)
        self.stages = nn.ModuleList(Stage(threshold, squared=squared, signed=signed) for _ in range(K))
        self.register_buffer("P", torch.linalg.pinv(dct).float(), persistent=False)
        if squared:
            self.first = nn.Parameter(torch.full(CODES, threshold))
        else:
            self.register_buffer("first", torch.tensor(FIRST), persistent=False)

    def step_sizes(self) -> list[nn.Parameter]:
        """The thresholds."""
        return [p for name, p in self.named_parameters() if name.startswith(("first", "stages."))]

    @property
    def radius(self) -> int:
        """Pixels that an output pixel depends on: those of all patches that it lies in."""
        return SIDE - 1

    def codes_per_pixel(self, rank: int) -> float:
        """Numbers per pixel that one set of codes holds, with ``rank`` eigen-images."""
        return len(self._grid(1, 1, rank).places) * SIDE**3

    def forward(self, Y: Tensor, A: Tensor, context: object = None, *, keep: Keep = as_is) -> tuple[Tensor, None]:
        """(denoised Y, None) of Y (bands, H, W) and A (bands, R), orthonormal columns.

        A window of an image gives the image's result but for ``radius`` pixels at its edge; it needs no ``context``.
        """
        rank = A.shape[1]
        grid = self._grid(Y.shape[1], Y.shape[2], rank)
        G = (A.mT @ grid.pad(Y).flatten(1)).view(rank, *grid.padded)
        if rank < SIDE:
            G = torch.cat([G, G.new_zeros(SIDE - rank, *grid.padded)])
        pasted, counts = [], []
        for part in grid.parts(None if self.training else PART):
            X = grid.cut(G, part)
            m = X.mean((1, 2), keepdim=True)
            X = X - m
            B = shrink(synthesis(X, self.P, torch.kron(self.P, self.P)), self.first, signed=bool(self.arch["signed"]))
            for k, stage in enumerate(self.stages):
                B = keep(k, "B", stage(B, X, self.D, self.C))
            pasted.append((part, grid.paste(self.W(B) + m, part)))
            counts.append((part, grid.count(torch.ones_like(m[:, 0, 0]), part)))
        G = grid.gathered(pasted) / grid.gathered(counts)
        return grid.crop((A @ G[:rank].flatten(1)).view(-1, *grid.padded)), None

    def _grid(self, rows: int, cols: int, rank: int) -> PatchGrid:
        return PatchGrid(rows, cols, max(rank, SIDE), step=int(self.arch["step"]), border=int(self.arch["border"]))

    @classmethod
    def _of_published(cls, state: Mapping[str, Tensor]) -> Self:
        """The network of a published checkpoint of SMDS-Net or, known by its first threshold ``l``, of STAR-Net.

        The latter's gamma_2 and beta belong to a loop that never runs, and are left out.
        """
        K = sum(name.startswith("lmbda.") for name in state)
        squared = "l" in state
        net = cls(K, threshold=0.02, squared=squared, signed=True, step=1, border=0)
        matrices = {"D": "apply_D", "C": "apply_A", "W": "apply_W"}
        names = {f"{ours}.M{i + 1}": f"{theirs}.{i}" for ours, theirs in matrices.items() for i in range(3)}
        names |= {f"stages.{k}.lam": f"lmbda.{k}" for k in range(K)}
        left_out: set[str] = set()
        if squared:
            names["first"] = "l"
            left_out = {f"{name}.{k}" for name in ("gamma_1", "gamma_2", "beta") for k in range(K)}
            # Its threshold is gamma_1 times lmbda, which began and were trained alike.
            differs = [k for k in range(K) if not torch.equal(state[f"gamma_1.{k}"], state[f"lmbda.{k}"])]
            if differs:
                raise ValueError(f"gamma_1.{differs[0]} is not lmbda.{differs[0]}")
        more = state.keys() - set(names.values()) - left_out
        if more:
            raise ValueError(f"{min(more)} does not belong to an SMDS-Net")
        own = {ours: state[theirs] for ours, theirs in names.items()}
        net.load_state_dict({name: x.reshape(CODES) if x.ndim == 5 else x for name, x in own.items()})
        return net


def shrink(x: Tensor, lam: Tensor, *, signed: bool) -> Tensor:
    """Soft-thresholding by lam, negative entries of which count as 0; where ``signed``, relu(x - lam) - relu(-x - lam),
    which is the same for lam >= 0 and else amplifies."""
    return torch.relu(x - lam) - torch.relu(-x - lam) if signed else soft_threshold(x, lam.clamp_min(0))


def cosine_dictionary() -> Tensor:
    """The published start, float64 (9, 9): column k is cos(n k pi / 9) over n, less its mean if k > 0, of length 1.

    Its columns are not orthogonal: they lack the half pixel of the cosine transform.
    """
    n = torch.arange(SIDE, dtype=torch.float64)
    D = torch.cos(math.pi / SIDE * n[:, None] * n)
    D[:, 1:] -= D[:, 1:].mean(0)
    D /= torch.linalg.vector_norm(D, dim=0)
    return D
