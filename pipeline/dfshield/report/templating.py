"""The template environment of the page and of the model card."""

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dfshield.engine.trial import format_iteration
from dfshield.report.scores import format_eps, format_norm, format_percent, format_points
from dfshield.results import COLLAPSE_SHARE


@cache
def environment() -> Environment:
    """Return the environment: escaping is on, a missing name is an error."""
    made = Environment(
        loader=PackageLoader("dfshield.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": format_percent,
        "points": format_points,
        "eps": format_eps,
        "norm": format_norm,
        "duration": format_duration,
        "iteration": format_iteration,
        "setting": format_setting,
        "words": format_words,
        "data_uri": data_uri,
        "inline": markdown_inline,
        "fenced": markdown_fenced,
    }
    made.globals["collapse_share"] = f"{100 * COLLAPSE_SHARE:g} %"
    return made


def data_uri(png: bytes) -> str:
    """Return a PNG as a ``data:`` address, so that a page needs no second file."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def format_duration(seconds: float) -> str:
    """Return a time in the two largest units that it has: ``"3 min 12 s"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min {whole % 60} s" if not hours else f"{hours} h {minutes % 60} min"


def format_words(name: str) -> str:
    """Return the name of an option as words: ``"learning_rate"`` is ``"Learning rate"``."""
    return name.replace("_", " ").capitalize()


def format_setting(value: object) -> str:
    """Return the value of an option; of a section, what is neither empty, off nor zero."""
    if isinstance(value, Mapping):
        shown = {key: item for key, item in value.items() if item not in (None, False, 0)}
        return ", ".join(f"{key} {format_setting(item)}" for key, item in shown.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def markdown_inline(text: object) -> Markup:
    """Return text that Markdown shows as it stands, on one line, also inside a table cell."""
    line = str(escape(" ".join(str(text).split())))
    return Markup(re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", line))


def markdown_fenced(text: str, language: str) -> Markup:
    """Return a code block with a fence longer than any inside the text."""
    runs = re.findall(r"`{3,}", text)
    fence = "`" * max([3] + [len(run) + 1 for run in runs])
    # A code block shows its text literally: escaping would show the entities.
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")
