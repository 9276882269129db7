"""Reading dialogues (ShareGPT's JSON) as a stream, one conversation at a time, also from a file that was cut off.

The file is one JSON array of `{"id": text, "conversations": [{"from": role, "value": text}, ...]}`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ijson

from burstbench.errors import UserError

# Who asks and who answers, as ShareGPT's files name them. Turns of other roles (system) belong to the prompt only.
ASKING = frozenset({"human", "user"})
ANSWERING = frozenset({"gpt", "chatgpt", "bing", "bard", "assistant"})

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Turn:
    """One turn: who speaks, and what."""

    role: str
    text: str


@dataclass
class Dialogues:
    """The conversations of one file, in its order; iterate once, then read what was found.

    Memory stays constant: one piece of the file and one conversation at a time.

    Attributes:
        path: the file.
        bytes_read: how far the file has been read.
        sha256: of the whole file; "" until the iteration has ended.
        conversations: whole conversations read so far.
        cut_off: whether the file ended before its array did. The unfinished last conversation is left out.
    """

    path: Path
    bytes_read: int = 0
    sha256: str = ""
    conversations: int = 0
    cut_off: bool = False
    _started: bool = field(default=False, repr=False)

    def __iter__(self) -> Iterator[list[Turn]]:
        """Yield the turns of each whole conversation.

        Raises:
            UserError: the file is missing, not a JSON array, broken before its end, or a conversation lacks its turns.
        """
        if self._started:
            raise RuntimeError("the dialogues of a file are read once")
        self._started = True
        digest = hashlib.sha256()
        found = ijson.sendable_list()
        # Pieces are pushed into the parser: an error while one is taken means broken text, an error at the end means
        # that the text stopped too early. (Pulled, both raise the same error when the cut splits a character.)
        parser = ijson.items_coro(found, "item")
        try:
            with open(self.path, "rb") as stream:
                while piece := stream.read(_PIECE_BYTES):
                    digest.update(piece)
                    try:
                        parser.send(piece)
                    except ijson.JSONError as error:
                        raise self._broken(str(error).split("\n")[0].strip()) from error
                    self.bytes_read += len(piece)
                    for item in found:
                        yield self._turns(item)
                        self.conversations += 1
                    found.clear()
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: no such file; expected dialogues as a JSON array") from error
        try:
            parser.close()
        except ijson.IncompleteJSONError:
            self.cut_off = True
        if not self.conversations:
            raise self._broken("it ends without one whole conversation")
        self.sha256 = digest.hexdigest()

    def _broken(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: not a JSON array of conversations: {what} (within {_PIECE_BYTES} bytes after byte "
            f"{self.bytes_read}, after {self.conversations} whole conversations)"
        )

    def _turns(self, item: Any) -> list[Turn]:
        turns = item.get("conversations") if isinstance(item, dict) else None
        if not isinstance(turns, list):
            raise UserError(
                f"{self.path}: conversation {self.conversations} (from 0): found {str(item)[:80]!r}, "
                "expected an object with a list 'conversations'"
            )
        for number, turn in enumerate(turns):
            if not (
                isinstance(turn, dict) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)
            ):
                raise UserError(
                    f"{self.path}: conversation {self.conversations} (from 0, id {item.get('id')!r}), turn {number}: "
                    f"found {str(turn)[:80]!r}, expected an object with the texts 'from' and 'value'"
                )
        return [Turn(turn["from"], turn["value"]) for turn in turns]
