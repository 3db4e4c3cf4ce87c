"""STAR-Net and STAR-Net-S: sparse and low-rank codes of eigen-images, by an unrolled ADMM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.neighbours import REACH, non_local_means
from rsunfold.unfold.patches import PART, SIDE, PatchGrid, analysis, dct_dictionary, synthesis
from rsunfold.unfold.proximal import procrustes, singular_value_threshold, soft_threshold
from rsunfold.unfold.unrolled import DenoisingNetwork, Keep, as_is

Codebook = tuple[Tensor, Tensor]
"""D1 (9, 9) and D23 (81, 81), see :class:`Dictionary`."""
WARM = 6
"""Alternations between S and the eigen-images before the first stage of STAR-Net-S."""


class Context(NamedTuple):
    """What belongs to the image as a whole; computed for windows with that of the image, a window gives its result.

    bases : A^0 .. A^K, each (bands, R).
    """

    bases: list[Tensor]


@dataclass(frozen=True)
class Image:
    """The whitened image: y (bands, pixels), padded to whole patches of ``grid``, which ``parts`` of are worked on at a
    time, and how many eigen-images it has."""

    y: Tensor
    grid: PatchGrid
    parts: list[slice]
    rank: int

    @classmethod
    def of(cls, Y: Tensor, rank: int, stride: int, step: int) -> Image:
        """Y : (bands, H, W)."""
        grid = PatchGrid(Y.shape[1], Y.shape[2], max(rank, SIDE), stride=stride, step=step)
        return cls(grid.pad(Y).flatten(1), grid, grid.parts(PART), rank)

    def project(self, x: Tensor, A: Tensor) -> Tensor:
        """x x3 A' as images (rank, H, W) of x (bands, pixels), filled up with zeros where they are fewer than 9."""
        g = (A.mT @ x).view(self.rank, *self.grid.padded)
        return g if self.rank >= SIDE else torch.cat([g, g.new_zeros(SIDE - self.rank, *self.grid.padded)])

    def spectra(self, G: Tensor, A: Tensor) -> Tensor:
        """G x3 A, (bands, pixels)."""
        return A @ G[: self.rank].flatten(1)

    def codes(self, G: Tensor, D: Codebook, part: slice) -> Tensor:
        """D' R_i G of the patches of a part."""
        return analysis(self.grid.cut(G, part), *D)

    def aggregated(self, B: list[Tensor], D: Codebook, weigh: Aggregation) -> tuple[Tensor, Tensor]:
        """(sum_i w_i R_i' D B_i, sum_i w_i R_i'R_i), both (rank, H, W)."""
        weights, grid = [weigh(b) for b in B], self.grid
        pasted = grid.gathered(
            (part, grid.paste(w[:, None, None] * synthesis(b, *D), part))
            for part, w, b in zip(self.parts, weights, B, strict=True)
        )
        return pasted, grid.gathered((part, grid.count(w, part)) for part, w in zip(self.parts, weights, strict=True))


@dataclass
class State:
    """What a stage hands on: S (bands, pixels) or 0, the eigen-images G (rank, H, W), for each part of the patches B, L
    and P (n, 9, 81, l), A (bands, rank), and D, the dictionary that B belongs to."""

    S: Tensor | float
    G: Tensor
    B: list[Tensor]
    L: list[Tensor]
    A: Tensor
    P: list[Tensor]
    D: Codebook


class Dictionary(nn.Module):
    """D1 (9, 9) along the eigen-images, and the pixels': D2 and D3 (9, 9) where ``literal``, else their Kronecker
    product D23 (81, 81) as one matrix.

    Starts at the identity along the eigen-images, which are uncorrelated, and at the cosine basis along the pixels.
    Where not ``literal``, D1 and D23 are the orthonormal matrices nearest to the parameters: a patch of any brightness
    then has codes that give it back, while an error of D D' by 1 % is ten times the noise where the signal is a
    thousand times.
    """

    def __init__(self, literal: bool) -> None:
        super().__init__()
        self.D1 = nn.Parameter(torch.eye(SIDE))
        dct = dct_dictionary()
        if literal:
            self.D2, self.D3 = nn.Parameter(dct.clone()), nn.Parameter(dct.clone())
        else:
            self.D23 = nn.Parameter(torch.kron(dct, dct))
        self.literal = literal

    def forward(self) -> Codebook:
        """(D1, D23)."""
        if self.literal:
            return self.D1, torch.kron(self.D2, self.D3)
        return procrustes(self.D1), procrustes(self.D23)

    def bound(self) -> Tensor:
        """The square of the dictionary's largest singular value: the Lipschitz constant of the fit's gradient."""
        bound = self.D1.new_ones(())
        for D in (self.D1, self.D2, self.D3) if self.literal else ():
            bound = bound * torch.linalg.matrix_norm(D, 2).square()
        return bound


