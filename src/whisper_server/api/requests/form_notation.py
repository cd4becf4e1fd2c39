"""Form fields in all notations of OpenAI's clients: `name[]`, `name[member]`, repeated names, commas, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from whisper_server.api.requests.text import parse_json
from whisper_server.core.errors import BadOption

_BRACKETS = re.compile(r"(\w+)\[(\w*)\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class FormFields:
    """`texts` holds every value of a name, and `members` the values of `name[member]`."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    members: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def collect(cls, pairs: Iterable[tuple[str, str]]) -> FormFields:
        fields = cls()
        for key, text in pairs:
            match = _BRACKETS.fullmatch(key)
            name, member = match.groups() if match else (key, "")
            if member and not member.isdecimal():
                fields.members.setdefault(name, {})[member] = text
            else:
                fields.texts.setdefault(name, []).append(text)
        return fields

    def value(self, name: str) -> str:
        """Return the last value, or the members as JSON; an absent field is empty."""
        if name in self.members:
            return json.dumps(self.members[name])
        return self.texts.get(name, [""])[-1]

    def items(self, name: str) -> list[str]:
        """Return the items of a list without the empty ones; raises BadOption."""
        items = [item for text in self.texts.get(name, []) for item in _items(name, text)]
        return [item.strip() for item in items if item.strip()]


def _items(name: str, text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return text.split(",")
    try:
        items = parse_json(text)
    except (ValueError, RecursionError):
        items = [None]
    if not all(isinstance(item, str) for item in items):
        raise BadOption(name, text, "a JSON array of strings")
    return list(items)
