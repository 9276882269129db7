"""Every way a server can fail: the file arrives whole and right, or there is none and the message says why."""

import hashlib
import os
import time

import pytest
from burstbench.errors import UserError
from burstbench.sources.registry import check_sha256
from burstbench.sources.transfer import Patience, TransferError, download, public
from misbehaving_server import chunked

DATA = os.urandom(300_000)
SIZES = frozenset({len(DATA)})
OTHER = os.urandom(300_000)
SUM = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(connect_s=2, stall_s=0.3, stall_bytes=64, tries=3, backoff_s=0.01, longest_backoff_s=0.05)


@pytest.fixture
def get(server, tmp_path):
    """Fetch /f from the server; the sizes are those of DATA unless told."""

    def fetched(behaviour, sizes=SIZES, checksum=SUM, path="/f"):
        server.routes[path] = behaviour
        target = tmp_path / "f.bin"
        download(
            server.url + path, target, sizes, lambda file: check_sha256(file, [checksum]), title="f", patience=QUICK
        )
        assert sorted(file.name for file in tmp_path.iterdir()) == ["f.bin"]  # nothing is left beside it
        return target.read_bytes()

    return fetched


def refused(tmp_path, get, behaviour, *words, **options):
    with pytest.raises(UserError) as caught:
        get(behaviour, **options)
    assert not (tmp_path / "f.bin").exists()
    for word in words:
        assert word in str(caught.value)


def test_a_whole_file(get, server):
    assert get(lambda h: h.ranged(DATA)) == DATA
    assert server.ranges == [""]
    assert server.asked[0][1]["Accept-Encoding"] == "identity"


def test_a_file_of_unknown_size(get):
    assert get(lambda h: h.ranged(DATA), sizes=frozenset()) == DATA


def test_one_of_several_sizes(get):
    assert get(lambda h: h.ranged(DATA), sizes=frozenset({5, len(DATA)})) == DATA


def test_an_empty_file_is_too_short(get, tmp_path):
    refused(tmp_path, get, lambda h: h.answer(200, b""), "wrong size: found 0 bytes, expected 300,000")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_truncated_transfer_goes_on_where_it_broke_off(get, server, how):
    def cut(handler):
        handler.ranged(DATA, '"v1"', most=100_000)
        if how == "reset":
            time.sleep(0.1)  # let the client read what was sent: a reset drops what is under way
            handler.reset()

    assert get(cut) == DATA
    assert server.ranges == ["", "bytes=100000-", "bytes=200000-"]
    assert [headers.get("If-Range") for _, headers in server.asked] == [None, '"v1"', '"v1"']


def test_truncated_without_support_for_ranges_starts_again(get, server):
    def whole_or_cut(handler):
        handler.answer(200, DATA[:100_000] if len(server.asked) < 3 else DATA, length=len(DATA))

    assert get(whole_or_cut) == DATA
    assert server.ranges == ["", "bytes=100000-", "bytes=100000-"]


def test_truncated_at_the_same_byte_each_time_is_given_up(get, tmp_path, server):
    refused(
        tmp_path,
        get,
        lambda h: h.answer(200, DATA[:100_000], length=len(DATA)),
        "3 tries in a row without progress",
    )
    assert len(server.asked) == 1 + QUICK.tries  # the first one brought something
    assert (tmp_path / "f.bin.part").stat().st_size == 100_000  # for the next call


def test_the_next_call_goes_on(get, tmp_path, server):
    refused(tmp_path, get, server.each(lambda h: h.ranged(DATA, '"v1"', most=100_000), lambda h: h.answer(404, b"")))
    assert get(lambda h: h.ranged(DATA, '"v1"')) == DATA
    assert server.ranges == ["", "bytes=100000-", "bytes=100000-"]


