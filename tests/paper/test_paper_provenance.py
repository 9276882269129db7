"""The record of a study, its crate, and what `verify` finds when a file is not as recorded."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import requests
import rocrate
from burstbench import cli
from burstbench.errors import UserError
from burstbench.fingerprint import code
from burstbench.paper import provenance
from burstbench.paper.crate import crate
from paper_inputs import FACTS
from rocrate.rocrate import ROCrate
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

TABLE, PAGE, PICTURE = "results/trial/trace/trace.parquet", "results/trial/report.html", "results/trial/fig.png"
RAW = "data/raw/log/log.csv"


def remember(job, inputs, outputs, command, modules):
    """Write the record of a job in the form of Snakemake."""
    for output in outputs:
        record = {
            "record_format_version": 6, "rule": job, "input": inputs, "incomplete": False, "starttime": 1.5,
            "shellcmd": command, "params": ["'x'", repr(modules), "PosixPath('a')"],
        }  # fmt: skip
        file = Path(".snakemake/metadata", base64.b64encode(output.encode()).decode())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A repository of two jobs: raw log to table, table and template to page and picture."""
    monkeypatch.chdir(tmp_path)
    for path, text in {
        RAW: "a,b\n", "template.j2": "page", TABLE: "table", PAGE: "<p>", PICTURE: "png", "results/trial/logs/x.log": ""
    }.items():  # fmt: skip
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    origin = {"url": "https://example.org/log.csv", "licence": "CC-BY-4.0", "version": "1.1", "sha256": "0"}
    Path("data/raw/log/provenance.json").write_text(json.dumps(origin))
    read, page = code("trace.read"), code("paper.html")
    remember(
        "trace", [RAW], [TABLE], f"burstbench trace read --threads 2 --out {TABLE} 2> results/trial/logs/x.log", read
    )
    remember("page", [TABLE, "template.j2"], [PICTURE, PAGE], f"burstbench paper html --out {PAGE} 2> x", page)
    remember("old", [TABLE], ["results/trial/old.csv"], "burstbench paper html --out old", page)
    Path("facts.json").write_text(json.dumps(FACTS))
    make()
    return tmp_path


def make():
    folder = "results/trial"
    cli.main(["paper", "provenance", "--product", PAGE, "--facts", "facts.json", "--out", f"{folder}/provenance.json"])
    words = ["--provenance", f"{folder}/provenance.json", "--out", f"{folder}/ro-crate-metadata.json"]
    cli.main(["paper", "crate", *words])


def verify(capsys, *words):
    """Return the exit status and the printed (kind, path) of what was found."""
    status = 0
    try:
        cli.main(["verify", "results/trial", *words])
    except SystemExit as stop:
        status = stop.code
    lines = capsys.readouterr().out.splitlines()
    return status, [tuple(line.split(":")[0].split()) for line in lines if "as recorded" not in line]


def test_the_record_holds_each_file_and_job_on_the_way_to_the_products(study):
    record = json.loads(Path("results/trial/provenance.json").read_text())
    assert set(record["files"]) == {RAW, "template.j2", TABLE, PAGE, PICTURE}
    assert record["files"][TABLE] == {"bytes": 5, "sha256": hashlib.sha256(b"table").hexdigest()}
    assert record["files"][RAW]["url"] == "https://example.org/log.csv"
    first, second = record["jobs"]
    assert (first["rule"], first["outputs"]) == ("page", [PICTURE, PAGE])
    assert second["command"] == f"burstbench trace read --out {TABLE}"
    assert second["code"] == code("trace.read")
    assert record["marks"].keys() == {"twin", "simulated"}


def test_the_same_study_is_the_same_bytes(study):
    first = [Path("results/trial", name).read_bytes() for name in ("provenance.json", "ro-crate-metadata.json")]
    make()
    assert first == [Path("results/trial", name).read_bytes() for name in ("provenance.json", "ro-crate-metadata.json")]


def test_a_file_without_a_record_is_refused(study):
    Path(".snakemake/metadata", base64.b64encode(TABLE.encode()).decode()).unlink()
    with pytest.raises(UserError, match=r"no record of the job that made results/trial/trace/trace.parquet"):
        provenance.record([Path(PAGE)], Path(".snakemake/metadata"), FACTS)


