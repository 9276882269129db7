"""`burstbench paper scorecard`: every part of the paper's claims tested on the study's tables, with evidence."""

import argparse
import inspect
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burstbench.cli import settings
from burstbench.contracts import ENGINES, SCORECARD, TRACE_CHECK, TRACES
from burstbench.errors import UserError
from burstbench.files import read_yaml, write_json, write_text
from burstbench.paper.claims import serving, workload
from burstbench.paper.claims.evidence import Finding, NoDataError, Tables, Test, contract_of, digits, of_a_run

TESTS: dict[str, Test] = {**workload.TESTS, **serving.TESTS}

CLAIMS = tuple(range(1, 20))
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_TESTABLE, BY_CONSTRUCTION = "not testable here", "by construction"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, BY_CONSTRUCTION, NOT_TESTABLE)

TRACE_INPUTS = {"real": "real trace", "twin": "twin", "other": "another trace"}
ENGINE_INPUTS = {
    "simulator": "simulated server",
    "vllm-emulated": "emulated server",
    "vllm-cpu": "tiny random model on a CPU",
    "vllm": "measured server",
    "endpoint": "measured server",
}
SIMULATED = ("simulator", "vllm-emulated")
RULED_INPUTS = ("twin", "other", "simulated", "always")
"""On which inputs a part of a claim can have a ruling, the last first: a simulated engine outweighs a twin."""


@dataclass(frozen=True)
class Ruling:
    """What holds for a part on some input, whatever the numbers say.

    Attributes:
        verdict: "by construction" or "not testable here"; "" leaves the tested verdict and adds the reason to it.
        reason: one sentence.
    """

    verdict: str
    reason: str


@dataclass(frozen=True)
class Part:
    """One part of a claim.

    Attributes:
        name: short, unique within the claim.
        statement: what is claimed, in our words.
        published: the paper's value, or "".
        test: the function that tests it.
        inputs: "trace", "server", or both.
        tables: the names of the tables it reads.
        parameters: of the test.
        tolerance: what is allowed, and why.
        rulings: by input, see `RULED_INPUTS`.
    """

    name: str
    statement: str
    published: str
    test: Test
    inputs: tuple[str, ...]
    tables: tuple[str, ...]
    parameters: dict[str, Any]
    tolerance: str
    rulings: dict[str, Ruling] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        number: 1 to 19.
        section: where the paper makes it.
        title: a few words.
        parts: what is tested.
    """

    number: int
    section: str
    title: str
    parts: tuple[Part, ...]


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Read config/claims.yaml.

    Raises:
        UserError: a key is missing or unknown, a test, table, input or verdict is not known, or the claims are not
            1 to 19; the message names claim, part and key.
    """
    value = read_yaml(path)
    rows = _mapping(value, str(path), {"claims"})["claims"]
    claims = []
    for index, row in enumerate(rows):
        where = f"{path}: claims[{index}]"
        row = _mapping(row, where, {"number", "section", "title", "parts"})
        parts = tuple(_part(part, f"{path}: claim {row['number']}, part {n}") for n, part in enumerate(row["parts"]))
        names = Counter(part.name for part in parts)
        if not parts or max(names.values()) > 1:
            raise UserError(f"{path}: claim {row['number']}: expected parts of different names")
        claims.append(Claim(row["number"], str(row["section"]), row["title"], parts))
    if tuple(claim.number for claim in claims) != CLAIMS:
        raise UserError(f"{path}: claims {[claim.number for claim in claims]}, expected 1 to 19 in order")
    return tuple(claims)


