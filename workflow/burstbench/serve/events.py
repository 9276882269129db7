"""Server-sent events, parsed as the bytes come (WHATWG HTML, section 9.2.6), whatever the pieces they come in."""

_FIELDS = (b"data", b"event", b"id", b"retry", b"")  # the last is a comment
LIMIT_BYTES = 64 << 20  # of one event


class MalformedStreamError(Exception):
    """The answer is not the stream of events that was asked for."""


class Events:
    """An incremental parser: bytes in, the data of whole events out.

    Work is linear in the bytes, also when a long event comes in many pieces.
    """

    __slots__ = ("_data", "_held", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # the begin of a line
        self._held = 0  # bytes of it and of `_data`
        self._data: list[bytes] = []  # data lines of the event so far

    def feed(self, piece: bytes) -> list[bytes]:
        """Take what came, return the data of the events that it completes.

        Raises:
            MalformedStreamError: a line is no field of an event, or an event is above LIMIT_BYTES.
        """
        if not self._held and piece[:6] == b"data: " and piece[-2:] == b"\n\n" and b"\r" not in piece:
            # The usual piece: one or more whole events of one line each, so that all ends of lines are between them.
            found = piece[6:-2].split(b"\n\ndata: ")
            if piece.count(b"\n") == 2 * len(found):
                return found
        return self._lines(piece)

    @property
    def rest(self) -> bool:
        """Whether an event has begun that is not complete."""
        return self._held > 0

    def _lines(self, piece: bytes) -> list[bytes]:
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held > LIMIT_BYTES:
            raise MalformedStreamError(f"an event of more than {LIMIT_BYTES >> 20} MiB")
        if b"\n" not in piece and b"\r" not in piece:
            return []
        text = b"".join(self._pieces)
        held_back = b""
        if text.endswith(b"\r"):  # "\n" may follow
            text, held_back = text[:-1], b"\r"
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        found = []
        for line in lines:
            if not line:
                if self._data:
                    found.append(b"\n".join(self._data))
                    self._data = []
                continue
            name, _, value = line.partition(b":")
            if name not in _FIELDS:
                raise MalformedStreamError(f"not a field of an event: {line[:80]!r}")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        self._pieces = [rest + held_back] if rest or held_back else []
        self._held = len(rest) + len(held_back) + sum(map(len, self._data)) + len(self._data)
        return found
