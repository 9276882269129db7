"""Checks of settings that name the key at fault, shared by the modules of this room."""

import math
from collections.abc import Sequence
from typing import Any

from burstbench.errors import UserError


class PlanError(UserError):
    """A wrong setting of a plan; the message begins with the key path."""


def fail(where: str, found: object, expected: str) -> PlanError:
    """Return the error of one key, to be raised."""
    return PlanError(f"{where}: found {found!r}, expected {expected}")


def mapping(
    value: Any, where: str, required: Sequence[str] = (), optional: Sequence[str] = (), needed_by: str = ""
) -> dict[str, Any]:
    """Return `value` if it is a mapping with all required keys and no key beyond the optional ones."""
    if not isinstance(value, dict):
        raise fail(where, value, "a mapping")
    known = [*required, *optional]
    for key in value:
        if key not in known:
            raise PlanError(f"{where}.{key}: unknown key{needed_by}; known here: {', '.join(known) or 'none'}")
    for key in required:
        if key not in value:
            raise PlanError(f"{where}.{key}: missing{needed_by}; known here: {', '.join(known)}")
    return value


def number(value: Any, where: str, above: float | None = None) -> float:
    """Return `value` as a float if it is a finite number, and above the limit."""
    limits = "" if above is None else f" > {above:g}"
    expected = f"a number{limits}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise fail(where, value, expected)
    if above is not None and value <= above:
        raise fail(where, value, expected)
    return float(value)


def whole(value: Any, where: str, least: int = 1) -> int:
    """Return `value` if it is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise fail(where, value, f"a whole number >= {least}")
    return value


def text(value: Any, where: str) -> str:
    """Return `value` if it is a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise fail(where, value, "a text")
    return value


def choice(value: Any, where: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise fail(where, value, f"one of {', '.join(allowed)}")
    return value


def sequence(value: Any, where: str, least: int = 1) -> list[Any]:
    """Return `value` if it is a list of at least `least` items."""
    if not isinstance(value, list) or len(value) < least:
        raise fail(where, value, f"a list of at least {least}")
    return value