def _mapping(value: Any, where: str, required: set[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping, found {value!r}")
    for key in sorted(required - value.keys()):
        raise UserError(f"{where}: key {key!r} is missing")
    for key in sorted(map(str, value.keys() - required - optional)):
        raise UserError(f"{where}: unknown key {key!r}; expected {', '.join(sorted(required | optional))}")
    return value


def _part(value: Any, where: str) -> Part:
    required = {"name", "statement", "test", "inputs", "tables", "tolerance"}
    row = _mapping(value, where, required, frozenset({"published", "parameters", "rulings"}))
    where = f"{where} ({row['name']})"
    if row["test"] not in TESTS:
        raise UserError(f"{where}: test {row['test']!r} is not one of {', '.join(TESTS)}")
    if not row["inputs"] or not set(row["inputs"]) <= {"trace", "server"}:
        raise UserError(f"{where}: inputs {row['inputs']!r}, expected trace, server or both")
    if not row["tables"]:
        raise UserError(f"{where}: tables is empty")
    for name in row["tables"]:
        contract_of(name)
    rulings = {}
    for on, ruling in row.get("rulings", {}).items():
        if on not in RULED_INPUTS:
            raise UserError(f"{where}: rulings: {on!r} is not one of {', '.join(RULED_INPUTS)}")
        ruling = _mapping(ruling, f"{where}: rulings.{on}", {"reason"}, frozenset({"verdict"}))
        verdict = ruling.get("verdict", "")
        if verdict not in {"", BY_CONSTRUCTION, NOT_TESTABLE}:
            raise UserError(f"{where}: rulings.{on}.verdict {verdict!r}: numbers decide that, not a ruling")
        rulings[on] = Ruling(verdict, ruling["reason"])
    return Part(
        row["name"],
        row["statement"],
        str(row.get("published", "")),
        TESTS[row["test"]],
        tuple(row["inputs"]),
        tuple(row["tables"]),
        row.get("parameters", {}),
        row["tolerance"],
        rulings,
    )


def definition(test: Test) -> str:
    """The first paragraph of a test's docstring: how it measures."""
    return " ".join((inspect.getdoc(test) or "").split("\n\n")[0].split())


def judge(part: Part, tables: Tables, facts: Mapping[str, Any]) -> tuple[Finding, str, str]:
    """Test one part.

    Args:
        part: the part.
        tables: of the study.
        facts: what the study is made from; `trace` and `engine` count.

    Returns:
        What was found, the verdict, and the reason for it.
    """
    missing = [name for name in part.tables if name not in tables]
    if missing:
        return Finding((), None, ""), NOT_TESTABLE, f"the study has no table {', '.join(missing)}"
    try:
        found = part.test(tables, part.parameters)
    except NoDataError as error:
        return Finding((), None, ""), NOT_TESTABLE, str(error)
    except KeyError as error:
        raise UserError(f"claims: part {part.name!r}: the test needs the parameter {error}") from error
    if "server" in part.inputs and facts["engine"] == "vllm-cpu":
        return found, NOT_TESTABLE, f"measured on CPU with a tiny random model, not on the paper's ({found.reason})"
    verdict = {True: REPRODUCED, False: NOT_REPRODUCED, None: NOT_TESTABLE}[found.holds]
    reasons = [found.reason]
    active = {
        "twin": "trace" in part.inputs and facts["trace"] == "twin",
        "other": "trace" in part.inputs and facts["trace"] == "other",
        "simulated": "server" in part.inputs and facts["engine"] in SIMULATED,
        "always": True,
    }
    for on in RULED_INPUTS:
        if active[on] and on in part.rulings:
            ruling = part.rulings[on]
            verdict = ruling.verdict or verdict
            if ruling.verdict == BY_CONSTRUCTION:
                # Construction may miss what it aims at: say what the test finds all the same.
                outcome = {True: "holds", False: "fails", None: "cannot tell"}[found.holds]
                reasons = [ruling.reason, f"the test {outcome} ({found.reason})"]
            elif ruling.verdict:
                reasons = [ruling.reason]
            else:
                reasons.append(ruling.reason)
    return found, verdict, "; ".join(reasons)


def score(claims: Sequence[Claim], tables: Tables, facts: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Test every part of every claim.

    Args:
        claims: the claims.
        tables: of the study.
        facts: `trace` and `engine` count.
        folder: the study's folder; evidence is given relative to it.

    Returns:
        Rows of contract `scorecard`, each with `section`, `holds` (what the test finds, whatever the verdict) and
        `numbers` besides.

    Raises:
        UserError: a table of the trace is missing, or a fact is not known.
    """
    for key, known in (("trace", TRACES), ("engine", ENGINES)):
        if facts.get(key) not in known:
            raise UserError(f"facts: {key} is {facts.get(key)!r}, expected one of {', '.join(known)}")
    needed = {name for claim in claims for part in claim.parts for name in part.tables if not of_a_run(name)}
    for name in sorted(needed):
        if name not in tables:
            raise UserError(f"--table {name}=PATH is missing: the claims about the trace need it")
    inputs = {"trace": TRACE_INPUTS[facts["trace"]], "server": ENGINE_INPUTS[facts["engine"]]}
    rows = []
    for claim in claims:
        for part in claim.parts:
            found, verdict, reason = judge(part, tables, facts)
            present = [name for name in part.tables if name in tables]
            rows.append(
                {
                    "claim": claim.number,
                    "section": claim.section,
                    "title": claim.title,
                    "part": part.name,
                    "statement": part.statement,
                    "measured": found.measured or "nothing",
                    "published": part.published,
                    "test": definition(part.test),
                    "tolerance": part.tolerance,
                    "verdict": verdict,
                    "input": " + ".join(inputs[name] for name in part.inputs),
                    "evidence": "; ".join(os.path.relpath(tables.paths[name], folder) for name in present),
                    "reason": reason,
                    "holds": found.holds,
                    "numbers": [number.record for number in found.numbers],
                }
            )
    return rows


def made_from(facts: Mapping[str, Any]) -> list[str]:
    """Sentences that say what is not recorded or measured in this study; none when all is."""
    said = []
    if facts["trace"] == "twin":
        said.append(
            "The trace is a statistical twin made from published numbers: what it was made from counts as "
            "“by construction”, never as reproduced."
        )
    if facts["trace"] == "other":
        said.append("The trace is not BurstGPT: what the paper says of that one's size and period is not tested.")
    if facts["engine"] == "simulator":
        said.append("The servers are simulated: no GPU was used.")
    if facts["engine"] == "vllm-emulated":
        said.append("The servers are a real vLLM whose model steps are emulated: no GPU was used.")
    if facts["engine"] == "vllm-cpu":
        said.append("The server is a real vLLM, measured on CPU with a tiny random model: no GPU was used.")
    return said


def closeness(check: Path) -> str:
    """One sentence on how near the trace is to the published numbers, from check.csv."""
    table = TRACE_CHECK.read(check)
    errors = sorted(
        abs(error)
        for error, unit, clipped in zip(
            *(table.column(name).to_pylist() for name in ("error", "unit", "clipped")), strict=True
        )
        if error is not None and unit != "1" and not clipped
    )
    if not errors:
        return "No published number can be compared with the trace."
    middle = errors[len(errors) // 2]
    return (
        f"Beside {len(errors)} published numbers the trace is off by {digits(100 * middle)} % in the median "
        f"({check.parent.name}/{check.name})."
    )


def markdown(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The scorecard as a page: what it rests on, verdicts counted, then every claim with its parts."""
    counts = Counter(row["verdict"] for row in rows)
    lines = [
        f"# Scorecard of the study “{facts['study']}”",
        "",
        f"{len(rows)} parts of {len({row['claim'] for row in rows})} claims: "
        + ", ".join(f"**{counts[verdict]}** {verdict}" for verdict in VERDICTS)
        + ".",
        "",
        *(f"{note}  " for note in notes),
        "",
        "| claim | " + " | ".join(VERDICTS) + " |",
        "|---|" + "---:|" * len(VERDICTS),
    ]
    of_claim = Counter((row["claim"], row["verdict"]) for row in rows)
    for number, title in {row["claim"]: row["title"] for row in rows}.items():
        counted = [str(of_claim[number, verdict] or "") for verdict in VERDICTS]
        lines.append(f"| {number}. {title} | " + " | ".join(counted) + " |")
    claim = None
    for row in rows:
        if row["claim"] != claim:
            claim = row["claim"]
            lines += [
                "",
                f"## {claim}. {row['title']} (section {row['section']})",
                "",
                "| part | claimed | verdict | measured | paper | tolerance | input | evidence | why |",
                "|---|---|---|---|---|---|---|---|---|",
            ]
        cells = (
            row["part"],
            row["statement"],
            f"**{row['verdict']}**",
            row["measured"],
            row["published"],
            row["tolerance"],
            row["input"],
            ", ".join(f"[{path}]({path})" for path in row["evidence"].split("; ") if path),
            row["reason"],
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    lines += [
        "",
        "## How each part was tested",
        "",
        *(f"- **{row['claim']}, {row['part']}**: {row['test']}" for row in rows),
        "",
    ]
    return "\n".join(lines)


def table_path(text: str) -> tuple[str, Path]:
    """Parse `NAME=PATH`."""
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, found {text!r}")
    return name, Path(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("--claims", type=Path, required=True, help="the claims: config/claims.yaml")
    parser.add_argument(
        "--table",
        type=table_path,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=PATH",
        help="a table of the study; may be given again",
    )
    parser.add_argument("--facts", type=settings, required=True, help="what was run: a JSON object, or a file with one")
    parser.add_argument("--out", type=Path, required=True, help="scorecard.csv in the study's folder, to write")
    parser.add_argument("--markdown", type=Path, required=True, help="the same as a page, to write")
    parser.add_argument("--json", type=Path, required=True, help="the same with numbers and facts, to write")


def run(args: argparse.Namespace) -> None:
    """Run the verb."""
    write_scorecard(args.claims, dict(args.table), args.facts, args.out, args.markdown, args.json)


def write_scorecard(
    claims_path: Path, paths: Mapping[str, Path], facts: Mapping[str, Any], out: Path, page: Path, json_path: Path
) -> None:
    """Test the claims and write the scorecard.

    Args:
        claims_path: config/claims.yaml.
        paths: the study's tables by name.
        facts: what the study is made from.
        out: the CSV, in the study's folder; evidence is relative to it.
        page: the Markdown page.
        json_path: the JSON file: rows with the numbers behind them, facts, counts.

    Raises:
        UserError: see `read_claims` and `score`; or a table breaks its contract.
    """
    claims = read_claims(claims_path)
    rows = score(claims, Tables(paths), facts, out.parent)
    notes = made_from(facts) + ([closeness(paths["check"])] if "check" in paths else [])
    names = [column.name for column in SCORECARD.columns]
    SCORECARD.write({name: [row[name] for row in rows] for name in names}, out)
    write_text(page, markdown(rows, facts, notes))
    counts = Counter(row["verdict"] for row in rows)
    write_json(
        json_path,
        {"facts": dict(facts), "notes": notes, "counts": {name: counts[name] for name in VERDICTS}, "parts": rows},
    )
