"""`burstbench <room> <verb>` and `burstbench <verb>`: the command line.

A verb is a module with two functions, `add_arguments(parser)` and `run(args)`: of its room, or of `burstbench.commands`
for the verbs that have no room. Only the module of the verb that is called gets imported, so that a job starts fast and
depends on no other room's code. `run` may return an exit status; None is 0.

To add a verb: write the module, and a line here with what it does and an example.
"""

import argparse
import errno
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from burstbench.errors import UserError


class Verb(NamedTuple):
    """What the help says of a verb.

    Attributes:
        text: what it does, without a full stop.
        example: what follows the verb on the command line; run from the repository, after `make reproduce`.
    """

    text: str
    example: str


# Verbs without a room, by what a user comes for. Their modules lie in `burstbench.commands`.
COMMANDS: dict[str, Verb] = {
    "compare": Verb(
        "how two studies differ: parameters, inputs, code, verdicts, numbers",
        "results/default results/smoke --html mine/compare.html",
    ),
    "verify": Verb("check a study's files against their record: changed, missing, stale, foreign", "results/default"),
    "run": Verb(
        "plan a load given by options and send it to any server with the interface of OpenAI",
        "--endpoint http://127.0.0.1:8000/v1 --rate 5 --cv 2 --requests 500 --out mine/load",
    ),
    "completion": Verb("print the completion script of a shell", "bash"),
    "doctor": Verb("check what a study needs of a cluster with SLURM, before anything is submitted", "--gpus a800"),
}

