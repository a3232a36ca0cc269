"""The families of methods: what must hold for every variant of every one of them."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from pydantic import BaseModel
from torch import nn

from dfshield.attacks import FGSM
from dfshield.checks import positive
from dfshield.config import FAMILIES, Config, config_from
from dfshield.config.variants import VariantOf
from dfshield.defences import TTE
from dfshield.diversity import PredictionEntropy
from dfshield.errors import InputError
from dfshield.schedules import Constant
from dfshield.synthesis import DSS
from dfshield.synthesis.augmentations import MixupSet
from dfshield.trackers import Tracker
from dfshield.training import SoftLabelObjective
from dfshield.training.averages import NoAverage
from dfshield.variant_options import REQUIRED, plain

VARIANTS = [(family, name) for family, load in FAMILIES.items() for name in load()]
MINIMAL = {"name": "run", "teacher": {"source": "medmnist:resnet18", "weights": "weights.pt"}}


OF_COMMANDS = {"features", "reference"}
"""Families that no key of a configuration names."""


def required(family, name):
    """What a variant must be given: a radius, or another model."""
    options = family.options(name)
    needed = [option.name for option in options if option.default is REQUIRED]
    return {key: 0.1 if key == "eps" else nn.Linear(1, 2) for key in needed}


OF_FILES = {("features", "vgg16"), ("defences", "dad"), ("defences", "diffpure")}
FREE = [pair for pair in VARIANTS if pair not in OF_FILES]
"""Variants that are made without a file."""


@pytest.mark.parametrize(("family", "name"), FREE)
def test_options_are_the_keyword_arguments_and_stay_as_attributes(family, name):
    family = FAMILIES[family]()
    kinds = {p.kind for p in inspect.signature(family[name]).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    made = family.make(name, **required(family, name))
    assert made.name == name
    for option in family.options(name):
        kept = getattr(made, option.name)
        if isinstance(option.default, int | float):
            assert kept == option.default, option.name


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_the_docstring_says_what_a_variant_is_and_what_its_options_mean(family, name):
    family = FAMILIES[family]()
    assert family.summary(name).endswith(".")
    for option in family.options(name):
        assert option.description.endswith("."), option.name


@pytest.mark.parametrize(("family", "name"), FREE)
def test_the_schema_takes_the_defaults_and_nothing_unknown(family, name):
    family = FAMILIES[family]()
    schema = family.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    options = family.options(name)
    given = {o.name: plain(o.default) for o in options if o.default is not REQUIRED}
    jsonschema.validate({"name": name, **given}, schema)
    jsonschema.validate(name, schema)
    unknown = jsonschema.Draft202012Validator(schema).is_valid({"name": name, "no_such": 1})
    takes_any = any(
        p.kind is p.VAR_KEYWORD for p in inspect.signature(family[name]).parameters.values()
    )
    assert unknown == takes_any
    with pytest.raises(jsonschema.ValidationError, match="'no-such' is not one of"):
        jsonschema.validate({"name": "no-such"}, schema)


ODD_VALUES = """
import sys
from torch import nn
from dfshield.config import FAMILIES
from dfshield.errors import InputError
from test_families import FREE, required

odd = [None, True, -1, 0.5, "x", "", [], [3], {"a": 1}, float("inf"), float("nan"), 10**400]
for family, name in FREE:
    family = FAMILIES[family]()
    for option in family.options(name):
        for value in odd:
            try:
                family.make(name, **required(family, name) | {option.name: value})
            except InputError as error:
                key = str(error).partition(": ")[0]  # or a key inside of it
                assert key.split(".")[0] == option.name, (name, str(error))
                assert "\\n" not in str(error)
