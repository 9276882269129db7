"""A data set from the registry to its folder: mirror, addresses in order, wheels, and the record beside it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile

import pytest
from burstbench.sources.fetch import FetchError, fetch
from burstbench.sources.registry import Address, Dataset, Identity
from burstbench.sources.transfer import Patience
from misbehaving_server import wait_until

DATA = os.urandom(50_000)
LF = b"a,b\n1,2\n"
CRLF = b"a,b\r\n1,2\r\n"
QUICK = Patience(connect_s=2, stall_s=0.3, tries=2, backoff_s=0.01)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def dataset(*urls, forms=(("", DATA),), member="", archive=""):
    identities = tuple(Identity(label, len(data), sha(data)) for label, data in forms)
    addresses = tuple(Address(url, archive) for url in urls)
    return Dataset("set1", "1.0", "data.bin", member, addresses, identities, "CC0-1.0", "test data")


def record(folder):
    return json.loads((folder / "provenance.json").read_text())


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "index" / "my_data-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("my_data/data/data.bin", DATA)
        # Would this be imported or installed, the test would know.
        archive.writestr("my_data/__init__.py", "raise SystemExit('imported')")
        archive.writestr("my_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-data\nVersion: 1.0\n")
        archive.writestr(
            "my_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("my_data-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def pip_finds(wheel, monkeypatch):
    """The user's own pip configuration: here, a folder and no index."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return wheel


def test_the_first_address_that_works(server, tmp_path, capsys):
    server.routes["/wrong"] = lambda h: h.answer(200, DATA[::-1])
    server.routes["/right"] = lambda h: h.answer(200, DATA)
    wanted = dataset(server.url + "/gone", server.url + "/wrong", server.url + "/right", server.url + "/unused")
    assert fetch(wanted, tmp_path / "set1", patience=QUICK).read_bytes() == DATA
    assert [path for path, _ in server.asked] == ["/gone", "/wrong", "/right"]
    assert record(tmp_path / "set1") == {
        "name": "set1",
        "version": "1.0",
        "file": "data.bin",
        "url": server.url + "/right",
        "bytes": 50_000,
        "sha256": sha(DATA),
        "identity": "",
        "licence": "CC0-1.0",
        "description": "test data",
    }
    said = capsys.readouterr().err  # never in silence
    assert f"set1: {server.url}/gone: the server answers 404" in said
    assert f"set1: {server.url}/wrong: wrong checksum" in said


def test_both_forms_of_a_file_are_accepted(server, tmp_path):
    forms = (("crlf", CRLF), ("lf", LF))
    for label, data in forms:
        server.routes["/f"] = lambda h, data=data: h.answer(200, data)
        fetch(dataset(server.url + "/f", forms=forms), tmp_path / label, patience=QUICK)
        assert record(tmp_path / label)["identity"] == label


def test_all_addresses_fail(server, tmp_path):
    server.routes["/page"] = lambda h: h.answer(200, b"<html><title>Sign in</title>", Content_Type="text/html")
    server.routes["/cut"] = lambda h: h.answer(200, DATA[:-1], length=len(DATA))
    urls = [server.url + "/gone", server.url + "/page", server.url + "/cut"]
    with pytest.raises(FetchError) as caught:
        fetch(dataset(*urls), tmp_path / "set1", patience=QUICK)
    message = str(caught.value)
    assert "'set1'" in message
    assert f"{urls[0]}: the server answers 404" in message
    assert f"{urls[1]}: found a web page ('Sign in'), expected data" in message
    assert f"{urls[2]}: cut off: found 49,999 bytes, expected 50,000" in message
    assert "BURSTBENCH_MIRROR" in message
    assert not (tmp_path / "set1/data.bin").exists()
    assert not (tmp_path / "set1/provenance.json").exists()


