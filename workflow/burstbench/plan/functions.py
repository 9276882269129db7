"""alpha, beta and theta as functions of the progress of a phase, of time, or of the request number.

A function is a small mapping of the configuration with a `kind`. `check` refuses a wrong one by its key before any job
starts; `evaluate` turns it into one value for each point of a phase. Both know nothing of Gamma or Zipf.

| kind | keys | value |
|---|---|---|
| constant | value | `value` |
| linear | from, to | the initial value times a factor that goes from `from` to `to` |
| quadratic | extreme | times a parabola that is 1 at both ends of the phase and `extreme` in its middle |
| steps | factors, every or every_s | times factors[0] for `every` requests (`every_s` s), then factors[1] ... |
| sweep | reading, extreme = 0.25 | one of three readings of Fig. 17, for alpha alone (below) |
| table | csv | columns `time_s` or `request`, and `value` or `factor`; a row holds until the next |
| expression | text | a formula of `u` (progress, 0 to 1), `t` (s) or `i` (request), and `initial` |

The readings of Fig. 17's sweep of alpha, by name:

| reading | alpha | beta, and so the mean rate |
|---|---|---|
| quadratic | the initial value times the parabola, as the paper's text has it | stays: the rate rises as alpha falls |
| mean_rate | the same | times initial alpha / alpha: the mean rate stays, burstiness alone moves |
| cv_steps | 1 / CV^2; CV goes from 2 to 64, back to 2, to 32, 16, 8, 4, as in the data set's example client | stays |
"""

import ast
import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench.plan.checks import PlanError, choice, fail, mapping, number, sequence, text, whole

Values = NDArray[np.float64]

KINDS = ("constant", "linear", "quadratic", "steps", "sweep", "table", "expression")
READINGS = ("quadratic", "mean_rate", "cv_steps")
EXTREME = 0.25
CV_LOW, CV_PEAKS = 2.0, (64.0, 32.0, 16.0, 8.0, 4.0)


@dataclass(frozen=True)
class Points:
    """Where functions are evaluated: one point for each request, or for each stretch over which parameters are held.

    Attributes:
        u: progress through the phase, 0 at its first point to 1 at its last, shape (n,).
        position: seconds from the start of the phase, or number of the request within it (from 0), shape (n,).
        axis: "time" or "request": what `position` is.
    """

    u: Values
    position: Values
    axis: str


def check(spec: Any, where: str, axis: str, parameter: str, length: float | None, every: float | None) -> None:
    """Refuse a function that is not right.

    Args:
        spec: the function's mapping.
        where: its key path, for messages.
        axis: "time" or "request", the axis of its phase.
        parameter: alpha, beta or theta.
        length: seconds or requests of the phase; None where only the data tell (mirrored phases).
        every: over how many seconds or requests the phase holds its parameters, if it says so.

    Raises:
        PlanError: naming the key, what was found and what was expected.
    """
    if not isinstance(spec, dict):
        raise fail(where, spec, "a function: a mapping with a `kind`")
    if "kind" not in spec:
        raise PlanError(f"{where}.kind: missing; one of {', '.join(KINDS)}")
    kind = choice(spec["kind"], f"{where}.kind", KINDS)
    shared = ["kind"]
    for_kind = f" for kind {kind!r}"
    if kind == "constant":
        mapping(spec, where, ["value"], shared, for_kind)
        number(spec["value"], f"{where}.value", above=0)
    elif kind == "linear":
        mapping(spec, where, ["from", "to"], shared, for_kind)
        number(spec["from"], f"{where}.from", above=0)
        number(spec["to"], f"{where}.to", above=0)
    elif kind == "quadratic":
        mapping(spec, where, ["extreme"], shared, for_kind)
        number(spec["extreme"], f"{where}.extreme", above=0)
    elif kind == "steps":
        _check_steps(spec, where, axis, length, every, shared)
    elif kind == "sweep":
        _check_sweep(spec, where, parameter, shared)
    elif kind == "table":
        mapping(spec, where, ["csv"], shared, for_kind)
        text(spec["csv"], f"{where}.csv")
    else:
        mapping(spec, where, ["text"], shared, for_kind)
        parse(spec["text"], f"{where}.text", axis)