# In the order in which the data flows.
ROOMS: dict[str, dict[str, Verb]] = {
    "sources": {
        "fetch": Verb(
            "download one data set of the registry and verify it",
            "--registry config/datasets.csv --name tokenizer_mistral_v1 --out data/raw/tokenizer_mistral_v1",
        ),
    },
    "trace": {
        "read": Verb(
            "turn raw trace files into trace.parquet",
            """--settings '{"start": "2023-11-01", "days": 61}' --csv BurstGPT_1.csv --out mine/trace.parquet"""
            " --window mine/window.csv",
        ),
        "twin": Verb(
            "make the statistical twin of BurstGPT",
            """--settings '{"start": "2023-11-01", "days": 61, "rows": 20000, "seed": 1}' --published data/published"""
            " --out mine/trace.parquet --window mine/window.csv",
        ),
        "check": Verb(
            "compare a trace with the published numbers",
            """--settings '{"start": "2023-11-01", "days": 61}' --trace results/default/trace/trace.parquet"""
            " --published data/published --out mine/check.csv",
        ),
    },
    "characterise": {
        "counts": Verb(
            "requests and tokens by day and hour, and their periodicity",
            """--settings '{"start": "2023-11-01", "days": 61, "seed": 1}'"""
            " --trace results/default/trace/trace.parquet --daily-counts mine/daily.csv --hourly-counts mine/hourly.csv"
            " --periodicity mine/periodicity.csv",
        ),
        "bursts": Verb(
            "how often the number of requests doubles",
            """--settings '{"start": "2023-11-01", "days": 61, "seed": 1, "service": "all", "model": "ChatGPT","""
            """ "alignment": "aligned", "widths_s": [300, 600], "zero_rule": "skip"}'"""
            " --trace results/default/trace/trace.parquet --doublings mine/doublings.csv"
            " --burst-ratios mine/burst_ratios.csv",
        ),
        "gamma": Verb(
            "Gamma fits of the gaps, window by window",
            """--settings '{"start": "2023-11-01", "days": 61, "seed": 1, "estimator": "seconds","""
            """ "resolution_s": "detected", "window_s": 1200, "offset_s": 0, "minimum_gaps": 20,"""
            """ "workday_hours": [8, 22], "bootstrap_windows": 40}' --trace results/default/trace/trace.parquet"""
            " --gamma-windows mine/windows.csv --gamma-profile mine/profile.csv --gamma-summary mine/summary.csv"
            " --gamma-counts mine/counts.csv --gamma-families mine/families.csv",
        ),
        "lengths": Verb(
            "histograms, fits and relations of token lengths",
            """--settings '{"coarse_request_bins": [1, 100, 1000], "request_bin_tokens": 20,"""
            """ "response_bin_tokens": 25, "seed": 1}' --trace results/default/trace/trace.parquet"""
            " --length-counts mine/counts.csv --length-fits mine/fits.csv --length-tests mine/tests.csv"
            " --response-by-request mine/relation.csv --response-bins mine/bins.csv",
        ),
        "failures": Verb(
            "failure rates by service and model, by day, and by load",
            """--settings '{"start": "2023-11-01", "days": 61}' --trace results/default/trace/trace.parquet"""
            " --failures mine/failures.csv --daily-failures mine/daily.csv --failure-loads mine/loads.csv",
        ),
        "sessions": Verb(
            "turns, think time and speed, where the trace has them",
            """--settings '{"start": "2023-11-01", "days": 61}' --trace results/default/trace/trace.parquet"""
            " --sessions mine/sessions.csv --speed-loads mine/speed.csv",
        ),
    },
    "prompts": {
        "pool": Verb(
            "tokenise dialogues into the prompt pool",
            """--settings '{"max_tokens": 3072, "buffer_tokens": 1000000, "seed": 1}'"""
            " --dialogues data/raw/sharegpt_subset/ShareGPT_V3_unfiltered_cleaned_split.json"
            " --tokenizer data/raw/tokenizer_mistral_v1/tokenizer.model.v1 --pool mine/pool.arrow"
            " --index mine/pool_index.parquet --replies mine/replies.parquet --record mine/pool.json",
        ),
    },
    "plan": {
        "make": Verb(
            "plan every request of one cell",
            "--settings settings.json --pool-index results/default/prompts/pool_index.parquet"
            " --plan mine/plan.parquet --record mine/plan.json",
        ),
        "load": Verb(
            "plan a load given by options, without a study",
            "--rate 5 --cv 2 --requests 500 --plan mine/plan.parquet --record mine/plan.json",
        ),
    },
    "serve": {
        "simulate": Verb(
            "run a plan on the simulated engine",
            "--settings settings.json --plan mine/plan.parquet --plan-record mine/plan.json"
            " --replies results/default/prompts/replies.parquet --requests mine/requests.parquet"
            " --steps mine/steps.parquet --intervals mine/intervals.parquet --run mine/run.json",
        ),
        "fit": Verb(
            "fit step times to an engine's step log",
            "--steps results/default/serve/warmup/llama-2-7b-chat_a800_s1/steps.parquet"
            " --run results/default/serve/warmup/llama-2-7b-chat_a800_s1/run.json --out mine/fit.json",
        ),
        "calibrate": Verb(
            "find the beta at which the simulated engine uses a share of its KV cache",
            "--settings settings.json --pool-index results/default/prompts/pool_index.parquet"
            " --replies results/default/prompts/replies.parquet --out mine/calibration.csv",
        ),
        "probe": Verb(
            "find the beta at which the study's engine uses a share of its KV cache, by short runs",
            "--settings settings.json --pool results/default/prompts/pool.arrow"
            " --pool-index results/default/prompts/pool_index.parquet --replies results/default/prompts/replies.parquet"
            " --server-log mine/server.log --out mine/probe.json",
        ),
        "validate": Verb(
            "compare the simulator's step times with measured kernels and published times",
            "--settings settings.json --kernel-times data/validation/kernel_times.csv"
            " --points data/validation/published_points.csv --kernels mine/kernels.csv --published mine/published.csv",
        ),
        "vllm": Verb(
            "run a plan on a vLLM server that the job starts",
            "--settings settings.json --plan mine/plan.parquet --plan-record mine/plan.json"
            " --pool results/default/prompts/pool.arrow --requests mine/requests.parquet --steps mine/steps.parquet"
            " --run mine/run.json --server-log mine/server.log",
        ),
        "endpoint": Verb(
            "run a plan on any server with the interface of OpenAI",
            "--settings settings.json --plan mine/plan.parquet --plan-record mine/plan.json"
            " --pool results/default/prompts/pool.arrow --requests mine/requests.parquet --steps mine/steps.parquet"
            " --run mine/run.json",
        ),
    },
    "metrics": {
        "summarise": Verb(
            "failure rate, latency and throughput of one experiment's cells",
            """--settings '{"bootstrap": 2000, "goodput": {"ttft_s": 10.0, "tpot_s": 0.2}, "interval_s": 10,"""
            """ "seed": 1}' --cell results/default/plan/warmup/llama-2-7b-chat_a800_s1"""
            " results/default/serve/warmup/llama-2-7b-chat_a800_s1 --cells mine/cells.csv --summary mine/summary.csv"
            " --timeline mine/timeline.csv",
        ),
        "lengths": Verb(
            "length tables of the responses experiment",
            """--settings '{"coarse_request_bins": [1, 100, 1000], "request_bin_tokens": 20,"""
            """ "response_bin_tokens": 25, "seed": 1}' --cell results/default/plan/responses/llama-2-13b-chat_a800_s1"""
            " results/default/serve/responses/llama-2-13b-chat_a800_s1 --length-counts mine/counts.csv"
            " --length-fits mine/fits.csv --length-tests mine/tests.csv --response-by-request mine/relation.csv"
            " --response-bins mine/bins.csv",
        ),
    },
    "figures": {
        "draw": Verb(
            "draw one figure from its tables",
            """fig15 --style config/figures.yaml --matplotlibrc config/matplotlibrc --facts '{"study": "mine"}'"""
            " --out mine/fig15",
        ),
    },
    "tables": {
        "make": Verb(
            "make one table",
            "table3 --table warmup_summary=results/default/metrics/warmup/summary.parquet"
            """ --facts '{"study": "default", "engine": "simulator", "prompts": "sharegpt_subset","""
            """ "tokenizer": "tokenizer_mistral_v1"}' --out mine/table3""",
        ),
    },
    "paper": {
        "scorecard": Verb(
            "test the paper's claims on the study's tables",
            "--claims config/claims.yaml --table failures=results/default/characterise/failures.parquet"
            " --facts facts.json --out mine/scorecard.csv --markdown mine/scorecard.md --json mine/scorecard.json",
        ),
        "sensitivity": Verb(
            "test the claims on served models under other assumptions of the simulator",
            "--settings settings.json --claims config/claims.yaml"
            " --pool-index results/default/prompts/pool_index.parquet"
            " --replies results/default/prompts/replies.parquet"
            " --gamma-profile results/default/characterise/gamma_profile.parquet --out mine/sensitivity.csv",
        ),
        "pdf": Verb(
            "typeset the paper",
            "--template workflow/report/paper.typ --figures results/default/figures --tables results/default/tables"
            " --scorecard results/default/scorecard.csv --parameters results/default/parameters.json"
            " --facts facts.json --out mine/paper.pdf",
        ),
        "html": Verb(
            "make the web page",
            "--template workflow/report/report.html.j2 --figures results/default/figures"
            " --tables results/default/tables --scorecard results/default/scorecard.csv"
            " --parameters results/default/parameters.json --facts facts.json --out mine/report.html",
        ),
        "provenance": Verb(
            "record what every file was made from",
            "--product results/default/paper.pdf results/default/report.html --facts facts.json"
            " --out mine/provenance.json",
        ),
        "crate": Verb(
            "describe the study as an RO-Crate",
            "--provenance results/default/provenance.json --out mine/ro-crate-metadata.json",
        ),
    },
}

