"""What the fields of a row must hold, as a task declares it: `check_row` finds what is wrong with a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

SHOWN = 40  # characters of a found value that an error shows
TYPES = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def check_row(row: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    """What is wrong with a row, in one line that names the field, or None.

    fields: name -> kind. A dotted name looks inside an object. A kind is a tuple of allowed values, type included, or one of

        text            a string that is not empty after strip
        text with X     the same, with X somewhere in it
        string          a string, which may be empty
        texts           a list of at least one text
        answers         an object with such a list `text`, as SQuAD has it; `answers?` allows an empty list
        spans           an object with such a list `spans` and as many texts `types`, as DROP has it
        bool            true or false
        number          a finite number; `0..5` one from 0 to 5

    >>> check_row({"sentence": " ", "label": 1}, {"sentence": "text", "label": (0, 1)})
    "field 'sentence': the text is empty"
    >>> check_row({"sentence": "fine", "label": 2}, {"sentence": "text", "label": (0, 1)})
    "field 'label': unknown label 2; expected 0 or 1"
    """
    for name, kind in fields.items():
        found: Any = row
        for part in name.split("."):
            if not isinstance(found, Mapping) or part not in found:
                have = ", ".join(map(str, row)) or "none"
                return f"no field {name!r} (fields: {have})"
            found = found[part]
        wrong = _one_of(found, kind) if isinstance(kind, tuple) else _kind(kind)(found)
        if wrong:
            return f"field {name!r}: {wrong}"
    return None


def _one_of(found: Any, allowed: tuple[Any, ...]) -> str | None:
    if any(type(found) is type(value) and found == value for value in allowed):
        return None
    if found is None:
        return f"null; expected {_listed(allowed)}"
    hidden = " (a label that the data's authors keep hidden)" if found == -1 and type(found) is int else ""
    return f"unknown label {_shown(found)}{hidden}; expected {_listed(allowed)}"


def _kind(kind: str) -> Callable[[Any], str | None]:
    if kind in KINDS:
        return KINDS[kind]
    if kind.startswith("text with "):
        return lambda found: _text(found) or _contains(found, kind.removeprefix("text with "))
    if ".." in kind:
        low, high = map(float, kind.split(".."))
        return lambda found: _number(found) or _between(found, low, high)
    raise ValueError(
        f"no kind of field {kind!r}; there are {', '.join(KINDS)}, 'text with X', '0..5' and tuples of values"
    )


def _string(found: Any) -> str | None:
    return None if isinstance(found, str) else _other(found, "a text")


def _text(found: Any) -> str | None:
    return _string(found) or (None if found.strip() else "the text is empty")


def _contains(found: str, part: str) -> str | None:
    return None if part in found else f"{_shown(found)} has no {part} in it"


def _texts(found: Any, empty: bool = False) -> str | None:
    if not isinstance(found, (list, tuple)):
        return _other(found, "a list of texts")
    if not found and not empty:
        return "the list is empty"
    wrong = ((i, _text(value)) for i, value in enumerate(found))
    return next((f"entry {i + 1} of the list: {text}" for i, text in wrong if text), None)


def _inside(name: str, empty: bool = False) -> Callable[[Any], str | None]:
    def check(found: Any) -> str | None:
        if not isinstance(found, Mapping):
            return _other(found, f"an object with a list {name!r}")
        if name not in found:
            return f"no {name!r} in it (it has {', '.join(map(str, found)) or 'nothing'})"
        wrong = _texts(found[name], empty)
        return f"{name!r} in it: {wrong}" if wrong else None

    return check


def _spans(found: Any) -> str | None:
    wrong = _inside("spans")(found) or _inside("types")(found)
    if wrong or len(found["types"]) == len(found["spans"]):
        return wrong
    return f"{len(found['types'])} 'types' in it for {len(found['spans'])} 'spans'"


def _bool(found: Any) -> str | None:
    return None if isinstance(found, bool) else _other(found, "true or false")


def _number(found: Any) -> str | None:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return _other(found, "a number")
    return None if math.isfinite(found) else f"{found} is not a finite number"


def _between(found: float, low: float, high: float) -> str | None:
    return None if low <= found <= high else f"{found:g} is not from {low:g} to {high:g}"


KINDS: dict[str, Callable[[Any], str | None]] = {
    "text": _text,
    "string": _string,
    "texts": _texts,
    "answers": _inside("text"),
    "answers?": _inside("text", empty=True),
    "spans": _spans,
    "bool": _bool,
    "number": _number,
}


def _other(found: Any, expected: str) -> str:
    if found is None:
        return f"null; expected {expected}"
    return f"{_shown(found)} is {TYPES.get(type(found), type(found).__name__)}; expected {expected}"


def _shown(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def _listed(values: tuple[Any, ...]) -> str:
    *most, last = (repr(value) for value in values)
    return f"{', '.join(most)} or {last}" if most else last