def evaluate(spec: dict[str, Any], where: str, points: Points, initial: float, every: float | None) -> Values:
    """Return the function's value at each point.

    Args:
        spec: a function that `check` accepted.
        where: its key path, for messages.
        points: n points.
        initial: the initial value of the parameter (Table III), in its unit.
        every: as in `check`.

    Returns:
        shape (n,), in the unit of `initial`.

    Raises:
        PlanError: a value is not finite or not above 0, or the table does not fit.
    """
    kind = spec["kind"]
    if kind == "constant":
        values = np.full(len(points.u), float(spec["value"]))
    elif kind == "linear":
        values = initial * (spec["from"] + (spec["to"] - spec["from"]) * points.u)
    elif kind == "quadratic":
        values = _quadratic(points.u, initial, spec["extreme"])
    elif kind == "steps":
        factors = np.asarray(spec["factors"], dtype=np.float64)
        width = np.float64(spec.get("every" if points.axis == "request" else "every_s", every))
        # Positions are multiples of a decimal width: 0.3 / 0.1 is 2.9999999999999996, and belongs to step 3.
        step = (points.position / width * (1 + 1e-12)).astype(np.int64)
        if step[-1] >= len(factors):  # known beforehand but for mirrored phases, whose length the data tell
            raise fail(f"{where}.factors", spec["factors"], f"{step[-1] + 1} factors")
        values = initial * factors[step]
    elif kind == "sweep":
        cv_steps = spec["reading"] == "cv_steps"
        values = _cv_steps(points.u) if cv_steps else _quadratic(points.u, initial, spec.get("extreme", EXTREME))
    elif kind == "table":
        values = _table(spec, where, points, initial)
    else:
        values = rounded(_expression(spec, where, points, initial))
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if bad.size:
        place = bad[0]
        unit = "s" if points.axis == "time" else ""
        at = "request" if points.axis == "request" else "time"
        raise fail(
            where,
            float(values[place]),
            f"a finite value > 0 everywhere (it fails at {at} {points.position[place]:g}{unit} of the phase, u = "
            f"{points.u[place]:g}, and at {bad.size} of {len(values)} points)",
        )
    return values


def rounded(values: Values) -> Values:
    """Round to 40 bits (12 decimal digits).

    NumPy's exp, sin and the like differ in their last bits from one processor to another; a plan must not.
    """
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2.0**40) * 2.0**-40, exponent)


def _quadratic(u: Values, initial: float, extreme: float) -> Values:
    # 4u(1 - u) is 0 at both ends and 1 in the middle.
    return initial * (1.0 + (extreme - 1.0) * 4.0 * u * (1.0 - u))


# steps and sweep ------------------------------------------------------------------------------------------------------


def _check_steps(
    spec: dict[str, Any], where: str, axis: str, length: float | None, every: float | None, shared: list[str]
) -> None:
    key = "every" if axis == "request" else "every_s"
    mapping(spec, where, ["factors"], [*shared, key], " for kind 'steps'")
    factors = sequence(spec["factors"], f"{where}.factors")
    for place, factor in enumerate(factors):
        number(factor, f"{where}.factors[{place}]", above=0)
    if key in spec:
        every = (
            whole(spec[key], f"{where}.{key}") if axis == "request" else number(spec[key], f"{where}.{key}", above=0)
        )
    if every is None:
        raise PlanError(f"{where}.{key}: missing, here and in the phase: over how much each factor is held")
    if length is not None:
        needed = steps_of(length, every)
        if len(factors) != needed:
            raise fail(
                f"{where}.factors",
                factors,
                f"{needed} factors: the phase has {length:g} {axis_unit(axis)}, {every:g} a factor",
            )


def steps_of(length: float, every: float) -> int:
    """Return how many steps of `every` cover `length`; the last may be shorter."""
    # A sum of decimal seconds may exceed its whole by a rounding error: 3 * 0.1 > 0.3.
    return max(1, math.ceil(length / every * (1 - 1e-12)))


def axis_unit(axis: str) -> str:
    """Return the unit of a position on the axis."""
    return "requests" if axis == "request" else "s"


def _check_sweep(spec: dict[str, Any], where: str, parameter: str, shared: list[str]) -> None:
    if parameter != "alpha":
        raise fail(f"{where}.kind", "sweep", f"another kind: a sweep moves alpha, not {parameter}")
    mapping(spec, where, ["reading"], [*shared, "extreme"], " for kind 'sweep'")
    reading = choice(spec["reading"], f"{where}.reading", READINGS)
    if "extreme" in spec:
        if reading == "cv_steps":
            raise fail(f"{where}.extreme", spec["extreme"], "no extreme: the reading 'cv_steps' has none")
        number(spec["extreme"], f"{where}.extreme", above=0)


def _cv_steps(u: Values) -> Values:
    place = u * (2 * len(CV_PEAKS))  # in legs, up and down in turn
    peak = np.asarray(CV_PEAKS)[np.minimum((place / 2).astype(np.int64), len(CV_PEAKS) - 1)]
    rise = 1.0 - np.abs(np.mod(place, 2.0) - 1.0)  # 0 at the start of a cycle, 1 after one leg, 0 at its end
    return 1.0 / np.square(CV_LOW + (peak - CV_LOW) * rise)


# table ----------------------------------------------------------------------------------------------------------------