# One line a room, for the overview.
ROOM_TEXTS = {
    "sources": "raw data, fetched and verified",
    "trace": "a trace in one form: read, generated, compared with what is published",
    "characterise": "the numbers behind the figures of section III",
    "prompts": "dialogues as token ids, to draw prompts from",
    "plan": "every request of a run before it starts",
    "serve": "a plan sent to an engine, simulated or real",
    "metrics": "failures, latency and throughput of runs",
    "figures": "figures 1 to 17",
    "tables": "tables I to III",
    "paper": "verdicts, PDF, web page, provenance",
}

FOUND = 3  # exit status of a check that ran and found something
EXIT_CODES = """exit status:
  0    done
  1    a fault of burstbench itself, with a traceback: please report it
  2    wrong input or usage: one sentence, no file touched; a run not as planned leaves its files
  3    a check ran and found something (verify, doctor)
  130  interrupted"""

# What the operating system says of a user's file or disk, not of our code.
_USERS = {
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT,
    errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO,
}  # fmt: skip


class Settings(dict[str, Any]):
    """The parameters of a verb: one that is missing is the caller's mistake, not ours."""

    def __missing__(self, key: str) -> NoReturn:
        raise UserError(f"--settings: key {key!r} is missing; found {', '.join(map(str, self)) or 'none'}")


