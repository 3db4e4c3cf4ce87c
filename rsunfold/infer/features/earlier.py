"""An earlier choice of bands or features, to be applied to other inputs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError
from rsunfold.infer.bands import Bands
from rsunfold.infer.features.source import FeatureSource
from rsunfold.infer.results import told_by


@dataclass(frozen=True)
class EarlierChoice:
    """What the report (``..._ranking.json``) of an earlier selection says was chosen.

    bands : those chosen, best first, or features. names : of these, or empty. told : the report.
    """

    bands: Bands
    names: tuple[str, ...]
    told: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> EarlierChoice:
        """Raises InputError for a file that is no such report."""
        told = told_by(Path(path))
        if told.get("task") != "select-features" or "ranking_indices_zero_based" not in told:
            what = "is none" if Path(path).exists() else "does not exist"
            raise InputError(f"--like takes the ..._ranking.json of an earlier selection, but {path} {what}.")
        chosen = told["selected_indices_zero_based"]
        order = [chosen.index(i) for i in told["ranking_indices_zero_based"][: len(chosen)]]
        waves, names = told["selected_wavelengths_nm"] or (), told["selected_names"] or ()
        noun = "band" if "bands" in told else "feature"
        numbers = [chosen[k] for k in order]
        bands = Bands(str(path), told[f"{noun}s"], numbers, [waves[k] for k in order] if waves else (), noun)
        return cls(bands, tuple(names[k] for k in order) if names else (), told)

    @property
    def model(self) -> dict[str, Any]:
        """What made the choice: arguments of :class:`rsunfold.infer.features.select.FeatureRanker`."""
        return {"model": self.told["model"], "options": self.told["options"], "seed": self.told["seed"]}

    @property
    def asked(self) -> list[float]:
        """For the summary: what decides which features are taken, wavelengths where there are some, else numbers."""
        return [*self.bands.wavelengths] if self.bands.in_nm else [n + 1 for n in self.bands.numbers]

    @property
    def origin(self) -> dict[str, Any]:
        """For the summary: where the choice came from."""
        return {"report": self.bands.path, "input": self.told["input"]}

    def within(self, source: FeatureSource) -> list[int]:
        """The same features of ``source``, zero-based, best first: bands as :meth:`Bands.within` finds them, columns
        by name where both have names, else by number.

        Raises InputError where one of them is missing, takes no part or stands for two.
        """
        if source.noun != self.bands.noun:
            raise InputError(f"{self.bands.path} chose {self.bands.noun}s, but {source.path} has {source.noun}s.")
        if self.bands.noun == "feature" and self.names and source.names:
            places = [list(source.names).index(n) if source.names.count(n) == 1 else None for n in self.names]
        else:
            every = Bands(source.path, source.count, range(source.count), source.wavelengths)
            places = self.bands.within(every)
        found: list[int] = []
        for k, place in enumerate(places):
            if place is None or place in found:
                raise InputError(f"{source.path} has no {self.bands.noun} of its own for {self._called(k)}.")
            if place in source.left_out:
                raise InputError(
                    f"{self.bands.noun} {place + 1} of {source.path}, needed for {self._called(k)}, is left out: "
                    f"{source.left_out[place]}."
                )
            found.append(place)
        return found

    def _called(self, k: int) -> str:
        """The ``k``-th of the choice in a message."""
        number, waves = self.bands.numbers[k] + 1, self.bands.wavelengths
        more = f" ({waves[k]:g} nm)" if waves else f" ({self.names[k]})" if self.names else ""
        return f"{self.bands.noun} {number}{more}, which {self.bands.path} chose"
