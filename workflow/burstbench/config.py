"""The configuration: strict, checked as a whole before any job starts, with errors that name key and file."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import yaml

from burstbench.errors import UserError

if TYPE_CHECKING:
    from burstbench.trace.adapters import Adapter

ROOT = Path(__file__).parents[2]


class ConfigError(UserError):
    """A wrong key or value of the configuration."""


@dataclass(frozen=True, order=True)
class Cell:
    """One benchmark run: experiment x model x GPU x seed."""

    experiment: str
    model: str
    gpu: str
    seed: int

    @property
    def folder(self) -> str:
        """Where its files lie, below plan/ and serve/."""
        return f"{self.experiment}/{self.model}_{self.gpu}_s{self.seed}"


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: it is missing, not YAML, or has a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def in_order(files: Sequence[str]) -> list[Path]:
    """Return Snakemake's configuration files so that a later one wins: it names the study's own after its overlays."""
    study = ROOT / "config/study.yaml"
    return sorted(map(Path, files), key=lambda path: path.resolve() != study.resolve())


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Merge configuration files as Snakemake does (a later file's keys win) and check the result."""
    merged: dict[str, Any] = {}
    for path in files:
        merge(merged, load_yaml(path) or {})
    return check(merged, files)


def check(config: dict[str, Any], files: Sequence[Path], folder: Path = ROOT / "config") -> dict[str, Any]:
    """Return the configuration if it is right, without the experiments that a file sets to null.

    Args:
        config: the merged configuration; those experiments are taken out of it.
        files: the files it was merged from, to name the one at fault.
        folder: where schema.yaml, models.yaml, gpus.yaml and datasets.csv lie.

    Raises:
        ConfigError: for each key at fault a line with key, file, what was found and what was expected.
    """
    experiments = config.get("experiments")
    if isinstance(experiments, dict):
        for name in [name for name, experiment in experiments.items() if experiment is None]:
            del experiments[name]
    validator = jsonschema.Draft202012Validator(load_yaml(folder / "schema.yaml"))
    errors = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))
    problems = [text for error in errors for text in explain(error, files)]
    if not problems:
        problems = _semantics(config, files, folder)
    if problems:
        raise ConfigError("the configuration is wrong:\n  " + "\n  ".join(problems))
    return config


def cells(config: dict[str, Any], experiment: str | None = None) -> list[Cell]:
    """Return the study's cells, of one experiment or of all, in a fixed order."""
    chosen = [experiment] if experiment else list(config["experiments"])
    return [
        Cell(name, model, gpu, seed)
        for name in chosen
        for model, gpu, seed in itertools.product(
            config["experiments"][name].get("models", config["models"]),
            config["experiments"][name].get("gpus", config["gpus"]),
            config["experiments"][name].get("seeds", config["seeds"]),
        )
        if gpu in config["gpus"] and model in config["models"]
    ]