def _as_settings(value: Any) -> Any:
    """Make settings of the mappings in a value, at every depth."""
    if isinstance(value, dict):
        return Settings({key: _as_settings(inner) for key, inner in value.items()})
    return [_as_settings(inner) for inner in value] if isinstance(value, list) else value


def settings(text: str) -> dict[str, Any]:
    """Parse the value of `--settings`: a JSON object, or the path of a JSON or YAML file that holds one."""
    if not text.lstrip().startswith("{"):
        path = Path(text)
        if not path.is_file():
            raise argparse.ArgumentTypeError(f"neither a JSON object nor a file: {text!r}")
        source, kind = f"{text}: ", "YAML" if path.suffix in {".yaml", ".yml"} else "JSON"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(f"{source}cannot be read: {error}") from error
    else:
        source, kind = "", "JSON"
    try:
        if kind == "YAML":
            import yaml

            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from error
        else:
            value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{source}not {kind}: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{source}found {type(value).__name__}, expected a mapping")
    parsed: Settings = _as_settings(value)
    return parsed


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


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence and a hint."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nhint: {self.prog} --help\n")


class _Overview(_Parser):
    """The parser of `burstbench` itself, whose help is a table of contents."""

    def format_help(self) -> str:
        bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
        lines = [
            f"{bold}usage:{plain} burstbench VERB [options]",
            "       burstbench ROOM VERB [options]",
            "",
            self.description or "",
            "",
            f"{bold}verbs:{plain}",
            *(f"  {name:<13} {verb.text}" for name, verb in COMMANDS.items()),
            "",
            f"{bold}rooms, in the order of the data:{plain}",
        ]
        for room, verbs in ROOMS.items():
            lines += [f"  {room:<13} {ROOM_TEXTS[room]}", f"  {'':<13}   {', '.join(verbs)}"]
        lines += ["", f"{bold}help:{plain}"]
        lines += ["  burstbench trace            the verbs of a room, each with an example"]
        lines += ["  burstbench trace read -h    the options of a verb"]
        lines += ["  make reproduce              the whole study; `make help` lists the rest", ""]
        heading, _, codes = EXIT_CODES.partition("\n")
        return "\n".join([*lines, f"{bold}{heading}{plain}", codes]) + "\n"


def example(words: str, verb: Verb) -> str:
    """An example as a user would paste it: options on lines of their own where one line is too long."""
    import shlex

    whole = f"  burstbench {words} {verb.example}"
    if len(whole) <= 100:
        return whole
    pieces: list[str] = []
    for word in shlex.split(f"burstbench {words} {verb.example}"):
        quoted = f"'{word}'" if set(word) & set(" {}") else word
        if word.startswith("--") and " " in pieces[-1]:
            pieces.append(quoted)
        else:
            pieces[-1:] = [f"{pieces[-1]} {quoted}"] if pieces else [quoted]
    return "  " + " \\\n      ".join(pieces)


