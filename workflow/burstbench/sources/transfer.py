"""One file over HTTP: resumed where it broke off, watched for stalls, retried, and refused when it is something else.

Beside the target lie, while the transfer is not complete, ``<file>.part`` (the bytes so far) and ``<file>.part.json``
(which address they came from, and the server's mark of that version). A later call goes on from there.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from burstbench import files
from burstbench.errors import UserError
from burstbench.progress import Progress, progress
from burstbench.sources.registry import WrongFileError

_PIECE_BYTES = 1 << 18
# Answers that may be another one soon; all others of 400 and above are final.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@dataclass(frozen=True)
class Patience:
    """How long a transfer waits, and how often it tries.

    Attributes:
        connect_s: for the connection to stand [s].
        stall_s: for `stall_bytes` more bytes to come [s].
        stall_bytes: fewer in `stall_s` count as a stall.
        tries: tries in a row that bring the file no further, before the address is given up.
        backoff_s: pause after the first failure [s]; doubled each time.
        longest_backoff_s: limit of that pause, and of one that a server asks for [s].
    """

    connect_s: float = 20.0
    stall_s: float = 60.0
    stall_bytes: int = 4096
    tries: int = 5
    backoff_s: float = 1.0
    longest_backoff_s: float = 60.0


class TransferError(UserError):
    """An address does not give the file; the message says what was found and what was expected."""


class _PassingError(Exception):
    """A failure that the next try may not have."""

    def __init__(self, message: str, wait_s: float = 0.0, tries: int | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s  # the server asks for this pause
        self.tries = tries  # fewer tries than the patience allows


def public(url: str) -> str:
    """Return an address without the user's name and password in it, fit for a log."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def download(
    url: str,
    target: Path,
    sizes: frozenset[int],
    check: Callable[[Path], object],
    *,
    title: str,
    patience: Patience | None = None,
) -> None:
    """Fetch `url` into `target`, which appears whole and accepted, or not at all.

    Args:
        url: an http(s) address; proxies, certificates and .netrc are those of the user's environment.
        target: the file.
        sizes: accepted sizes [B]; empty where the size is not known.
        check: looks at the complete file; raises WrongFileError if it is not the right one.
        title: what is fetched, for the progress.
        patience: limits of time and tries.

    Raises:
        TransferError: the address does not give the file, after all tries.
        WrongFileError: it gives another one.
    """
    transfer = _Transfer(url, Path(target), sizes, check, title, patience or Patience())
    transfer.run()