class _UniqueKeys(yaml.SafeLoader):
    """A YAML loader that refuses a key that stands twice in one mapping."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    for position, key in enumerate(keys):
        if key in keys[:position]:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", node.value[position][0].start_mark
            )
    return loader.construct_mapping(node, deep=deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def merge(into: dict[str, Any], update: dict[str, Any]) -> None:
    """Put the keys of `update` into `into`, level by level, as Snakemake merges configuration files."""
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def _key(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the whole"


def _origin(path: Sequence[str | int], files: Sequence[Path]) -> str:
    """The last of the files that sets the key, or the command line."""
    for file in reversed(files):
        value = load_yaml(Path(file))
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                break
        else:
            return _short(file)
    return "--config" if path or not files else _short(files[-1])


def _short(file: Path) -> str:
    """The path as a user would type it here."""
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


def explain(error: jsonschema.ValidationError, files: Sequence[Path]) -> list[str]:
    """Return, of one error of a schema, a line for each key at fault: key, file, what was found and expected."""
    path: list[str | int] = list(error.absolute_path)
    schema: dict[str, Any] = dict(error.schema) if isinstance(error.schema, Mapping) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        return [
            f"{_key([*path, key])} (in {_origin([*path, key], files)}): unknown key; known here: {', '.join(known)}"
            for key in unknown
        ]
    if error.validator == "required":
        return [f"{_key(path)} (in {_origin(path, files)}): {error.message}"]
    if error.validator in {"oneOf", "anyOf"} and error.context:
        best = jsonschema.exceptions.best_match([error])
        if best is not error:
            return explain(best, files)
    expected = schema.get("description", "")
    hint = f" ({expected})" if expected else ""
    return [f"{_key(path)} (in {_origin(path, files)}): {error.message}{hint}"]


def _not_in_trace(config: dict[str, Any], adapters: Sequence["Adapter"]) -> Iterator[tuple[list[str | int], str]]:
    """Yield key and problem of each service and model that is asked for and cannot be in a trace read so."""
    services, models = set[str](), set[str]()
    for adapter in adapters:
        services |= {adapter.service} if adapter.service else set(adapter.services.values())
        models |= {adapter.model} if adapter.model else set(adapter.models)
    asked: list[tuple[list[str | int], Any, str]] = [(["characterise", "bursts"], config["characterise"]["bursts"], "")]
    for name, experiment in config["experiments"].items():
        for number, phase in enumerate(experiment["phases"]):
            for kind in ("mirror", "lengths", "replay"):
                out = f", or leave the experiment out with `experiments: {{{name}: null}}`"
                asked.append((["experiments", name, "phases", number, kind], dict(phase).get(kind), out))
    for path, wanted, out in asked:
        for key, known in (("service", services), ("scaled_to", services), ("model", models)):
            name = wanted.get(key) if isinstance(wanted, dict) else None
            if isinstance(name, str) and known and name not in {*known, "all"}:
                found = ", ".join(map(repr, sorted(known)))
                yield [*path, key], f"{name!r} is not in the trace, which can hold {found}: name one of these{out}"


def _semantics(config: dict[str, Any], files: Sequence[Path], folder: Path) -> list[str]:
    """What a schema cannot say: names that must exist elsewhere, lengths that must fit, models that must fit."""
    # Imported here: the light part of the rooms that know what fits.
    from burstbench.plan.phases import validate as validate_phases
    from burstbench.serve.capacity import blocks
    from burstbench.sources.registry import read_registry

    problems: list[str] = []

    def problem(path: Sequence[str | int], text: str) -> None:
        problems.append(f"{_key(path)} (in {_origin(path, files)}): {text}")

    models = load_yaml(folder / "models.yaml")
    gpus = load_yaml(folder / "gpus.yaml")
    # A run on the CPU is measured, never modelled: its "GPU" is called cpu, or cpu_a800 where nodes of that name lend
    # theirs, and has no row.
    vllm = config["engines"]["vllm"]
    on_cpu = config["engine"] == "vllm" and vllm["device"] == "cpu"
    if on_cpu:
        gpus = {"cpu": None} | {f"cpu_{name}": None for name in gpus}
        if vllm["weights"] != "dummy":
            problem(
                ["engines", "vllm", "weights"], f"{vllm['weights']!r}: device cpu serves random weights only: dummy"
            )
    datasets = read_registry(folder / "datasets.csv")

    def known(path: Sequence[str | int], name: str, names: Any, file: str) -> bool:
        if name not in names:
            problem(path, f"{name!r} is not in {folder.name}/{file}, which has: {', '.join(sorted(names))}")
            return False
        return True

    for position, name in enumerate(config["trace"]["datasets"]):
        known(["trace", "datasets", position], name, datasets, "datasets.csv")
    from burstbench.trace.adapters import adapters_of

    trace = config["trace"]
    if (window := trace.get("window")) and not window["from_day"] <= window["to_day"] <= trace["days"]:
        problem(
            ["trace", "window"],
            f"days {window['from_day']} to {window['to_day']} are not within the {trace['days']} days of the trace",
        )
    if trace.get("offsets_s") and len(trace["offsets_s"]) != len(trace["datasets"]):
        problem(
            ["trace", "offsets_s"],
            f"found {len(trace['offsets_s'])} offsets, expected one for each of the {len(trace['datasets'])} data sets",
        )
    try:
        adapters = adapters_of(trace)
    except UserError as error:
        problem(["trace", "adapter"], str(error))
    else:
        if trace["source"] == "real":
            for path, text in _not_in_trace(config, adapters):
                problem(path, text)
    for key in ("dataset", "tokenizer"):
        known(["prompts", key], config["prompts"][key], datasets, "datasets.csv")
    from_, to = config["characterise"]["workday_hours"]
    if from_ >= to:
        problem(["characterise", "workday_hours"], f"{from_} is not before {to}")
    gamma = config["characterise"]["gamma"]
    if 86_400 % gamma["window_s"]:
        problem(["characterise", "gamma", "window_s"], f"{gamma['window_s']} s do not divide a day")
    if gamma["offset_s"] >= gamma["window_s"]:
        problem(["characterise", "gamma", "offset_s"], f"{gamma['offset_s']} s is not less than window_s")
    edges = config["characterise"]["lengths"]["coarse_request_bins"]
    if sorted(set(edges)) != edges:
        problem(["characterise", "lengths", "coarse_request_bins"], f"{edges} does not rise")

    if config["engine"] == "endpoint":
        for key in ("models", "gpus"):
            if len(config[key]) != 1:
                problem([key], f"found {len(config[key])}, expected one: engines.endpoint.url is one server")
        if "probe" in config["plan"]:
            problem(["plan", "probe"], "engine endpoint cannot be probed: its KV-cache use is not recorded")
        for name, experiment in config["experiments"].items():
            if "sampling" in experiment:
                problem(["experiments", name, "sampling"], "engine endpoint takes none: see engines.endpoint")

    longest = config["prompts"]["max_tokens"] + config["plan"]["max_tokens"]
    measured = config["engine"] == "vllm"
    utilization = config["engines"]["vllm" if measured else "simulator"]["memory_utilization"]
    for position, model in enumerate(config["models"]):
        if not known(["models", position], model, models, "models.yaml"):
            continue
        limit = models[model]["max_model_len"]
        if longest > limit:
            problem(
                ["prompts", "max_tokens"],
                f"{config['prompts']['max_tokens']} prompt tokens and {config['plan']['max_tokens']} response tokens "
                f"(plan.max_tokens) exceed the {limit} tokens of {model}",
            )
        for place, gpu in enumerate(config["gpus"]):
            if not known(["gpus", place], gpu, gpus, "gpus.yaml"):
                continue
            if on_cpu:
                continue
            try:
                blocks(models[model], gpus[gpu], utilization)
            except UserError as error:
                problem(["gpus", place], f"{error} (memory_utilization {utilization:g})")
    for name, experiment in config["experiments"].items():
        for key, of in (("models", config["models"]), ("gpus", config["gpus"])):
            for position, value in enumerate(experiment.get(key, [])):
                if value not in of and value not in (models if key == "models" else gpus):
                    known(["experiments", name, key, position], value, of, f"{key}.yaml")
        try:
            validate_phases(experiment["phases"], prompt_max_tokens=config["prompts"]["max_tokens"])
        except UserError as error:
            problem(["experiments", name, "phases"], str(error))
    for cell in cells(config) if not problems else []:
        if cell.gpu not in config["initial"].get(cell.model, {}):
            problem(["initial", cell.model], f"has no row for {cell.gpu!r}, which {cell.experiment!r} needs")
    return sorted(set(problems))
