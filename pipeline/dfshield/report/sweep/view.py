"""A sweep with all that its pictures and its page ask for worked out once."""

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from itertools import groupby

from dfshield.brief import Brief
from dfshield.report.sweep.axes import Axis, axes_of, describe, identity
from dfshield.report.sweep.choice import (
    ProxyAgreement,
    Recommendation,
    front_of,
    proxy_agreement,
    recommend,
)
from dfshield.report.sweep.marks import RECOMMENDED
from dfshield.report.sweep.settings import (
    CleanBound,
    Measure,
    Setting,
    clean_bound,
    holdout_measures,
    judged_by,
    settings_of,
)
from dfshield.report.sweep.trials import SweepData


@dataclass(frozen=True, repr=False)
class SweepView(Brief):
    """A sweep, worked out.

    Attributes:
        data: as it was given.
        axes: the swept keys in their order.
        settings: in the order in which they were planned.
        clean: the figure on unchanged images.
        robust: the figure under attack.
        recommendation: None where no setting can be recommended.
        front: the settings that no other beats in both figures, by falling clean figure.
        holdout_front: the same by the figures on the synthetic hold-out, without real images.
        bound: of the clean figure of what may be recommended; None without one.
        proxy: None where it cannot be computed.
    """

    data: SweepData
    axes: tuple[Axis, ...]
    settings: tuple[Setting, ...]
    clean: Measure
    robust: Measure
    recommendation: Recommendation | None
    front: tuple[Setting, ...]
    holdout_front: tuple[Setting, ...]
    bound: CleanBound | None
    proxy: ProxyAgreement | None

    @property
    def selected_how(self) -> str:
        """How the setting was chosen; every picture that marks it says so."""
        if self.data.select_on == "test":
            return "chosen by real test accuracy: its figure is optimistic"
        return "chosen on the synthetic hold-out, without real images"

    @property
    def star(self) -> str:
        """What the sign of the recommended setting means."""
        return f"{RECOMMENDED} recommended setting, {self.selected_how}"

    @property
    def anchor(self) -> Setting | None:
        """Where other axes are held: at the recommended setting, else at the first."""
        if self.recommended is not None:
            return self.recommended
        return self.settings[0] if self.settings else None

    @property
    def recommended(self) -> Setting | None:
        """The recommended setting."""
        return next((s for s in self.settings if self.is_recommended(s)), None)

    def is_recommended(self, setting: Setting) -> bool:
        """Whether it is the recommended setting."""
        return self.recommendation is not None and setting.values == self.recommendation.values

    def name(self, setting: Setting) -> str:
        """Return a setting in words: ``"λ1 1, λ2 0.1"``."""
        return describe(self.axes, setting.values) or "the only setting"

    def sliced(self, moved: Collection[str]) -> tuple[list[Setting], str]:
        """Return the settings that differ from the anchor in the moved keys alone.

        The text says where the others are held: ``"at τ 0.5 (recommended)"``, empty without others.
        """
        anchor = self.anchor
        others = [axis for axis in self.axes if axis.key not in moved]
        if anchor is None:
            return [], ""
        same = [s for s in self.settings if all(s.at(a.key) == anchor.at(a.key) for a in others)]
        which = "as recommended" if self.recommendation else "the first setting"
        held = f"at {describe(others, anchor.values)} ({which})" if others else ""
        return same, held

    def lines(self, axis: Axis) -> dict[str, list[Setting]]:
        """Return the settings along an axis by the setting of the other axes, in words."""
        others = [other for other in self.axes if other.key != axis.key]

        def rank(setting: Setting) -> tuple[int, ...]:
            return tuple(_place(other, setting.at(other.key)) for other in others)

        groups = groupby(sorted(self.settings, key=rank), key=rank)
        return {
            describe(others, members[0].values): members
            for members in (list(group) for _, group in groups)
        }


def _place(axis: Axis, value: Hashable) -> int:
    known = [identity(one) for one in axis.values]
    return known.index(value) if value in known else len(known)


def view_of(data: SweepData) -> SweepView:
    """Return a sweep, worked out."""
    clean, robust = judged_by(data)
    settings = settings_of(data)
    return SweepView(
        data=data,
        axes=axes_of(data.parameters, named=data.cases),
        settings=settings,
        clean=clean,
        robust=robust,
        recommendation=recommend(data),
        front=tuple(front_of(data, (clean, robust))),
        holdout_front=tuple(front_of(data, holdout_measures(data))),
        bound=clean_bound(data, settings),
        proxy=proxy_agreement(data),
    )
