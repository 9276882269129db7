"""The scorecard: verdicts by input, missing tables, files, and the committed claims."""

import csv
import json
import re

import pytest
import yaml
from burstbench.cli import main
from burstbench.contracts import SCORECARD
from burstbench.errors import UserError
from burstbench.layout import SCORECARD as TABLES
from burstbench.paper.claims.evidence import Finding, Number, Tables, digits
from burstbench.paper.scorecard import TESTS, Part, Ruling, definition, judge, read_claims, score, write_scorecard
from claims_data import study, write

TWIN = {"study": "trial", "trace": "twin", "engine": "simulator"}
REAL = {"study": "trial", "trace": "real", "engine": "vllm"}


def part(holds=True, inputs=("trace",), tables=("failures",), **rulings):
    def test(tables, p):
        return Finding((Number("found", 3.0, "s"),), holds, "as tested")

    made = {on: Ruling(*ruling) for on, ruling in rulings.items()}
    return Part("name", "It is so.", "3 s", test, inputs, tables, {}, "none", made)


@pytest.mark.parametrize(
    ("holds", "verdict"), [(True, "reproduced"), (False, "not reproduced"), (None, "not testable here")]
)
def test_without_a_ruling_the_numbers_decide(tmp_path, holds, verdict):
    assert judge(part(holds), study(tmp_path, failures=[]), TWIN)[1:] == (verdict, "as tested")


def test_a_ruling_holds_on_its_input_only(tmp_path):
    tables = study(tmp_path, failures=[])
    ruled = part(twin=("by construction", "it went in"))
    found, verdict, reason = judge(ruled, tables, TWIN)
    assert verdict == "by construction"
    assert reason == "it went in; the test holds (as tested)"
    assert found.measured == "found 3 s"
    assert judge(ruled, tables, REAL)[1] == "reproduced"
    # A part about the servers alone does not mind the twin.
    assert judge(part(inputs=("server",), twin=("by construction", "")), tables, TWIN)[1] == "reproduced"
    simulated = part(inputs=("trace", "server"), simulated=("not testable here", "drawn"))
    assert judge(simulated, tables, TWIN)[1:] == ("not testable here", "drawn")
    assert judge(simulated, tables, REAL)[1] == "reproduced"
    assert judge(simulated, tables, TWIN | {"engine": "vllm-emulated"})[1] == "not testable here"
    assert judge(part(always=("not testable here", "never")), tables, REAL)[1] == "not testable here"
    own = part(other=("not testable here", "about BurstGPT"))
    assert judge(own, tables, REAL)[1] == "reproduced"
    assert judge(own, tables, REAL | {"trace": "other"})[1:] == ("not testable here", "about BurstGPT")


def test_burstgpts_own_size_is_not_asked_of_another_trace(root):
    for ruled in read_claims(root / "config/claims.yaml")[0].parts:
        assert ruled.rulings["other"].verdict == "not testable here"


def test_construction_may_miss_what_it_aims_at(tmp_path):
    missed = part(holds=False, twin=("by construction", "it went in"))
    assert judge(missed, study(tmp_path, failures=[]), TWIN)[2] == "it went in; the test fails (as tested)"
    silent = part(holds=None, twin=("by construction", "it went in"))
    assert judge(silent, study(tmp_path, failures=[]), TWIN)[2] == "it went in; the test cannot tell (as tested)"


def test_a_ruling_without_a_verdict_adds_its_reason(tmp_path):
    noted = part(twin=("", "mind the twin"))
    assert judge(noted, study(tmp_path, failures=[]), TWIN)[1:] == ("reproduced", "as tested; mind the twin")


def test_a_missing_run_is_not_testable_and_a_missing_trace_table_is_an_error(tmp_path, root):
    claims = read_claims(root / "config/claims.yaml")
    trace_tables = {name for claim in claims for part in claim.parts for name in part.tables if name in EMPTY}
    tables = study(tmp_path, **{name: [] for name in trace_tables})
    rows = score(claims, tables, TWIN, tmp_path)
    runs = [row for row in rows if "server" in row["input"]]
    assert runs
    assert {row["verdict"] for row in runs} == {"not testable here"}
    assert all("the study has no table" in row["reason"] for row in runs)
    for name in trace_tables:
        paths = {other: path for other, path in tables.paths.items() if other != name}
        with pytest.raises(UserError, match=f"--table {name}=PATH is missing"):
            score(claims, Tables(paths), TWIN, tmp_path)


