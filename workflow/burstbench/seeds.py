"""Random generators: one root seed, one independent stream per purpose."""

import zlib

import numpy as np


def generator(root: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator of one purpose, as a spawned child of the root seed.

    The purpose's words are the `spawn_key` of a `numpy.random.SeedSequence` (a word counts as its CRC-32), so a new
    purpose or a further seed never moves the stream of another.

    Args:
        root: the study's root seed, at least 0.
        purpose: what the stream is for, for example ``"plan", "vary_alpha", "llama-2-7b-chat", "a800", 1, "gaps"``.
    """
    key = tuple(word if isinstance(word, int) else zlib.crc32(word.encode()) for word in purpose)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(root, spawn_key=key)))