def test_what_another_address_left_is_not_used(get, tmp_path, server):
    refused(tmp_path, get, server.each(lambda h: h.ranged(DATA, '"v1"', most=100_000), lambda h: h.answer(404, b"")))
    assert get(lambda h: h.ranged(DATA, '"v1"'), path="/elsewhere") == DATA
    assert server.ranges[-1] == ""


def test_all_was_there_when_an_earlier_run_ended(get, tmp_path, server):
    refused(tmp_path, get, server.each(lambda h: h.ranged(DATA, '"v1"', most=100_000), lambda h: h.answer(404, b"")))
    (tmp_path / "f.bin.part").write_bytes(DATA)
    asked = len(server.asked)
    assert get(lambda h: h.answer(500, b"")) == DATA
    assert len(server.asked) == asked


def test_a_damaged_part_is_found_out_and_fetched_again_whole(get, tmp_path, server):
    refused(tmp_path, get, server.each(lambda h: h.ranged(DATA, '"v1"', most=100_000), lambda h: h.answer(404, b"")))
    (tmp_path / "f.bin.part").write_bytes(OTHER[:100_000])
    assert get(lambda h: h.ranged(DATA, '"v1"')) == DATA
    assert server.ranges[-2:] == ["bytes=100000-", ""]


def test_a_file_that_changes_on_the_way_is_fetched_again(get, server):
    first = lambda h: h.ranged(OTHER, '"old"', most=100_000)  # noqa: E731
    assert get(server.each(first, lambda h: h.ranged(DATA, '"new"'))) == DATA
    assert server.asked[1][1]["If-Range"] == '"old"'
    assert len(server.asked) == 2


def test_a_change_that_the_server_does_not_admit_is_found_out(get, server):
    first = lambda h: h.ranged(OTHER, most=100_000)  # noqa: E731
    assert get(server.each(first, lambda h: h.ranged(DATA))) == DATA
    assert server.ranges == ["", "bytes=100000-", ""]


def test_a_weak_mark_is_no_mark(get, server):
    get(server.each(lambda h: h.ranged(DATA, 'W/"1"', most=100_000), lambda h: h.ranged(DATA)))
    assert "If-Range" not in server.asked[1][1]


def test_the_time_of_the_last_change_is_a_mark(get, server):
    stamp = "Wed, 01 Nov 2023 00:00:00 GMT"
    get(
        server.each(
            lambda h: h.answer(200, DATA[:9], length=len(DATA), Last_Modified=stamp), lambda h: h.ranged(DATA, stamp)
        )
    )
    assert server.asked[1][1]["If-Range"] == stamp


def test_pieces_from_the_wrong_place_are_not_taken(get, server):
    assert get(server.each(lambda h: h.ranged(DATA, most=100), lambda h: h.ranged(DATA, lie=7))) == DATA
    assert server.ranges == ["", "bytes=100-", ""]


def test_a_server_without_the_byte_asked_for(get, server):
    first = lambda h: h.ranged(DATA, most=200_000)  # noqa: E731
    second = lambda h: h.answer(416, b"", Content_Range="bytes */1000")  # noqa: E731
    assert get(server.each(first, second, lambda h: h.ranged(DATA))) == DATA
    assert server.ranges == ["", "bytes=200000-", ""]


def test_a_stall_is_noticed_and_the_transfer_goes_on(get, server):
    started = time.monotonic()
    assert get(server.each(server.stall(DATA, 100_000, '"v"'), lambda h: h.ranged(DATA, '"v"'))) == DATA
    assert server.ranges == ["", "bytes=100000-"]
    assert time.monotonic() - started < 3


def test_a_server_that_never_answers(get, tmp_path, server):
    refused(tmp_path, get, lambda h: server.over.wait(20), "no answer or no data within 0.3 s")


def test_a_dripping_server_counts_as_stalled(get, tmp_path, server):
    refused(tmp_path, get, server.drip(DATA, 0.05), "stalled")


def test_redirects_are_followed(get, server):
    server.routes["/b"] = lambda h: h.answer(302, b"", Location="/c")
    server.routes["/c"] = lambda h: h.ranged(DATA)
    assert get(lambda h: h.answer(301, b"", Location=server.url + "/b")) == DATA