EMPTY = {
    "daily_counts", "hourly_counts", "periodicity", "doublings", "gamma_windows", "gamma_families", "length_fits",
    "length_tests", "response_by_request", "failures",
}  # fmt: skip


def test_facts_that_are_not_known_are_refused(tmp_path):
    for key in ("trace", "engine"):
        with pytest.raises(UserError, match=f"facts: {key} is 'x', expected one of"):
            score([], Tables({}), TWIN | {key: "x"}, tmp_path)
        with pytest.raises(UserError, match=f"facts: {key} is None"):
            score([], Tables({}), {name: value for name, value in TWIN.items() if name != key}, tmp_path)


def test_the_committed_claims_are_complete(root):
    claims = read_claims(root / "config/claims.yaml")
    parts = [part for claim in claims for part in claim.parts]
    assert {definition(part.test) for part in parts} == {definition(test) for test in TESTS.values()}
    assert {name for part in parts for name in part.tables} <= set(TABLES)
    for claim in claims:
        for part in claim.parts:
            assert part.tolerance, (claim.number, part.name)
            # What tests the trace says what the twin can tell about it, except where the engine's ruling is enough.
            if "trace" in part.inputs:
                assert part.rulings, (claim.number, part.name)


def test_nothing_about_the_trace_is_reproduced_by_a_twin_made_from_it(root):
    """Only the doublings and the mirrored streams are tested on the twin, with a warning beside the verdict."""
    tested = [
        (claim.number, part.name)
        for claim in read_claims(root / "config/claims.yaml")
        for part in claim.parts
        if "trace" in part.inputs and not any(part.rulings[on].verdict for on in part.rulings)
    ]
    assert {number for number, _ in tested} == {5, 15}
    assert len(tested) == 5


