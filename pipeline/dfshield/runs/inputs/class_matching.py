"""Which logit of a classifier stands for which class of a real data set."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dfshield.datasets import OWN_NAMES, ImageSet, numbers_of
from dfshield.errors import InputError

_NAMED = 6
"""How many classes a message lists."""


@dataclass(frozen=True)
class ClassMatch:
    """Classes of a data set and the logits that stand for them.

    Attributes:
        logits: per class of the data set, in its order.
        remark: what has to be said of how they were matched; None if nothing has.
    """

    logits: tuple[int, ...]
    remark: str | None = None


def unnamed(num_classes: int) -> tuple[str, ...]:
    """Return the names of classes that nobody has named: "0", "1", ..."""
    return tuple(map(str, range(num_classes)))


def match_classes(images: ImageSet, names: Sequence[str], *, key: str) -> ClassMatch:
    """Match the classes of a data set with a classifier's logits: by name, number or order.

    Names known on both sides are matched by name, a data set's numbers by value. Order counts where
    it is all there is: for the published order of a known data set, and for names that the
    classifier does not have, which the remark then says.

    Args:
        images: a real data set.
        names: the classifier's class names, in the order of its logits.
        key: the configuration's section that named the data, for errors.

    Raises:
        InputError: if the classes differ, or cannot be told apart.
    """
    data, numbers = images.class_names, numbers_of(images.class_names)
    nobody_named = tuple(names) == unnamed(len(names))
    in_order = ClassMatch(tuple(range(len(data))))
    if not images.named:
        return _counted(images, len(names), key)
    if images.name not in OWN_NAMES and nobody_named:
        if len(data) != len(names):
            raise _other_count(images, len(names), key)
        return in_order
    if not nobody_named:
        _require_distinct(names, key=f"{key}: the classifier's class_names")
    found = _by_name(data, names)
    if found is not None:
        return found
    if numbers is not None and (nobody_named or numbers_of(names) is None):
        return _by_value(images, numbers, names, nobody_named, key)
    if nobody_named:
        if len(data) != len(names):
            raise _other_count(images, len(names), key)
        return ClassMatch(in_order.logits, _assumed(data))
    if images.name not in OWN_NAMES and _agree_in_place(data, names):
        remark = f"{_some(data)} taken for the classifier's {_some(names)}, in this order"
        return ClassMatch(in_order.logits, remark)
    raise _differing(images, names, key)


def _counted(images: ImageSet, num_classes: int, key: str) -> ClassMatch:
    """Return the match of labels without names: a label is the index of its logit."""
    if images.num_classes > num_classes:
        if images.labels.min() >= 1 and images.num_classes == num_classes + 1:
            raise _from_one(images, num_classes, key, "subtract 1 from the labels")
        raise _other_count(images, num_classes, key)
    return ClassMatch(tuple(range(images.num_classes)))


def _by_name(data: Sequence[str], names: Sequence[str]) -> ClassMatch | None:
    """Return the match by name, exact or else by what is left of the names when written alike."""
    if set(data) <= set(names):
        return ClassMatch(tuple(names.index(name) for name in data))
    alike, theirs = [_alike(name) for name in data], [_alike(name) for name in names]
    if len({*alike}) < len(alike) or len({*theirs}) < len(theirs) or not {*alike} <= {*theirs}:
        return None
    logits = tuple(theirs.index(name) for name in alike)
    spelled = [
        f"{name} = {names[logit]}"
        for name, logit in zip(data, logits, strict=True)
        if name != names[logit] and numbers_of([name]) is None
    ]
    if not spelled:
        return ClassMatch(logits)
    remark = "class names were matched without regard to case, spaces, hyphens and underscores"
    return ClassMatch(logits, f"{remark} ({_some(spelled)})")


def _by_value(
    images: ImageSet, numbers: Sequence[int], names: Sequence[str], nobody_named: bool, key: str
) -> ClassMatch:
    """Return the match of classes called by numbers with logits that have no such names."""
    if sorted(numbers) == list(range(1, len(names) + 1)):
        advice = f"call them 0 to {len(names) - 1}, or, where logit 0 is class 1, give these names"
        raise _from_one(images, len(names), key, f"{advice} as teacher.class_names")
    if max(numbers) < len(names):
        return ClassMatch(tuple(numbers))
    if nobody_named and len(numbers) == len(names):
        return ClassMatch(tuple(range(len(names))), _assumed(images.class_names))
    raise _other_count(images, len(names), key)


def _alike(name: str) -> str:
    numbers = numbers_of([name])
    if numbers is not None:
        return str(numbers[0])
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(one for one in plain if not one.isspace() and one not in "-_")


def _agree_in_place(data: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether there are as many names, and those known to both stand in the same places."""
    theirs = [_alike(name) for name in names]
    places = ((place, _alike(name)) for place, name in enumerate(data))
    return len(data) == len(names) and all(
        name not in theirs or theirs[place] == name for place, name in places
    )


def _require_distinct(names: Sequence[str], *, key: str) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise InputError(
            f"{key}: {_some(twice)} stands there twice: every class needs its own name"
        )


def _assumed(data: Sequence[str]) -> str:
    pairs = [f"logit {logit} = {name}" for logit, name in enumerate(data)]
    return (
        "classes were matched by their order alone, since the model names none "
        f"({_some(pairs)}): teacher.class_names says what the logits are"
    )


def _from_one(images: ImageSet, num_classes: int, key: str, advice: str) -> InputError:
    return InputError(
        f"{key}: the classes of {images.name} are numbered from 1 to {num_classes}, the logits of "
        f"the classifier from 0 to {num_classes - 1}: {advice}"
    )


def _other_count(images: ImageSet, num_classes: int, key: str) -> InputError:
    which, hint = "", ""
    if images.name in OWN_NAMES and images.named:
        which = f" ({_some(images.class_names)})"
        hint = ": give teacher.class_names, in the order of the logits"
    return InputError(
        f"{key}: {images.name} has {images.num_classes} classes{which}, "
        f"the classifier has {num_classes}{hint}"
    )


def _differing(images: ImageSet, names: Sequence[str], key: str) -> InputError:
    known = {_alike(name) for name in names}
    have = {_alike(name) for name in images.class_names}
    strange = [name for name in images.class_names if _alike(name) not in known]
    missing = [name for name in names if _alike(name) not in have]
    what = f"{images.name} has the classes {_some(strange)}, which the classifier does not name"
    if not strange:
        what = f"the class names of {images.name} can be matched with the classifier's in two ways"
    lacking = f" (it names {_some(missing)} instead)" if missing else ""
    return InputError(
        f"{key}: {what}{lacking}: name classes alike in the data and in teacher.class_names, which "
        "stand in the order of the logits"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
