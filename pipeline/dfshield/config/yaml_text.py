"""YAML as configurations are written in it: safe, no key twice, numbers as YAML 1.2 knows them."""

import re
from typing import Any

import yaml

# Numbers of YAML 1.2 with an exponent. YAML 1.1, and so PyYAML, takes those for text that lack a
# point or the exponent's sign.
_WITH_EXPONENT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$")
_TAG = "!number"  # tried where PyYAML finds no other meaning


class WrittenNumber(float):
    """A number such as ``1e-3``, which YAML 1.1 takes for text; it remembers how it was written.

    Attributes:
        text: as it was written.
    """

    text: str

    def __new__(cls, text: str) -> "WrittenNumber":
        """Return the number of a text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type["WrittenNumber"], tuple[str]]:
        return type(self), (self.text,)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where PyYAML silently keeps the last.

    A date stays text, as in YAML 1.2: it may be a name, and nothing here is a date.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"the key {key.value!r} is given twice (line {line})")
                seen.add(key.value)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts quotes around text which `_Loader` would read as a number."""


for _way in (_Loader, _Dumper):
    _way.add_implicit_resolver(_TAG, _WITH_EXPONENT, list("-+.0123456789"))
_Loader.add_constructor(_TAG, lambda _, node: WrittenNumber(node.value))


def read_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: if it is not YAML, or gives a key twice.
        ValueError: for what looks like a date or a number and is none.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


def write_yaml(tree: Any) -> str:
    """Return nested dictionaries as the YAML that `read_yaml` reads back equal."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