class _Transfer:
    def __init__(
        self,
        url: str,
        target: Path,
        sizes: frozenset[int],
        check: Callable[[Path], object],
        title: str,
        patience: Patience,
    ) -> None:
        self.url, self.target, self.sizes, self.check = url, target, sizes, check
        self.title, self.patience = title, patience
        self.part = target.with_name(target.name + ".part")
        self.mark = target.with_name(target.name + ".part.json")
        self.refused_once = False  # whether a file put together from pieces was refused and is fetched again

    def run(self) -> None:
        failures, furthest = 0, self._resumable()[0]
        with requests.Session() as session:
            while True:
                try:
                    self._once(session)
                    return
                except _PassingError as error:
                    reached = self.part.stat().st_size if self.part.is_file() else 0
                    failures = 0 if reached > furthest else failures + 1
                    furthest = max(furthest, reached)
                    if failures >= min(self.patience.tries, error.tries or self.patience.tries):
                        raise TransferError(f"{error} ({failures} tries in a row without progress)") from error
                    pause = max(error.wait_s, self.patience.backoff_s * 2 ** max(failures - 1, 0))
                    pause = min(pause, self.patience.longest_backoff_s)
                    print(f"{self.title}: {error}; next try in {pause:.0f} s", file=sys.stderr, flush=True)
                    time.sleep(pause)

    def _resumable(self) -> tuple[int, str]:
        """How many bytes of this address lie here already, and the server's mark of their version."""
        try:
            mark = json.loads(self.mark.read_text(encoding="utf-8"))
            if mark["url"] == public(self.url):
                return self.part.stat().st_size, str(mark["version"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing to go on from: the transfer starts at byte 0
        return 0, ""

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)

    def _once(self, session: requests.Session) -> None:
        offset, version = self._resumable()
        if self.sizes and offset == max(self.sizes):  # all was there when an earlier run ended
            resumed, total = True, offset
        else:
            resumed, total = self._ask(session, offset, version)
        found = self.part.stat().st_size
        if found < total:
            raise _PassingError(f"cut off: found {found:,} bytes, expected {total:,}")
        try:
            self.check(self.part)
        except WrongFileError as error:
            self._forget()
            if resumed and not self.refused_once:
                self.refused_once = True
                message = f"put together from pieces, the file is wrong ({error}); it is fetched again whole"
                raise _PassingError(message) from error
            raise
        self.part.replace(self.target)
        self.mark.unlink(missing_ok=True)

    def _ask(self, session: requests.Session, offset: int, version: str) -> tuple[bool, int]:
        """Fetch from byte `offset` on; return whether the server did so, and how many bytes the whole should have."""
        # Compressed on the way, ranges and lengths would be those of the compressed bytes.
        headers = {"Accept-Encoding": "identity", "User-Agent": "burstbench"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if version:
                headers["If-Range"] = version
        try:
            with session.get(
                self.url, headers=headers, stream=True, timeout=(self.patience.connect_s, self.patience.stall_s)
            ) as response:
                resumed = self._look_at(response, offset)
                return resumed, self._receive(response, offset if resumed else 0)
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise TransferError(str(error)) from error
        except requests.exceptions.SSLError as error:
            raise TransferError(f"no trusted connection: {_short(error)}") from error
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _PassingError(f"no answer or no data within {self.patience.stall_s:g} s") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, (requests.RequestException, ConnectionError)):
                raise TransferError(f"cannot be written: {error}") from error
            # Without a network no name resolves; four addresses would be asked for a minute in vain.
            tries = 2 if "NameResolutionError" in repr(error) else None
            raise _PassingError(f"the connection failed: {_short(error)}", tries=tries) from error

    def _look_at(self, response: requests.Response, offset: int) -> bool:
        """Judge the answer's head; return whether it goes on from `offset`."""
        code = response.status_code
        if code == 416 and offset:
            self._forget()
            raise _PassingError(f"the server has no byte {offset:,}: it starts again")
        if code >= 400:
            message = f"the server answers {code} {response.reason}".rstrip()
            raise _PassingError(message, _asked_wait(response)) if code in _PASSING else TransferError(message)
        if code not in (200, 206) or (code == 206 and not offset):
            raise TransferError(f"the server answers {code} {response.reason}, expected 200 OK")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise TransferError(f"found data with Content-Encoding {encoding!r}, expected the plain file")
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise TransferError(_web_page(response.raw.read(4096, decode_content=False)))
        if code == 200:
            return False
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if place is None or int(place[1]) != offset:
            self._forget()
            found = response.headers.get("Content-Range", "nothing")
            raise _PassingError(f"asked to go on from byte {offset:,}, the server gives {found!r}: it starts again")
        return True

    def _receive(self, response: requests.Response, offset: int) -> int:
        """Append the answer's body to the bytes so far; return how many the whole file should have."""
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdigit() else None
        if self.sizes and total is not None and total not in self.sizes:
            if offset:
                self._forget()
            raise TransferError(f"wrong size: found {total:,} bytes, expected {self._expected()}")
        most = total if total is not None else max(self.sizes, default=None)
        with open(self.part, "r+b" if offset else "wb") as stream, progress(self.title, most, "B") as report:
            files.write_json(self.mark, {"url": public(self.url), "version": _version(response)})
            stream.seek(offset)
            self._copy(response, stream, offset, most, report)
        return total if total is not None else min(self.sizes, default=0)

    def _copy(
        self, response: requests.Response, stream: IO[bytes], offset: int, most: int | None, report: Progress
    ) -> None:
        done = since = offset
        deadline = time.monotonic() + self.patience.stall_s
        while piece := self._piece(response, done, most):
            if done == 0 and _is_html(piece):
                self._forget()
                raise TransferError(_web_page(piece))
            stream.write(piece)
            done += len(piece)
            report(done)
            if most is not None and done > most:
                self._forget()
                raise TransferError(f"too long: found more than {most:,} bytes")
            if done - since >= self.patience.stall_bytes:
                since, deadline = done, time.monotonic() + self.patience.stall_s
            elif time.monotonic() > deadline:
                raise _PassingError(f"stalled: {done - since} bytes in {self.patience.stall_s:g} s")

    @staticmethod
    def _piece(response: requests.Response, done: int, most: int | None) -> bytes:
        """What has come, without waiting for a full piece; b"" at the end."""
        try:
            return response.raw.read1(_PIECE_BYTES, decode_content=False)
        except urllib3.exceptions.ProtocolError as error:
            expected = f", expected {most:,}" if most is not None else ""
            raise _PassingError(f"cut off: found {done:,} bytes{expected}") from error

    def _expected(self) -> str:
        return " or ".join(f"{size:,}" for size in sorted(self.sizes))


def _version(response: requests.Response) -> str:
    """The server's mark of this version, fit for If-Range: a strong ETag, else the time of the last change, else ""."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _asked_wait(response: requests.Response) -> float:
    """Seconds that the server asks to wait (Retry-After), or 0."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _is_html(head: bytes) -> bool:
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head"))


def _web_page(head: bytes) -> str:
    title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", head, re.IGNORECASE | re.DOTALL)
    named = f" ({title[1].decode('utf-8', 'replace')[:80]!r})" if title else ""
    return f"found a web page{named}, expected data"


def _short(error: BaseException) -> str:
    """The innermost cause, in one line: libraries wrap a refused connection in four layers."""
    seen = error
    while True:
        inner = seen.__cause__ or (seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None)
        inner = inner or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            return str(seen).split("\n")[0][:200] or type(seen).__name__
        seen = inner