def _table(spec: dict[str, Any], where: str, points: Points, initial: float) -> Values:
    path = Path(spec["csv"])
    wanted = "time_s" if points.axis == "time" else "request"
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise PlanError(f"{where}.csv: {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlanError(f"{where}.csv: {path}: not a CSV file in UTF-8: {error}") from error
    header = rows[0] if rows else []
    if len(header) != 2 or header[0] != wanted or header[1] not in {"value", "factor"}:
        raise fail(
            f"{where}.csv",
            ",".join(header),
            f"the header {wanted},value or {wanted},factor in {path} (the phase counts {wanted})",
        )
    starts: list[float] = []
    values: list[float] = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            start, value = (float(field) for field in row)
        except ValueError as error:
            raise fail(f"{where}.csv", ",".join(row), f"two numbers in line {line} of {path}") from error
        if not math.isfinite(start) or (start != 0 if not starts else start <= starts[-1]):
            expected = f"a {wanted} above {starts[-1]:g}" if starts else f"{wanted} 0, the start of the phase,"
            raise fail(f"{where}.csv", start, f"{expected} in line {line} of {path}")
        if not (math.isfinite(value) and value > 0):
            raise fail(f"{where}.csv", value, f"a finite {header[1]} > 0 in line {line} of {path}")
        starts.append(start)
        values.append(value)
    if not starts:
        raise fail(f"{where}.csv", "no rows", f"at least one row in {path}")
    held = np.asarray(values)[np.searchsorted(np.asarray(starts), points.position, side="right") - 1]
    return held * initial if header[1] == "factor" else held


# expression -----------------------------------------------------------------------------------------------------------

_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "sqrt": (1, np.sqrt),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
    "floor": (1, np.floor),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "where": (3, np.where),
}
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_LONGEST = 500
_CONSTANTS = {"pi": math.pi}


def parse(formula: Any, where: str, axis: str) -> ast.expr:
    """Return the syntax tree of a formula that holds nothing but numbers, the known names, functions and operators.

    Nothing is ever passed to `eval`: the tree is walked by `_walk`, which knows the same few nodes.

    Raises:
        PlanError: it is not a formula, too long, or names something unknown.
    """
    source = text(formula, where)
    if len(source) > _LONGEST:
        raise fail(where, f"{len(source)} characters", f"at most {_LONGEST}")
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise fail(where, source, f"a formula ({error})") from error
    position = "t" if axis == "time" else "i"
    names = ["u", position, "initial", *_CONSTANTS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id not in names and node.id not in _FUNCTIONS:
                other = {"t": "the phase lasts requests", "i": "the phase lasts seconds"}.get(node.id, "")
                raise fail(where, node.id, f"one of the names {', '.join(names)}" + (f" ({other})" if other else ""))
        elif isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
                raise fail(where, ast.unparse(node.func), f"one of the functions {', '.join(_FUNCTIONS)}")
            wanted = _FUNCTIONS[node.func.id][0]
            if node.keywords or len(node.args) != wanted or any(isinstance(a, ast.Starred) for a in node.args):
                raise fail(where, ast.unparse(node), f"{node.func.id} with {wanted} argument{'s' * (wanted > 1)}")
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, int | float):
                raise fail(where, node.value, "numbers only")
        elif isinstance(node, ast.Compare):
            if len(node.ops) != 1:
                raise fail(where, ast.unparse(node), "one comparison at a time")
        elif not isinstance(node, ast.BinOp | ast.UnaryOp | ast.Load) and type(node) not in _OPERATORS:
            raise fail(
                where, ast.unparse(node) or type(node).__name__, "arithmetic, comparisons and known functions only"
            )
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and (node.id in _FUNCTIONS) != (id(node) in functions):
            raise fail(where, node.id, "a function followed by its arguments")
    return tree


def _walk(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)  # `parse` let nothing else through
        return np.float64(node.value)
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_walk(node.left, names), _walk(node.right, names))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_walk(node.operand, names))
    if isinstance(node, ast.Compare):
        return _OPERATORS[type(node.ops[0])](_walk(node.left, names), _walk(node.comparators[0], names))
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id][1](*(_walk(argument, names) for argument in node.args))


def _expression(spec: dict[str, Any], where: str, points: Points, initial: float) -> Values:
    tree = parse(spec["text"], f"{where}.text", points.axis)
    position = "t" if points.axis == "time" else "i"
    names = {"u": points.u, position: points.position, "initial": np.float64(initial), **_CONSTANTS}
    with np.errstate(all="ignore"):  # what is not finite is refused by `evaluate`, with its place
        try:
            result = _walk(tree, names)
        except (TypeError, ValueError, OverflowError) as error:
            raise fail(f"{where}.text", spec["text"], f"a formula of numbers ({error})") from error
    return np.broadcast_to(np.asarray(result, dtype=np.float64), points.u.shape).copy()
