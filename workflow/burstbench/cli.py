"""`burstbench <room> <verb>`: the command line of every room.

A verb is a module of its room with two functions, `add_arguments(parser)` and `run(args)`. Only the module of the verb
that is called gets imported, so that a job starts fast and depends on no other room's code.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from burstbench.errors import UserError

ROOMS: dict[str, dict[str, str]] = {
    "sources": {"fetch": "download one data set of the registry and verify it"},
    "trace": {
        "read": "turn raw trace files into trace.parquet",
        "twin": "make the statistical twin of BurstGPT",
        "check": "compare a trace with the published numbers",
    },
    "characterise": {
        "counts": "requests and tokens by day and hour, and their periodicity",
        "bursts": "how often the number of requests doubles",
        "gamma": "Gamma fits of the gaps, window by window",
        "lengths": "histograms, fits and relations of token lengths",
        "failures": "failure rates by service and model, by day, and by load",
        "sessions": "turns, think time and speed, where the trace has them",
    },
    "prompts": {"pool": "tokenise dialogues into the prompt pool"},
    "plan": {"make": "plan every request of one cell"},
    "serve": {
        "simulate": "run a plan on the simulated engine",
        "fit": "fit step times to an engine's step log",
        "calibrate": "find the beta at which the simulated engine uses a share of its KV cache",
        "validate": "compare the simulator's step times with measured kernels and published times",
        "vllm": "run a plan on a vLLM server that the job starts",
        "endpoint": "run a plan on any server with the interface of OpenAI",
    },
    "metrics": {
        "summarise": "failure rate, latency and throughput of one experiment's cells",
        "lengths": "length tables of the responses experiment",
    },
    "figures": {"draw": "draw one figure from its tables"},
    "tables": {"make": "make one table"},
    "paper": {
        "scorecard": "test the paper's claims on the study's tables",
        "pdf": "typeset the paper",
        "html": "make the web page",
        "provenance": "record what every artifact was made from",
    },
}


def settings(text: str) -> dict[str, Any]:
    """Parse the value of `--settings`: a JSON object, or the path of a JSON or YAML file that holds one."""
    if not text.lstrip().startswith("{"):
        path = Path(text)
        if not path.is_file():
            raise argparse.ArgumentTypeError(f"neither a JSON object nor a file: {text!r}")
        if path.suffix in {".yaml", ".yml"}:
            import yaml

            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        else:
            value = json.loads(path.read_text(encoding="utf-8"))
    else:
        value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a mapping is expected")
    return value


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option `--settings`, which carries all its parameters."""
    parser.add_argument(
        "--settings", type=settings, required=True, help="the verb's parameters: a JSON object, or a YAML or JSON file"
    )


class _NoPandas:
    """An import finder to which there is no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Refuse pandas; leave any other module to the next finder."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=name)


def without_pandas() -> None:
    """Keep pyarrow from importing pandas in this process.

    `pyarrow.array` imports pandas on its first call, only to ask whether it was given a Series: 0.2 s or more of every
    job. It asks once; we let it ask while pandas cannot be found. An own `import pandas` works as ever afterwards.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow

    finder: Any = _NoPandas
    sys.meta_path.insert(0, finder)
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(finder)


def main(argv: list[str] | None = None) -> None:
    """Run one verb; exit with 2 and one sentence on stderr when the input is wrong.

    Args:
        argv: words after the command's name; None for those of this process, which is then ours alone.
    """
    if argv is None:
        without_pandas()
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="burstbench", description=__import__("burstbench").__doc__)
    rooms = parser.add_subparsers(dest="room", required=True, metavar="room")
    for room, verbs in ROOMS.items():
        room_parser = rooms.add_parser(room, help=", ".join(verbs))
        verb_parsers = room_parser.add_subparsers(dest="verb", required=True, metavar="verb")
        for verb, text in verbs.items():
            verb_parser = verb_parsers.add_parser(verb, help=text, description=text)
            if argv[:2] == [room, verb]:
                module = importlib.import_module(f"burstbench.{room}.{verb}")
                module.add_arguments(verb_parser)
    args = parser.parse_args(argv)
    try:
        module.run(args)
    except UserError as error:
        print(f"burstbench {args.room} {args.verb}: {error}", file=sys.stderr)
        sys.exit(2)