class Shrinkage(nn.Module):
    """Sparsity of the codes: prox of t gamma1 |b|, or where not ``literal`` of t gamma1 log(|b| + e).

    gamma1 : one entry per coefficient of the pixels, (1, 81, 1), for all eigen-images: their noise is the same, and how
    much signal they hold is the image's affair, of which the pilot tells. The step of the logarithm takes its slope at
    a pilot code p of the same patch, |b| - t gamma1 / (|p| + e): reweighted l1 (Candes, Wakin and Boyd, J. Fourier
    Anal. Appl. 14, 2008).
    """

    def __init__(self, gamma1: float, literal: bool) -> None:
        super().__init__()
        start = torch.full((1, SIDE * SIDE, 1), gamma1)
        start[:, 0] *= 0.1  # means of patches are no details
        self.gamma1 = nn.Parameter(start.log())
        self.e = None if literal else nn.Parameter(torch.tensor(0.3).log())

    def forward(self, F: Tensor, t: Tensor | float, pilot: Tensor) -> Tensor:
        """Codes (n, 9, 81, L) after the step; ``pilot`` likewise, of any sign."""
        lam = t * self.gamma1.exp()
        return soft_threshold(F, lam if self.e is None else lam / (pilot.abs() + self.e.exp()))


class Aggregation(nn.Module):
    """The weights w_i with which patches enter G: (1 + n / 9)^(-kappa), n = sum of b^2 / (b^2 + 1).

    Patches with few large coefficients are smooth and better estimated (BM3D, Dabov et al., 2007). ``literal``: 1.
    """

    def __init__(self, literal: bool) -> None:
        super().__init__()
        self.kappa = None if literal else nn.Parameter(torch.tensor(1.0))

    def forward(self, B: Tensor) -> Tensor:
        """(n, L)."""
        if self.kappa is None:
            return B.new_ones(B.shape[0], B.shape[3])
        b = B.square()
        return (1 + (b / (b + 1)).sum((1, 2)) / SIDE) ** (-self.kappa)


class Stage(nn.Module):
    """One iteration of the ADMM, in the order S, G, B, L, A, P::

    S = soft(Y - G x3 A, mu)                                                           STAR-Net-S only
    G : (I + lam sum_i w_i R_i'R_i) G = (Y - S) x3 A' + lam sum_i w_i R_i' D B_i       D B = B x1 D1 x2 D2 x3 D3
    B = shrink(F, lam / nu)     F = B - (lam D'(D B - R G) + beta (B - L) + P) / nu    nu = lam ||D||^2 + beta
                                  = (lam D'R G + beta L - P) / nu  for orthonormal D
    L = SVT(B + P / beta, lam gamma2 / beta)                                           on the 9 x 81 unfolding
    A = U V'                    U S V' = unfold3(Y - S) unfold3(G)' + rho A
    P = P + beta (B - L)

    These are, in turn, the minimisers (for B and a D that is not orthonormal, one proximal gradient step) of

        1/2 ||Y - G x3 A - S||^2 + mu ||S||_1
        + lam sum_i w_i (1/2 ||R_i G - D B_i||^2 + gamma1 ||B_i||_1 + gamma2 ||L_i||_*)
        + sum_i <P_i, B_i - L_i> + beta/2 ||B_i - L_i||^2

    with w_i = 1 in B, L and P, where each patch is a problem of its own. From one stage's dictionary to the next, L and
    P change their coordinates. The paper's slides write P + beta (L - B) beside L = SVT(B + P / beta); the sign here is
    the one that agrees with the L and B steps.
    """

    def __init__(self, *, sparse: bool, literal: bool, last: bool) -> None:
        super().__init__()
        self.lam = nn.Parameter(torch.tensor(0.02).log())
        self.beta = nn.Parameter(torch.tensor(0.002).log())
        # What the last stage's L and P would be never reaches the result.
        self.gamma2 = None if last else nn.Parameter(torch.tensor(0.01).log())
        self.rho = None if literal else nn.Parameter(torch.tensor(1e5).log())
        self.mu = nn.Parameter(torch.tensor(3.0).log()) if sparse else None
        self.literal = literal
        self.shrink = Shrinkage(1.5 if literal else 1.0, literal)
        self.aggregate = Aggregation(literal)

    def forward(
        self,
        image: Image,
        state: State,
        D: Codebook,
        bound: Tensor,
        known: Tensor | None,
        keep: Callable[[str, Any], Any],
    ) -> State:
        """The state after one iteration; ``state`` is used up. bound : ||D||^2. known : A of the image that this one is
        a window of."""
        y, A, B, L, P = image.y, state.A, state.B, state.L, state.P
        S = state.S if self.mu is None else keep("S", self.outliers(y - image.spectra(state.G, A)))
        lam, beta = self.lam.exp(), self.beta.exp()
        pasted, count = image.aggregated(B, state.D, self.aggregate)
        G = keep("G", (image.project(y - S, A) + lam * pasted) / (1 + lam * count))
        pilot = pasted / count
        turn = None if D is state.D else (state.D[0].mT @ D[0], state.D[1].mT @ D[1])
        nu = lam * bound + beta
        for i, part in enumerate(image.parts):  # in place, so that no more than one set of codes is held
            X, p = image.grid.cut(G, part), image.codes(pilot, D, part)
            if self.literal:
                F = B[i] - (lam * analysis(synthesis(B[i], *D) - X, *D) + beta * (B[i] - L[i]) + P[i]) / nu
            else:
                if turn is not None:
                    L[i], P[i] = analysis(L[i], *turn), analysis(P[i], *turn)
                F = (lam * analysis(X, *D) + beta * L[i] - P[i]) / nu
            B[i] = self.shrink(F, lam / nu, p)
            if self.gamma2 is not None:
                L[i] = threshold_codes(B[i] + P[i] / beta, lam * self.gamma2.exp() / beta)
                P[i] = P[i] + beta * (B[i] - L[i])
        # Lists of their own, which the next stage does not overwrite.
        B, L = list(keep("B", list(B))), list(keep("L", list(L)))
        if known is None:
            M = (y - S) @ G[: image.rank].flatten(1).mT
            A = procrustes(M if self.rho is None else M + self.rho.exp() * A)
        else:
            A = known
        A = keep("A", A)
        return State(S, G, B, L, A, list(keep("P", list(P))), D)

    def outliers(self, r: Tensor) -> Tensor:
        """S of the residual r: soft(r, mu), or where not literal soft(r, mu^2 / (|r| + 0.1)), the logarithmic penalty,
        which takes outliers away whole instead of all but mu of them."""
        mu = self.mu.exp()  # type: ignore[union-attr]
        return soft_threshold(r, mu if self.literal else mu.square() / (r.abs() + 0.1))