def test_a_record_of_another_snakemake_is_refused(study):
    file = next(Path(".snakemake/metadata").iterdir())
    file.write_text(file.read_text().replace('version": 6', 'version": 9'))
    with pytest.raises(UserError, match="found 9, expected 6"):
        provenance.record([Path(PAGE)], Path(".snakemake/metadata"), FACTS)


def test_an_untouched_study_is_as_recorded(study, capsys):
    assert verify(capsys) == (0, [])


def flip(path, at=0):
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 1
    Path(path).write_bytes(content)


@pytest.mark.parametrize("path", [PAGE, PICTURE])
def test_a_flipped_byte_is_found(study, capsys, path):
    flip(path)
    assert verify(capsys) == (3, [("changed", path)])


def test_a_flipped_byte_makes_stale_what_was_made_from_it(study, capsys):
    flip(TABLE, 2)
    assert verify(capsys) == (3, [("changed", TABLE), ("stale", PICTURE), ("stale", PAGE)])


def test_a_changed_input_outside_makes_stale_unless_the_folder_is_judged_alone(study, capsys):
    flip("template.j2")
    assert verify(capsys) == (3, [("stale", PICTURE), ("stale", PAGE)])
    assert verify(capsys, "--alone") == (0, [])
    Path("template.j2").unlink()
    assert verify(capsys) == (3, [("missing", "template.j2")])


def test_other_code_makes_stale(study, capsys):
    remember("trace", [RAW], [TABLE], f"burstbench trace read --out {TABLE}", code("trace.read") | {"errors": "0" * 12})
    make()
    assert verify(capsys) == (3, [("stale", TABLE)])


def test_a_missing_and_a_foreign_file_are_found(study, capsys):
    Path(PICTURE).unlink()
    Path("results/trial/trace/note.txt").write_text("")
    Path("results/trial/benchmarks").mkdir()
    Path("results/trial/benchmarks/x.tsv").write_text("")
    assert verify(capsys) == (3, [("foreign", "results/trial/trace/note.txt"), ("missing", PICTURE)])


@pytest.mark.parametrize("name", ["provenance.json", "ro-crate-metadata.json"])
def test_the_record_itself_is_guarded_by_the_crate(study, capsys, name):
    path = Path("results/trial", name)
    path.write_text(path.read_text().replace("twin", "real", 1))
    assert verify(capsys) == (3, [("changed", "results/trial/ro-crate-metadata.json")])


def test_a_copy_elsewhere_can_be_judged(study, capsys, monkeypatch):
    shutil.copytree("results/trial", "elsewhere/results/trial")
    monkeypatch.chdir("elsewhere")
    assert verify(capsys, "--alone") == (0, [])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"study": "trial"}'])
def test_what_is_no_record_is_refused(study, capsys, text):
    Path("results/trial/provenance.json").write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.main(["verify", "results/trial"])
    assert stop.value.code == 2
    assert "results/trial/provenance.json" in capsys.readouterr().err


def test_the_crate_is_read_by_the_library_of_the_standard(study):
    found = ROCrate("results/trial")
    assert str(found.root_dataset["datePublished"]).startswith("2023-12-31")
    table = found.get("trace/trace.parquet")
    record = json.loads(Path("results/trial/provenance.json").read_text())
    assert table["sha256"] == record["files"][TABLE]["sha256"]
    [action] = [item for item in found.get_by_type("CreateAction") if item["name"] == "trace"]
    assert action["instrument"]["name"] == "burstbench trace read"
    assert action["object"].id == f"#{RAW}"
    assert action["result"].id == "trace/trace.parquet"


def context(url, **_):
    """Answer as the network would: the context of RO-Crate, which the library has with it."""
    answer = requests.Response()
    answer.status_code = 200 if url == "https://w3id.org/ro/crate/1.1/context" else 404
    answer.headers["Content-Type"] = "application/ld+json"
    answer._content = (Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_bytes()
    return answer


def issues():
    settings = services.ValidationSettings(
        rocrate_uri="results/trial",
        profile_identifier="process-run-crate-0.5",
        requirement_severity=models.Severity.REQUIRED,
    )
    return [issue.message for issue in services.validate(settings).get_issues()]


def test_the_crate_meets_the_profile_by_its_validator(study, monkeypatch):
    monkeypatch.setattr(HttpRequester, "__getattr__", lambda self, name: context)
    assert issues() == []
    path = Path("results/trial/ro-crate-metadata.json")
    text = crate(Path("results/trial/provenance.json"))
    path.write_text(text.replace('"instrument"', '"tool"'))
    assert any("instrument" in message for message in issues())
