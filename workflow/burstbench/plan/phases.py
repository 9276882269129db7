"""The grammar of an experiment's phases.

An experiment is a list of phases, run one after the other. Each has a `name` and exactly one of

| key | the phase |
|---|---|
| seconds: S | lasts S seconds; parameters may follow the time |
| requests: N | has N requests; parameters may follow the request number |
| mirror: {...} | follows the trace's average workday, window by window (module mirror) |
| replay: {...} | sends a window of the trace's own requests at their own times, scaled (module replay) |

and may have

| key | meaning |
|---|---|
| every: M | of `requests`: parameters are held for M requests at a time; these are its steps |
| every_s: W | of `seconds`: parameters are held for W seconds at a time; these are its steps |
| alpha, beta, theta | functions (module functions); absent: the initial value. Not alpha and beta of `mirror` |
| lengths | {kind: zipf} (default; theta), {kind: trace, service, model} (the trace's own), {kind: constant, tokens}, |
| | {kind: joint, service, model} (request and response of one request of the trace; the response limits max_tokens) |
"""

from pathlib import Path
from typing import Any

from burstbench.contracts import SERVICES
from burstbench.plan import functions, replay
from burstbench.plan.checks import PlanError, choice, fail, mapping, number, sequence, text, whole

EXTENTS = ("seconds", "requests", "mirror", "replay")
PARAMETERS = ("alpha", "beta", "theta")
LENGTHS = ("zipf", "trace", "constant", "joint")
# beta of Table III and its functions: the scale of the gaps [s], its reciprocal [1/s], or the mean gap [s].
BETA_KINDS = ("scale", "rate", "mean_gap")
# What a mirrored stream keeps of the trace: its rates (and alpha), or its fitted scales (and alpha).
MIRROR_KINDS = ("rate", "scale")


def validate(phases: Any, where: str = "phases", prompt_max_tokens: int | None = None) -> None:
    """Refuse phases that are not right, before any job starts; reads no file.

    Args:
        phases: the experiment's list, as in the configuration.
        where: its key path, for messages.
        prompt_max_tokens: longest prompt, to check constant lengths against.

    Raises:
        PlanError: a UserError that names the key path, what was found and what was expected.
    """
    names: list[str] = []
    for place, phase in enumerate(sequence(phases, where)):
        at = f"{where}[{place}]"
        _validate_phase(phase, at, prompt_max_tokens)
        if phase["name"] in names:
            raise fail(f"{at}.name", phase["name"], "a name of its own: an earlier phase has it")
        names.append(phase["name"])


def files(phases: list[dict[str, Any]]) -> list[Path]:
    """Return the CSV files that the functions of valid phases read, each once, in order."""
    found = [
        Path(phase[parameter]["csv"])
        for phase in phases
        for parameter in PARAMETERS
        if phase.get(parameter, {}).get("kind") == "table"
    ]
    return list(dict.fromkeys(found))


def lengths_kind(phase: dict[str, Any]) -> str:
    """Return where a valid phase takes its lengths from."""
    return phase.get("lengths", {"kind": "replay" if "replay" in phase else "zipf"})["kind"]


def needs_trace(phase: dict[str, Any]) -> bool:
    """Whether a valid phase is planned from the trace's own requests."""
    return lengths_kind(phase) in {"replay", "joint"}


def follows_trace(phase: dict[str, Any]) -> bool:
    """Whether a valid phase follows the trace in anything: its requests, its lengths or its fitted profile."""
    return "mirror" in phase or lengths_kind(phase) in {"replay", "joint", "trace"}


def _validate_phase(phase: Any, at: str, prompt_max_tokens: int | None) -> None:
    if not isinstance(phase, dict):
        raise fail(at, phase, "a mapping with a name and one of " + ", ".join(EXTENTS))
    given = [key for key in EXTENTS if key in phase]
    if len(given) != 1:
        raise PlanError(f"{at}: found {' and '.join(given) or 'none'} of {', '.join(EXTENTS)}, expected exactly one")
    kind = given[0]
    optional = ["theta", "lengths"]
    if kind == "replay":
        optional = []
    elif kind != "mirror":
        optional += ["alpha", "beta", "every" if kind == "requests" else "every_s"]
    mapping(phase, at, ["name", kind], optional, f" in a phase of `{kind}`")
    text(phase["name"], f"{at}.name")

    every: float | None = None
    length: float | None = None
    if kind == "requests":
        length = whole(phase["requests"], f"{at}.requests")
        if "every" in phase:
            every = whole(phase["every"], f"{at}.every")
    elif kind == "seconds":
        length = number(phase["seconds"], f"{at}.seconds", above=0)
        if "every_s" in phase:
            every = number(phase["every_s"], f"{at}.every_s", above=0)
    elif kind == "replay":
        replay.validate(phase["replay"], f"{at}.replay")
    else:
        _validate_mirror(phase["mirror"], f"{at}.mirror")
    if length is not None and every is not None and every > length:
        key = "every" if kind == "requests" else "every_s"
        raise fail(f"{at}.{key}", phase[key], f"at most the whole phase, {length:g}")

    axis = "request" if kind == "requests" else "time"
    for parameter in PARAMETERS:
        if parameter in phase:
            functions.check(phase[parameter], f"{at}.{parameter}", axis, parameter, length, every)
    if "lengths" in phase:
        _validate_lengths(phase["lengths"], f"{at}.lengths", prompt_max_tokens)
        if "theta" in phase and lengths_kind(phase) != "zipf":
            raise fail(f"{at}.theta", phase["theta"], f"no theta: lengths of kind {lengths_kind(phase)!r} have none")


def _validate_mirror(mirror: Any, at: str) -> None:
    mapping(mirror, at, ["service", "model", "compressed_s", "scaled_to"], ["kind"])
    choice(mirror["service"], f"{at}.service", SERVICES)
    text(mirror["model"], f"{at}.model")
    number(mirror["compressed_s"], f"{at}.compressed_s", above=0)
    choice(mirror["scaled_to"], f"{at}.scaled_to", SERVICES)
    choice(mirror.get("kind", "rate"), f"{at}.kind", MIRROR_KINDS)


def _validate_lengths(lengths: Any, at: str, prompt_max_tokens: int | None) -> None:
    if not isinstance(lengths, dict) or "kind" not in lengths:
        raise fail(at, lengths, f"a mapping with a kind: {', '.join(LENGTHS)}")
    kind = choice(lengths["kind"], f"{at}.kind", LENGTHS)
    for_kind = f" for kind {kind!r}"
    if kind in {"trace", "joint"}:
        mapping(lengths, at, ["kind", "service", "model"], needed_by=for_kind)
        choice(lengths["service"], f"{at}.service", SERVICES)
        text(lengths["model"], f"{at}.model")
    elif kind == "constant":
        mapping(lengths, at, ["kind", "tokens"], needed_by=for_kind)
        tokens = whole(lengths["tokens"], f"{at}.tokens")
        if prompt_max_tokens is not None and tokens > prompt_max_tokens:
            raise fail(f"{at}.tokens", tokens, f"at most the longest prompt, {prompt_max_tokens} tokens")
    else:
        mapping(lengths, at, ["kind"], needed_by=for_kind)