def test_a_ring_of_redirects(get, tmp_path):
    refused(tmp_path, get, lambda h: h.answer(302, b"", Location="/f"), "redirects")


@pytest.mark.parametrize("code", [401, 403, 404, 410, 501])
def test_a_final_refusal_is_not_asked_again(get, tmp_path, server, code):
    refused(tmp_path, get, lambda h: h.answer(code, b"no"), str(code))
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [429, 500, 502, 503])
def test_a_passing_failure_is_asked_again(get, server, code):
    assert get(server.each(lambda h: h.answer(code, b"later"), lambda h: h.ranged(DATA))) == DATA


def test_a_lasting_failure_is_given_up(get, tmp_path, server):
    refused(tmp_path, get, lambda h: h.answer(500, b"no"), "500", "3 tries")
    assert len(server.asked) == 3


def test_a_server_that_asks_to_wait_is_waited_for(get, server, monkeypatch):
    pauses = []
    monkeypatch.setattr("burstbench.sources.transfer.time.sleep", pauses.append)
    get(server.each(lambda h: h.answer(503, b"", Retry_After="7"), lambda h: h.ranged(DATA)))
    assert pauses == [QUICK.longest_backoff_s]  # but no longer than our own patience


def test_a_wrong_file_of_the_right_size(get, tmp_path, server):
    refused(
        tmp_path, get, lambda h: h.ranged(OTHER), "wrong checksum", hashlib.sha256(OTHER).hexdigest(), f"expected {SUM}"
    )
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_refused_before_it_is_fetched(get, tmp_path, server):
    refused(tmp_path, get, lambda h: h.ranged(DATA[:-1]), "wrong size: found 299,999 bytes, expected 300,000")
    assert list(tmp_path.iterdir()) == []


def test_more_than_announced_is_refused(get, tmp_path):
    refused(tmp_path, get, chunked(DATA + b"x"), "too long: found more than 300,000 bytes")


def test_chunks_without_a_length(get):
    assert get(chunked(DATA)) == DATA
    assert get(chunked(DATA), sizes=frozenset()) == DATA


def test_chunks_that_end_too_early(get, server):
    assert get(server.each(chunked(DATA[:5000], cut=True), lambda h: h.ranged(DATA))) == DATA


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_in_place_of_data(get, tmp_path, kind):
    page = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
    refused(tmp_path, get, lambda h: h.answer(200, page, Content_Type=kind), "web page", "Sign in", sizes=frozenset())


def test_compressed_data_is_refused(get, tmp_path):
    refused(tmp_path, get, lambda h: h.answer(200, DATA, Content_Encoding="gzip"), "Content-Encoding 'gzip'")


def test_an_unasked_part_is_refused(get, tmp_path):
    refused(tmp_path, get, lambda h: h.answer(206, DATA), "206")


def test_nobody_listens(server, tmp_path):
    with pytest.raises(TransferError, match=r"the connection failed: .*refused"):
        download("http://127.0.0.1:9/f", tmp_path / "f", frozenset(), lambda _: None, title="f", patience=QUICK)


def test_a_name_without_an_address_is_given_up_sooner(server, tmp_path, capsys):
    with pytest.raises(TransferError, match="2 tries"):
        download("http://no.such.name.invalid/f", tmp_path / "f", frozenset(), print, title="f", patience=QUICK)


def test_a_folder_that_cannot_be_written(get, server, tmp_path):
    server.routes["/f"] = lambda h: h.ranged(DATA)
    with pytest.raises(TransferError, match="cannot be written"):
        download(server.url + "/f", tmp_path / "no" / "f", frozenset(), print, title="f", patience=QUICK)


def test_names_and_passwords_stay_out_of_messages():
    assert public("https://me:secret@example.org/a?b") == "https://example.org/a?b"