def broken(root, tmp_path, change):
    value = yaml.safe_load((root / "config/claims.yaml").read_text(encoding="utf-8"))
    change(value)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["claims"].pop(3), "expected 1 to 19 in order"),
        (lambda v: v["claims"][0].pop("title"), r"claims\[0\]: key 'title' is missing"),
        (lambda v: v["claims"][0].update(colour="red"), "unknown key 'colour'"),
        (lambda v: v["claims"][0]["parts"][0].update(test="guess"), r"claim 1, part 0 \(all requests\): test 'guess'"),
        (lambda v: v["claims"][0]["parts"][0].update(inputs=["moon"]), r"inputs \['moon'\]"),
        (lambda v: v["claims"][0]["parts"][0].update(tables=["nothing"]), "--table nothing: no table has that name"),
        (lambda v: v["claims"][0]["parts"][0].update(tables=[]), "tables is empty"),
        (lambda v: v["claims"][0]["parts"].append(v["claims"][0]["parts"][0]), "parts of different names"),
        (lambda v: v["claims"][0]["parts"][0]["rulings"].update(moon={"reason": ""}), "'moon' is not one of twin"),
        (
            lambda v: v["claims"][0]["parts"][0]["rulings"]["twin"].update(verdict="reproduced"),
            "numbers decide that, not a ruling",
        ),
    ],
)
def test_wrong_claims_are_refused(root, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_claims(broken(root, tmp_path, change))


def test_a_test_without_its_parameter_is_refused(root, tmp_path):
    path = broken(root, tmp_path, lambda v: v["claims"][0]["parts"][0]["parameters"].pop("expected"))
    (claim, *_) = read_claims(path)
    day = {"day": 1, "date": "2023-11-01", "service": "api", "model": "ChatGPT", "requests": 1}
    with pytest.raises(UserError, match="part 'all requests': the test needs the parameter 'expected'"):
        judge(claim.parts[0], study(tmp_path, daily_counts=[day]), REAL)


@pytest.fixture
def tables(tmp_path):
    """The tables of a study, in its folders; only failures hold anything."""
    folder = tmp_path / "characterise"
    folder.mkdir()
    paths = {name: write(folder, name, []) for name in EMPTY}
    rate = {"requests": 1000, "failed": 60, "rate": 0.06, "low": 0.052, "high": 0.07}
    paths["failures"] = write(folder, "failures", [{"service": "conversation", "model": "ChatGPT"} | rate])
    return paths


def test_the_files_agree_and_are_repeatable(root, tmp_path, tables):
    outputs = [tmp_path / f"scorecard.{suffix}" for suffix in ("csv", "md", "json")]
    write_scorecard(root / "config/claims.yaml", tables, REAL, *outputs)
    first = [path.read_bytes() for path in outputs]
    with outputs[0].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [column.name for column in SCORECARD.columns]
    assert SCORECARD.read(outputs[0]).num_rows == len(rows)
    assert {int(row["claim"]) for row in rows} == set(range(1, 20))
    record = json.loads(first[2])
    assert sum(record["counts"].values()) == len(rows) == len(record["parts"])
    (found,) = [row for row in record["parts"] if row["part"] == "ChatGPT conversation above 5 %"]
    assert found["verdict"] == "reproduced"
    assert found["input"] == "real trace"
    assert found["evidence"] == "characterise/failures.parquet"
    assert found["measured"] == "ChatGPT conversation 6 % [5.2, 7]"
    (only,) = found["numbers"]
    assert found["tolerance"] == "the 95 % Wilson interval lies above 5 %"
    assert found["holds"] is True
    assert (only.pop("label"), only.pop("unit")) == ("ChatGPT conversation", "%")
    assert only == pytest.approx({"value": 6, "low": 5.2, "high": 7})
    page = first[1].decode()
    assert len(re.findall(r"^## \d+\. ", page, re.MULTILINE)) == 19
    assert "twin" not in page.partition("## 1.")[0]
    overview, claims = page.partition("## 1.")[::2]
    for text, columns in ((overview, 5), (claims, 9)):
        for line in text.splitlines():
            if line.startswith("| "):
                assert len(re.split(r"(?<!\\)\|", line)) == columns + 2, line
    assert "| 13. Failures by model and service | 1 |  |  | 6 |" in overview
    write_scorecard(root / "config/claims.yaml", dict(reversed(tables.items())), REAL, *outputs)
    assert [path.read_bytes() for path in outputs] == first


def test_the_page_says_what_was_twin_and_simulated(root, tmp_path, tables):
    outputs = [tmp_path / f"scorecard.{suffix}" for suffix in ("csv", "md", "json")]
    check = tmp_path / "trace/check.csv"
    check.parent.mkdir()
    check.write_text(
        "table,item,unit,published,found,error,reading_error,clipped\n"
        "t,a,requests,100,101,0.01,1,false\nt,b,requests,100,98,-0.02,1,false\nt,c,requests,100,90,-0.1,1,false\n"
        "t,d,requests,100,300,2,1,true\nt,e,requests,0,300,,1,false\n"
    )
    write_scorecard(root / "config/claims.yaml", tables | {"check": check}, TWIN, *outputs)
    top = outputs[1].read_text(encoding="utf-8").partition("## 1.")[0]
    assert "twin" in top
    assert "simulated" in top
    assert "Beside 3 published numbers the trace is off by 2 % in the median (trace/check.csv)." in top
    record = json.loads(outputs[2].read_text(encoding="utf-8"))
    (found,) = [row for row in record["parts"] if row["part"] == "ChatGPT conversation above 5 %"]
    assert (found["verdict"], found["input"]) == ("by construction", "twin")


def test_the_verb(root, tmp_path, tables, capsys):
    arguments = ["paper", "scorecard", "--claims", str(root / "config/claims.yaml"), "--facts", json.dumps(REAL)]
    arguments += [f"--{name}={tmp_path / name}.{name[0]}" for name in ("markdown", "json")]
    arguments += [f"--out={tmp_path / 'scorecard.csv'}"]
    main([*arguments, "--table", *(f"{name}={path}" for name, path in tables.items())])
    assert (tmp_path / "scorecard.csv").is_file()
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--table", "failures"])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--table", "nothing=x.parquet"])
    assert stopped.value.code == 2
    assert "no table has that name" in capsys.readouterr().err


def test_numbers_are_short():
    assert [digits(value) for value in (1429737.0, 1000, 999.6, 0.01234, 0.0)] == [
        "1,429,737", "1,000", "1e+03", "0.0123", "0",
    ]  # fmt: skip
    assert Number("x", None, "s").text == "x not measured"
    assert Number("x", float("nan"), "s").text == "x not measured"
    assert Number("", 5.0, "s", 4.0, 6.0).text == "5 s [4, 6]"