"""


def test_odd_values_are_refused_by_the_name_of_the_option():
    """In a process of its own: with type checks at run time these would refuse them first."""
    place = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", ODD_VALUES],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def variant_keys(annotation):
    """The marks of keys that take a variant, anywhere below a type."""
    if isinstance(annotation, VariantOf):
        return [annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.values()
        below = [part for f in fields for part in (f.annotation, *f.metadata)]
    else:
        below = get_args(annotation)
    return [key for part in below for key in variant_keys(part)]


def test_the_list_of_families_is_that_of_the_configuration():
    assert {key.family for key in variant_keys(Config)} == {
        load for name, load in FAMILIES.items() if name not in OF_COMMANDS
    }


# ---------------------------------------------------------------- a variant of one's own


class OwnAttack(FGSM):
    """A step of a share of eps.

    Args:
        share: of eps, above 0.
    """

    name = "own"

    def __init__(self, *, eps: float | int | str, norm: str = "linf", share: float = 0.5) -> None:
        super().__init__(eps=eps, norm=norm)
        self.share = positive(share, "share")


def with_share(base):
    """A variant that is another one, made with its defaults, and has an option of its own."""

    class Own(base):
        """Another variant with a share.

        Args:
            share: above 0.
        """

        name = "own"

        def __init__(self, *, share: float = 0.5) -> None:
            super().__init__()
            self.share = positive(share, "share")

    return Own


class OwnTracker(Tracker):
    """Records nothing.

    Args:
        share: above 0.
    """

    name = "own"

    def __init__(self, *, share: float = 0.5) -> None:
        self.share = positive(share, "share")

    def open(self, run):
        raise NotImplementedError


OWN = {
    "augment": (
        with_share(MixupSet),
        "synthesis.augment",
        lambda v: {"synthesis": {"augment": v, "data": "runs/other"}},
    ),
    "attacks": (OwnAttack, "evaluation.attacks.0", lambda v: {"evaluation": {"attacks": [v]}}),
    "averages": (with_share(NoAverage), "training.average", lambda v: {"training": {"average": v}}),
    "defences": (
        with_share(TTE),
        "evaluation.defences.0",
        lambda v: {"evaluation": {"defences": [v]}},
    ),
    "diversity": (
        with_share(PredictionEntropy),
        "synthesis.diversity.0",
        lambda v: {"synthesis": {"diversity": [v]}},
    ),
    "objectives": (
        with_share(SoftLabelObjective),
        "training.objective",
        lambda v: {"training": {"objective": v}},
    ),
    "schedules": (
        with_share(Constant),
        "training.schedule",
        lambda v: {"training": {"schedule": v}},
    ),
    "synthesizers": (with_share(DSS), "synthesis.method", lambda v: {"synthesis": {"method": v}}),
    "trackers": (OwnTracker, "trackers.0", lambda v: {"trackers": [v]}),
}
"""Of every family a variant, and where a configuration names it."""


@pytest.fixture(params=OWN)
def own(request, monkeypatch):
    """A family that has been given one more variant, the key that names it, and a section of it."""
    family = FAMILIES[request.param]()
    variant, key, section = OWN[request.param]
    monkeypatch.setattr(family, "_variants", {**family})
    assert family.register(variant) is variant
    return family, key, section


def at(config, key):
    """What stands at a key of a configuration."""
    found = config
    for part in key.split("."):
        found = found[int(part)] if part.isdigit() else getattr(found, part)
    return found


def test_one_registration_is_all_that_a_variant_needs(own):
    family, key, section = own
    assert family.make("own", **required(family, "own"), share=2.0).share == 2.0
    assert family.listing()["own"]["options"]["share"]["default"] == 0.5
    schema = jsonschema.Draft202012Validator(Config.model_json_schema())
    for value in ("own", {"name": "own"}, {"name": "own", "share": 2.0}):
        tree = {**MINIMAL, **section(value)}
        schema.validate(tree)
        assert at(config_from(tree), key).name == "own"
    assert at(config_from(tree), key).options == {"share": 2.0}
    with pytest.raises(jsonschema.ValidationError, match="'shar' was unexpected"):
        schema.validate({**MINIMAL, **section({"name": "own", "shar": 2.0})})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"name": "own", "share": -1.0}, ".share: -1.0 must be a number above 0"),
        ({"name": "own", "shar": 1.0}, ".shar: is no option of own: did you mean 'share'?"),
        ({"name": "owm"}, " 'owm' is unknown: did you mean 'own'?"),
        (3, ": a name or a section with a name was expected (got 3)"),
    ],
)
def test_what_is_wrong_with_a_variant_is_said_by_its_key(own, value, said):
    _, key, section = own
    with pytest.raises(InputError) as refused:
        config_from({**MINIMAL, **section(value)})
    message = str(refused.value)
    assert message.startswith(f"config: {key}")
    assert said in message
    assert "\n" not in message


def test_a_name_is_taken_once(own):
    family, *_ = own
    with pytest.raises(InputError, match="'own' is registered already"):
        family.register(family["own"])
