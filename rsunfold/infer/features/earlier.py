"""An earlier choice of bands or features, to be applied to other inputs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsunfold.errors import InputError
from rsunfold.infer.bands import Bands
from rsunfold.infer.features.source import FeatureSource
from rsunfold.io.jsonfile import told_by


@dataclass(frozen=True)
class EarlierChoice:
    """What the report (``..._ranking.json``) of an earlier selection says was chosen.

    bands : those chosen, best first, or features. names : of these, or empty. model : what made the choice, arguments
    of :class:`rsunfold.infer.features.select.FeatureRanker`. origin : for the summary, where the choice came from.
    """

    bands: Bands
    names: tuple[str, ...]
    model: dict[str, Any]
    origin: dict[str, Any]

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> EarlierChoice:
        """Raises InputError for a file that is no such report, or not a whole one."""
        try:
            return cls._told(str(path), told_by(Path(path)))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            what = "is none" if Path(path).exists() else "does not exist"
            raise InputError(f"--like takes the ..._ranking.json of an earlier selection, but {path} {what}.") from None

    @classmethod
    def _told(cls, path: str, told: dict[str, Any]) -> EarlierChoice:
        chosen = [int(i) for i in told["selected_indices_zero_based"]]
        order = [chosen.index(i) for i in told["ranking_indices_zero_based"][: len(chosen)]]
        if told["task"] != "select-features" or not 0 < len(order) == len(chosen):
            raise ValueError(path)
        waves, names = told["selected_wavelengths_nm"] or (), told["selected_names"] or ()
        noun = "band" if "bands" in told else "feature"
        numbers = [chosen[k] for k in order]
        bands = Bands(path, int(told[f"{noun}s"]), numbers, [float(waves[k]) for k in order] if waves else (), noun)
        model = {"model": str(told["model"]), "options": dict(told["options"]), "seed": int(told["seed"])}
        origin = {"report": path, "input": told["input"]}
        return cls(bands, tuple(str(names[k]) for k in order) if names else (), model, origin)

    @property
    def asked(self) -> list[float]:
        """For the summary: what decides which features are taken, wavelengths where there are some, else numbers."""
        return [*self.bands.wavelengths] if self.bands.in_nm else [n + 1 for n in self.bands.numbers]

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