@register(
    "star-net",
    task="denoise-hsi",
    kind="network",
    paper="Liu, Jin, Xiu et al., STAR-Net: sparse and low-rank tensor representation unfolding for hyperspectral image "
    "denoising, Pattern Recognition 172, 2026",
    bands=(1, None),
    needs="whitened spectra of any number of bands, with their signal subspace",
    weights="star-net",
    apple=False,  # eigenvalues
    sizes={"paper": {"K": 6, "literal": True}, "tiny": {"K": 2, "stride": 3}},
)
class STARNet(DenoisingNetwork):
    """STAR-Net (Liu, Jin, Xiu et al., 2026), the model of the paper, on the whitened image.

    min 1/2 ||Y - G x3 A||^2 + lam sum_i (1/2 ||R_i G - B_i x1 D1 x2 D2 x3 D3||^2 + gamma1 ||B_i||_1
    + gamma2 ||B_i||_*),  A'A = I, by K unrolled iterations (:class:`Stage`) of ADMM with L_i = B_i. Y (bands x pixels)
    is whitened, so that its noise has unit variance in every band: one network serves every level of noise and, since
    it sees eigen-images only, every number of bands. A^0 holds the R leading eigenvectors.

    K : stages. stride : pixels from patch to patch. literal : the paper's iteration to the letter, but for B^0, which
    is shrunk from the adjoint D' instead of the pseudo-inverse. Otherwise, each for the reason given with the class:
    patch cubes begin every 9th eigen-image instead of at each, a ninth of the work; a logarithmic penalty with weights
    from the image (:class:`Shrinkage`), weighted aggregation (:class:`Aggregation`), dictionaries of each stage's own
    that need not be separable in the pixels (:class:`Dictionary`), and a proximal term rho in the Procrustes step,
    without which directions that hold hardly any signal would turn at will.

    The published code is another network (SMDS-Net with nine stages); its checkpoint is imported as ``smds-net``.
    """

    letters: ClassVar[tuple[str, ...]] = ("G", "B", "L", "A", "P")
    adaptable: ClassVar[bool] = True

    def __init__(self, K: int = 3, stride: int = 1, literal: bool = False) -> None:
        super().__init__()
        self.arch = {"K": K, "stride": stride, "literal": literal}
        self.stages = nn.ModuleList(Stage(sparse=self.outliers, literal=literal, last=k == K - 1) for k in range(K))
        # The dictionaries 0 to K - 1 belong to the stages, with that of the first for the start.
        self.dictionaries = nn.ModuleList(Dictionary(literal) for _ in range(1 if literal else K))
        self.first = Shrinkage(2.5 if literal else 1.5, literal)
        self.last = nn.Parameter(torch.tensor(20.0).log())
        self.aggregate = Aggregation(literal)

    @property
    def step(self) -> int:
        """Eigen-images from patch cube to patch cube."""
        return 1 if self.arch["literal"] else SIDE

    @property
    def radius(self) -> int:
        """Pixels that an output pixel depends on, beyond the context; a multiple of the stride."""
        reach = (SIDE - 1) * (len(self.stages) + 1) + REACH
        return -(-reach // self.stride) * self.stride

    def codes_per_pixel(self, rank: int) -> float:
        """Numbers per pixel that one set of codes holds, with ``rank`` eigen-images."""
        places = len(PatchGrid(1, 1, max(rank, SIDE), step=self.step).places)
        return places * SIDE**3 / self.stride**2

    def step_sizes(self) -> list[nn.Parameter]:
        """All but the dictionaries: logarithms of thresholds, weights and step sizes."""
        return [p for name, p in self.named_parameters() if not name.startswith("dictionaries.")]

    def _books(self) -> list[tuple[Codebook, Tensor]]:
        """By stage its D and ||D||^2."""
        own = [(d(), d.bound()) for d in self.dictionaries if isinstance(d, Dictionary)]
        return own if len(own) == len(self.stages) else own * len(self.stages)

    def forward(
        self, Y: Tensor, A: Tensor, context: Context | None = None, *, keep: Keep = as_is
    ) -> tuple[Tensor, Context]:
        """(denoised Y, context) of Y (bands, H, W), whitened, and A^0 (bands, R), orthonormal columns.

        context : that of the image which Y is a window of, beginning at multiples of the stride; None takes Y for the
        whole image. Fewer than 9 eigen-images are filled up with zeros.
        """
        image = Image.of(Y, A.shape[1], self.stride, self.step)
        A = A if context is None else context.bases[0]
        books = self._books()
        state = self._start(image, A, books[0][0])
        bases = [A]
        for k, (stage, book) in enumerate(zip(self.stages, books, strict=True)):
            known = None if context is None else context.bases[k + 1]
            state = stage(image, state, *book, known, partial(keep, k))
            bases.append(state.A)
        lam = self.last.exp()
        pasted, count = image.aggregated(state.B, state.D, self.aggregate)
        G = (image.project(image.y - state.S, state.A) + lam * pasted) / (1 + lam * count)
        X = image.spectra(G, state.A).view(-1, *image.grid.padded)
        return image.grid.crop(X), Context(bases)

    def _start(self, image: Image, A: Tensor, D: Codebook) -> State:
        """S by alternations with the eigen-images, B = L from these and their non-local means, P = 0."""
        S: Tensor | float = 0.0
        G = image.project(image.y, A)
        first: Any = self.stages[0]
        if first.mu is not None:
            for _ in range(WARM):
                S = first.outliers(image.y - image.spectra(G, A))
                G = image.project(image.y - S, A)
        pilot = non_local_means(G)
        B = [self.first(image.codes(G, D, part), 1.0, image.codes(pilot, D, part)) for part in image.parts]
        return State(S, G, B, list(B), A, [torch.zeros_like(b) for b in B], D)


@register(
    "star-net-s",
    task="denoise-hsi",
    kind="network",
    paper="Liu, Jin, Xiu et al., STAR-Net-S, in the paper of STAR-Net, Pattern Recognition 172, 2026",
    bands=(1, None),
    needs="whitened spectra of any number of bands, with their signal subspace; stripes, dead lines and impulses "
    "allowed",
    weights="star-net-s",
    apple=False,  # eigenvalues
    sizes={"paper": {"K": 6, "literal": True}, "tiny": {"K": 2, "stride": 3}},
)
class STARNetS(STARNet):
    """STAR-Net-S: STAR-Net with a sparse term S for stripes, dead lines and impulses.

    min 1/2 ||Y - G x3 A - S||^2 + mu ||S||_1 + ..., S = soft(Y - G x3 A, mu); Y - S takes the place of Y.
    """

    letters: ClassVar[tuple[str, ...]] = ("S", "G", "B", "L", "A", "P")
    outliers: ClassVar[bool] = True
    adaptable: ClassVar[bool] = False  # outliers would count as signal


def threshold_codes(Z: Tensor, lam: Tensor) -> Tensor:
    """SVT of the 9 x 81 unfolding of each code of Z (n, 9, 81, L)."""
    return singular_value_threshold(Z.permute(0, 3, 1, 2), lam).permute(0, 2, 3, 1)
