"""A vLLM server that belongs to one job: started, awaited, watched and stopped, whatever happens."""

import contextlib
import http.client
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from burstbench.errors import UserError
from burstbench.serve.supervise import KEEP

HOST = "127.0.0.1"
# Below the ports that Linux gives to connections and to whoever asks for any: while vLLM starts, for a minute on a busy
# machine, nobody comes upon ours by chance.
PORTS = range(16000, 32000)
# vLLM answers SIGTERM within a few seconds, less with nothing in flight.
GRACE_S = 20.0
SUPERVISOR = Path(__file__).with_name("supervise.py")
_TAIL_LINES = 15


class ServerError(UserError):
    """The server did not start, or ended before its time."""


class Server:
    """One server, as a context: it is up and healthy inside, and gone outside.

    Nothing of it outlives the job, however the job ends (`burstbench.serve.supervise`).

    Attributes:
        folder: a folder of the job's own, removed at the end.
        port: on 127.0.0.1.
        api_key: of this run alone; passed by the environment, so that it stands in no list of processes and no log.
        startup_s: how long the server took to answer.
        on_end: called from another thread when the server ends before its time.
    """

    def __init__(
        self,
        command: Callable[["Server"], Sequence[str]],
        environment: Callable[["Server"], Mapping[str, str]],
        log: Path,
        deadline_s: float,
        port: int | None = None,
    ) -> None:
        """Describe the server; `with` starts it.

        Args:
            command: makes the command line, once folder and port are known.
            environment: makes what is added to the environment.
            log: file for all that the server prints.
            deadline_s: it must answer within this time.
            port: a fixed one; None takes a free one.
        """
        self._command, self._environment = command, environment
        self.log, self.deadline_s, self._fixed = Path(log), deadline_s, port
        self.on_end: Callable[[], None] = lambda: None
        self.port, self.api_key, self.startup_s = 0, "", 0.0
        self.folder = Path()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._guard: socket.socket | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        """Base of its OpenAI-compatible interface."""
        return f"http://{HOST}:{self.port}/v1"

    def __enter__(self) -> Self:
        """Start it and wait until it is healthy.

        Raises:
            ServerError: it ended, the port is taken, or the deadline passed; the message has the end of its log.
        """
        self.port, self._guard = _reserve_port(self._fixed)
        self.api_key = secrets.token_urlsafe(24)
        self.folder = Path(tempfile.mkdtemp(prefix="burstbench-server-"))
        try:
            self._start()
        except BaseException as error:
            self.__exit__(None, None, None)
            if isinstance(error, OSError):
                raise ServerError(f"the server could not be started: {error}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and remove its folder."""
        self.stop()
        if self._guard is not None:
            self._guard.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the supervisor, above all of the server's."""
        assert self._supervisor is not None
        return self._supervisor.pid

    def check(self) -> None:
        """Say so if the server has ended.

        Raises:
            ServerError: with the end of its log.
        """
        assert self._supervisor is not None
        status = self._supervisor.poll()
        if status is not None:
            how = f"signal {status - 128}" if status > 128 else f"status {status}"
            raise ServerError(f"the server ended with {how}{self._tail()}")

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | dict(self._environment(self)) | {"VLLM_API_KEY": self.api_key}
        begun = time.monotonic()
        with open(self.log, "wb") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", str(SUPERVISOR), str(GRACE_S), str(self.folder), *self._command(self)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        while not self._healthy():
            self.check()
            if time.monotonic() - begun > self.deadline_s:
                raise ServerError(f"the server did not answer within {self.deadline_s:g} s{self._tail()}")
            time.sleep(0.1)
        self.startup_s = time.monotonic() - begun
        threading.Thread(target=self._watch, daemon=True, name="watch the server").start()

    def _watch(self) -> None:
        assert self._supervisor is not None
        self._supervisor.wait()
        if not self._stopping:
            self.on_end()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it; its folder stays until the end of the context."""
        self._stopping = True
        supervisor = self._supervisor
        if supervisor is not None and supervisor.stdin is not None and not supervisor.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.write(KEEP)
                supervisor.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()
            try:
                supervisor.wait(3 * GRACE_S)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()

    def _tail(self) -> str:
        """What the log says of why: the last errors, or else its last lines."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        lines = [re.sub(r"^(\([A-Za-z_]+ pid=\d+\) )?([A-Z]+ [\d: -]+\[\S+\] )?", "", line).rstrip() for line in lines]
        errors = [line.strip() for line in lines if re.match(r"\s*[\w.]*(Error|Exception|Interrupt)\b.*:", line)]
        found = list(dict.fromkeys(errors))[-3:] or [line for line in lines if line][-_TAIL_LINES:]
        return f"; its log ({self.log}) says:\n  " + "\n  ".join(found)


def _reserve_port(fixed: int | None) -> tuple[int, socket.socket]:
    """Return a port that nobody listens on, and the guard that keeps other jobs of this host from choosing it as well.

    The guard is needed because vLLM opens its port so that others may share it: of two servers on one port each would
    get a part of the requests of both.

    Raises:
        ServerError: the fixed one is taken, or none is free.
    """
    reason = "no port was tried"
    for port in [fixed] if fixed else (secrets.choice(PORTS) for _ in range(100)):
        with socket.socket() as probe:
            # As servers do: a port whose last connections are just closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                reason = f"port {port} of {HOST} is taken: {error.strerror}"
                continue
        # A name in Linux's abstract space: it goes with the process that holds it.
        guard = socket.socket(socket.AF_UNIX)
        try:
            guard.bind(f"\0burstbench-port-{port}")
        except OSError:
            guard.close()
            reason = f"port {port} of {HOST} is taken by another job"
            continue
        return port, guard
    raise ServerError(reason)