def _verb_parser(to: Any, words: str, name: str, verb: Verb, module: str, load: bool) -> ModuleType | None:
    parser = to.add_parser(
        name,
        help=verb.text,
        description=f"{verb.text[0].upper()}{verb.text[1:]}.",
        epilog=f"example:\n{example(words, verb)}" if load else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not load:
        return None
    loaded = importlib.import_module(module)
    loaded.add_arguments(parser)
    return loaded


def verbs() -> Iterator[tuple[str, Verb, str]]:
    """Yield (words, verb, module) of every verb: ``("trace read", Verb(…), "burstbench.trace.read")``."""
    for name, verb in COMMANDS.items():
        yield name, verb, f"burstbench.commands.{name}"
    for room, named in ROOMS.items():
        for name, verb in named.items():
            yield f"{room} {name}", verb, f"burstbench.{room}.{name}"


def make_parser(words: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    """Return the parser, and the module of the verb that is called.

    Args:
        words: the command line, of whose verb alone the module is imported; None for the options of all verbs.
    """
    from burstbench import __doc__ as description
    from burstbench import __version__

    overview = _Overview(prog="burstbench", description=description)
    overview.add_argument("--version", action="version", version=f"burstbench {__version__}")
    found: ModuleType | None = None
    top = overview.add_subparsers(dest="room", required=True, metavar="ROOM or VERB", parser_class=_Parser)
    for name, verb in COMMANDS.items():
        called = words is None or list(words[:1]) == [name]
        module = _verb_parser(top, name, name, verb, f"burstbench.commands.{name}", called)
        found = module or found
    for room, named in ROOMS.items():
        shown = words is None or list(words) == [room, "--help"]
        examples = [example(f"{room} {name}", verb) for name, verb in named.items() if shown]
        room_parser = top.add_parser(
            room,
            help=ROOM_TEXTS[room],
            description=f"{room}: {ROOM_TEXTS[room]}.",
            epilog="examples:\n" + "\n\n".join(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        below = room_parser.add_subparsers(
            dest="verb", required=True, title="verbs", metavar="VERB", parser_class=_Parser
        )
        for name, verb in named.items():
            called = words is None or list(words[:2]) == [room, name]
            module = _verb_parser(below, f"{room} {name}", name, verb, f"burstbench.{room}.{name}", called)
            found = module or found
    return overview, found


def _check_words(words: Sequence[str]) -> list[str]:
    """Return the command line, a lone room or nothing at all being a wish for help; exit with 2 on an unknown name."""
    if not words or (len(words) < 3 and words[0] in ROOMS and words[1:] in ([], ["-h"], ["--help"])):
        return [*words[:1], "--help"]
    known = [*COMMANDS, *ROOMS]
    at = ""
    for word in words[:2]:
        if word.startswith("-") or not known:
            break
        if word not in known:
            import difflib

            close = difflib.get_close_matches(word, known, 1)
            hint = f"burstbench {at}{close[0]}" if close else f"burstbench {at}--help"
            print(
                f"burstbench {at.strip()}".strip() + f": found {word!r}, expected one of {', '.join(known)}",
                f"hint: {hint}",
                sep="\n",
                file=sys.stderr,
            )
            sys.exit(2)
        at, known = f"{word} ", list(ROOMS.get(word, ()))
    return list(words)


def _explain(error: OSError) -> str | None:
    """What the system said of a user's file, in one sentence; None where the error is ours."""
    if error.errno not in _USERS:
        return None
    says = os.strerror(error.errno)
    names = [str(name) for name in (error.filename, error.filename2) if name]
    return f"{names[-1]}: {says}" if names else str(error) if says in str(error) else f"{says}: {error}"


def _printable(text: str) -> str:
    """A message without the control characters of a file that is noise."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def main(argv: list[str] | None = None) -> None:
    """Run one verb; exit with 2 and one sentence on stderr when the input is wrong.

    Args:
        argv: words after the command's name; None for those of this process, which is then ours alone.
    """
    ours = argv is None
    if ours:
        # A verb is one job. More threads cost more than they give on our small matrices, and add in another order.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        from burstbench.commands.completion import complete

        complete()
    words = _check_words(sys.argv[1:] if argv is None else argv)
    parser, module = make_parser(words)
    args = parser.parse_args(words)
    assert module is not None  # argparse has refused anything else
    if ours and "pyarrow" in sys.modules:
        without_pandas()
    name = " ".join(filter(None, ("burstbench", args.room, getattr(args, "verb", None))))
    try:
        if status := module.run(args):
            sys.exit(status)
        return
    except UserError as error:
        print(f"{name}: {_printable(str(error))}", file=sys.stderr)
    except OSError as error:
        if (text := _explain(error)) is None:
            raise
        print(f"{name}: {text}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)