def test_a_file_in_place_is_kept(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(DATA)
    fetch(dataset(server.url + "/f"), tmp_path)
    assert server.asked == []
    assert record(tmp_path)["url"] == "found in place"


def test_a_wrong_file_in_place_makes_room(server, tmp_path, capsys):
    (tmp_path / "data.bin").write_bytes(b"mine")
    server.routes["/f"] = lambda h: h.answer(200, DATA)
    fetch(dataset(server.url + "/f"), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == DATA
    assert (tmp_path / "data.bin.refused").read_bytes() == b"mine"
    assert "found 4 bytes, expected 50,000; renamed to data.bin.refused" in capsys.readouterr().err


def test_a_mirror_folder_comes_first(server, tmp_path):
    (tmp_path / "mirror/set1").mkdir(parents=True)
    (tmp_path / "mirror/set1/data.bin").write_bytes(DATA)
    fetch(dataset(server.url + "/f"), tmp_path / "out", str(tmp_path / "mirror"))
    assert server.asked == []
    assert record(tmp_path / "out")["url"] == str(tmp_path / "mirror/set1/data.bin")


def test_a_wrong_file_in_the_mirror_is_said_and_not_used(server, tmp_path, capsys):
    (tmp_path / "mirror/set1").mkdir(parents=True)
    (tmp_path / "mirror/set1/data.bin").write_bytes(DATA[::-1])
    server.routes["/f"] = lambda h: h.answer(200, DATA)
    fetch(dataset(server.url + "/f"), tmp_path / "out", str(tmp_path / "mirror"))
    assert "mirror/set1/data.bin: wrong checksum" in capsys.readouterr().err
    assert record(tmp_path / "out")["url"] == server.url + "/f"


def test_a_mirror_address_comes_first(server, tmp_path):
    server.routes["/m/set1/data.bin"] = lambda h: h.answer(200, DATA)
    fetch(dataset(server.url + "/f"), tmp_path, server.url.replace("//", "//me:secret@") + "/m/")
    assert [path for path, _ in server.asked] == ["/m/set1/data.bin"]
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert record(tmp_path)["url"] == server.url + "/m/set1/data.bin"


def test_a_file_of_a_wheel(pip_finds, tmp_path):
    archive = sha(pip_finds.read_bytes())
    wanted = dataset("pypi:my-data==1.0", member="my_data/data/data.bin", archive=archive)
    assert fetch(wanted, tmp_path / "out").read_bytes() == DATA
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.bin", "provenance.json"]
    found = record(tmp_path / "out")
    assert found["url"] == "pypi:my-data==1.0"
    assert found["member"] == "my_data/data/data.bin"
    assert found["archive"] == {"file": pip_finds.name, "bytes": pip_finds.stat().st_size, "sha256": archive}


@pytest.mark.parametrize(
    ("member", "archive", "url", "words"),
    [
        ("my_data/other", None, "pypi:my-data==1.0", "found no member 'my_data/other'"),
        ("my_data/__init__.py", None, "pypi:my-data==1.0", "wrong size: found 28 bytes"),
        ("my_data/data/data.bin", "0" * 64, "pypi:my-data==1.0", "wrong checksum"),
        ("my_data/data/data.bin", None, "pypi:my-data==2.0", "pip download my-data==2.0 failed"),
    ],
)
def test_a_wrong_wheel_leaves_nothing(pip_finds, tmp_path, member, archive, url, words):
    archive = archive or sha(pip_finds.read_bytes())
    with pytest.raises(FetchError, match=words):
        fetch(dataset(url, member=member, archive=archive), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_broken_wheel(pip_finds, tmp_path):
    pip_finds.write_bytes(pip_finds.read_bytes()[:-30])
    wanted = dataset("pypi:my-data==1.0", member="x", archive=sha(pip_finds.read_bytes()))
    with pytest.raises(FetchError):
        fetch(wanted, tmp_path / "out", "")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_a_mirror_of_wheels(server, wheel, tmp_path, kind):
    archive = sha(wheel.read_bytes())
    wanted = dataset("pypi:my-data==1.0", member="my_data/data/data.bin", archive=archive)
    if kind == "folder":
        place = tmp_path / "mirror/set1" / wheel.name
        place.parent.mkdir(parents=True)
        place.write_bytes(wheel.read_bytes())
        mirror = str(tmp_path / "mirror")
    else:
        whole = wheel.read_bytes()
        server.routes[f"/set1/{wheel.name}"] = server.each(
            lambda h: h.ranged(whole, '"1"', most=9000), lambda h: h.ranged(whole, '"1"')
        )
        mirror = server.url
    assert fetch(wanted, tmp_path / "out", mirror).read_bytes() == DATA
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.bin", "provenance.json"]
    assert record(tmp_path / "out")["url"].endswith(wheel.name)


def registry(tmp_path, url):
    path = tmp_path / "datasets.csv"
    path.write_text(
        "name,version,file,member,urls,identity,bytes,sha256,licence,description\n"
        f"set1,1,data.bin,,{url},,{len(DATA)},{sha(DATA)},CC0-1.0,test\n"
    )
    return path


def command(tmp_path, url, name="set1"):
    path = registry(tmp_path, url)
    line = [sys.executable, "-m", "burstbench", "sources", "fetch", "--registry", str(path)]
    return [*line, "--name", name, "--out", str(tmp_path / "out")]


def test_a_killed_fetch_goes_on(server, tmp_path):
    server.routes["/f"] = server.each(server.stall(DATA, 20_000, '"1"'), lambda h: h.ranged(DATA, '"1"'))
    line = command(tmp_path, server.url + "/f")
    first = subprocess.Popen(line)
    part = tmp_path / "out/data.bin.part"
    # What was read lies in the process until its buffer is full; a kill may cost that much and no more.
    wait_until(lambda: part.is_file() and part.stat().st_size > 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "out/data.bin").exists()
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/data.bin").read_bytes() == DATA
    assert server.ranges[1].startswith("bytes=")


def test_the_command_line_says_what_is_wrong(server, tmp_path):
    done = subprocess.run(command(tmp_path, server.url + "/gone"), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "data set 'set1' cannot be had" in done.stderr
    assert "Traceback" not in done.stderr
    line = command(tmp_path, server.url, "set2")
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "found no data set 'set2', expected one of set1" in done.stderr
