"""Networks that begin as pupils of another: its variables B, T, D of each stage say what theirs should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsunfold.unfold.operators import Operator
from rsunfold.unfold.unrolled import Record, TargetNetwork, Unrolled

RIDGE = 1e-6
"""Added to the diagonal of the normal equations, relative to its mean: features may be copies of one another."""


class Led:
    """A ``keep`` that stores the variables of a pupil, and hands back the teacher's in their place.

    So each operator of each stage works on what the teacher's works on, whatever those before it give.
    """

    def __init__(self, teacher: Sequence[Mapping[str, Tensor]]) -> None:
        self.teacher, self.own = teacher, Record()

    def __call__(self, stage: int, letter: str, value: Any) -> Any:
        """Store ``value`` and hand back the teacher's, if it has such a variable."""
        self.own(stage, letter, value)
        return self.teacher[stage].get(letter, value)

    def pairs(self) -> Iterator[tuple[tuple[int, str], Tensor, Tensor]]:
        """(Stage and letter, variable, the teacher's) of all variables that both have, float32."""
        for k, (own, theirs) in enumerate(zip(self.own.stages, self.teacher, strict=True)):
            for letter in own:
                if letter in theirs:
                    yield (k, letter), own[letter].float(), theirs[letter].float()

    def loss(self) -> Tensor:
        """Mean over the variables of mean (V - V_t)^2 / var V_t, V_t the teacher's.

        0 for a network that does what the teacher does, 1 for one that gives the means of its variables. After Romero
        et al., FitNets: Hints for Thin Deep Nets, ICLR 2015; here the hints need no layers of their own, since the
        variables of unrolled networks mean the same in all of them.
        """
        return torch.stack([F.mse_loss(V, V_t) / V_t.var().clamp_min(1e-4) for _, V, V_t in self.pairs()]).mean()


@torch.no_grad()
def taken_over(teacher: Unrolled, net: Unrolled) -> Unrolled:
    """``net``, whose weights are random, with the first layers of the teacher's operators of the same names in its own.

    An operator takes over one layer after the other up to the first that is of another kind or has other channels;
    smaller kernels lie in the middle of larger ones. Step sizes that both have are taken over too.

    Raises ValueError for networks of other tasks, of different numbers of stages, or where no layer fits.
    """
    if not isinstance(net, TargetNetwork) or not isinstance(teacher, TargetNetwork):
        raise ValueError("only networks for infrared targets can imitate")
    if len(net.stages) != len(teacher.stages):
        raise ValueError(f"it has {len(net.stages)} stages, and the teacher {len(teacher.stages)}")
    taken = 0
    for own, theirs in zip(net.stages, teacher.stages, strict=True):
        sizes = dict(theirs.named_parameters(recurse=False))
        for name, size in own.named_parameters(recurse=False):
            if name in sizes and size.shape == sizes[name].shape:
                size.copy_(sizes[name])
        parts = dict(theirs.named_children())
        for name, operator in own.named_children():
            if isinstance(operator, Operator) and isinstance(parts.get(name), Operator):
                taken += _take_layers(parts[name], operator)
    if not taken:
        raise ValueError(f"no layer has the channels of the teacher's, whose architecture is {teacher.arch}")
    return net


def _take_layers(theirs: Any, own: Any) -> int:
    """Take over the layers that fit; how many they are."""
    taken = 0
    for old, new in zip((*theirs.features, theirs.head), (*own.features, own.head), strict=False):
        if type(old) is not type(new):
            break
        if isinstance(new, nn.Conv2d):
            margin = [(m - n) // 2 for m, n in zip(new.kernel_size, old.kernel_size, strict=True)]
            if old.weight.shape[:2] != new.weight.shape[:2] or min(margin) < 0:
                break
            nn.init.zeros_(new.weight)
            rows, columns = (slice(m, m + n) for m, n in zip(margin, old.kernel_size, strict=True))
            new.weight[:, :, rows, columns] = old.weight
            new.bias.copy_(old.bias)  # type: ignore[union-attr]
        else:
            new.load_state_dict(old.state_dict())
        taken += 1
    return taken


@torch.no_grad()
def heads_fitted(teacher: TargetNetwork, net: TargetNetwork, images: Iterable[Tensor]) -> TargetNetwork:
    """``net``, the last layer of each of its operators with the weights that make its variable most like the teacher's.

    A variable is affine in the weights of that layer, and they solve the least squares over all pixels of ``images``
    (B, 1, H, W); the operators work on the teacher's variables (:class:`Led`). Both networks are in evaluation mode.
    """
    heads: dict[tuple[int, str], Any] = {
        (k, letter): stage.get_submodule(name)
        for k, stage in enumerate(net.stages)
        for letter, name in net.heads.items()
        if letter in teacher.letters
    }
    left, right = dict[Any, Any](), dict[Any, Any]()
    for head in heads.values():
        nn.init.zeros_(head.weight)
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [head.register_forward_pre_hook(lambda m, args: inputs.update({m: args[0]})) for head in heads.values()]
    try:
        for image in images:
            shown = Record()
            teacher(image, keep=shown, reconstruct=True)
            variables = []
            for bias in (0.0, 1.0):
                for head in heads.values():
                    nn.init.constant_(head.bias, bias)
                led = Led(shown.stages)
                net(image, keep=led, reconstruct=True)
                variables.append({where: (V, V_t) for where, V, V_t in led.pairs()})
            for where, head in heads.items():
                (base, aim), (raised, _) = (v[where] for v in variables)
                columns = F.unfold(inputs[head].float(), head.kernel_size, padding=head.padding)
                columns = torch.cat((columns, torch.ones_like(columns[:, :1])), 1)
                columns *= (raised - base).flatten(2)  # -eps of T, 1 of B and D
                for sums, with_what in ((left, columns), (right, (aim - base).flatten(2))):
                    sums[where] = sums.get(where, 0.0) + (columns @ with_what.mT).cpu().sum(0, dtype=torch.float64)
    finally:
        for hook in hooks:
            hook.remove()
    for where, head in heads.items():
        A = left[where]
        A += RIDGE * A.diagonal().mean() * torch.eye(len(A), dtype=A.dtype)
        found = torch.linalg.solve(A, right[where]).flatten()
        head.weight.copy_(found[:-1].reshape(head.weight.shape))
        head.bias.copy_(found[-1:])
    return net
