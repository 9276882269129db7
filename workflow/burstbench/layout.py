"""Where every file of a study lies, and which tables each artifact is made from."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from burstbench.config import ROOT, Cell, cells, load_yaml
from burstbench.plan.phases import files as phase_files
from burstbench.plan.phases import follows_trace, needs_trace
from burstbench.sources.registry import read_registry

# Tables of the characterise room, by the verb that makes them.
CHARACTERISE = {
    "counts": ("daily_counts", "hourly_counts", "periodicity"),
    "bursts": ("doublings", "burst_ratios"),
    "gamma": ("gamma_windows", "gamma_profile", "gamma_summary", "gamma_counts", "gamma_families"),
    "lengths": ("length_counts", "length_fits", "length_tests", "response_by_request", "response_bins"),
    "failures": ("failures", "daily_failures", "failure_loads"),
    "sessions": ("sessions", "speed_loads"),
}
PUBLISHED = {
    "published_daily_requests": "data/published/daily_requests.csv",
    "published_hourly_boxes": "data/published/hourly_boxes.csv",
    "published_response_by_request": "data/published/response_by_request_tokens.csv",
    "published_reading_errors": "data/published/reading_errors.csv",
}
# How well the simulated engine does: tables of hand-started scripts (data/validation/README.md), and those in which the
# study compares its own settings with measurements.
VALIDATION = {
    "validation_scheduler": "data/validation/scheduler_v1.csv",
    "validation_scheduler_prefix_caching": "data/validation/scheduler_v1_prefix_caching.csv",
    "validation_log": "data/validation/rtx4090.csv",
    "validation_log_series": "data/validation/rtx4090_series.csv",
    "validation_gpu": "data/validation/vllm_gpu.csv",
    "validation_gpu_series": "data/validation/vllm_gpu_series.csv",
    "recovery_gamma": "data/validation/recovery_gamma.csv",
    "validation_cpu": "data/validation/vllm_cpu.csv",
    "validation_cpu_series": "data/validation/vllm_cpu_series.csv",
}
VALIDATED = ("validation_kernels", "validation_published")
# Tables that the trace room makes beside the trace.
TRACE_TABLES = {"trace_check": "check", "trace_window": "window"}
_VARIED = ("vary_alpha", "vary_beta", "vary_theta")
# What simulated runs are shown with beside their cells, and the experiments that each repeats: Table III calibrated,
# claims under other assumptions.
SIMULATION: dict[str, tuple[str, ...]] = {
    "calibration": ("warmup",),
    "sensitivity": ("warmup", "mirror_conversation", "mirror_api", *_VARIED),
}
_HOURLY = ("hourly_counts", "published_hourly_boxes", "published_reading_errors")
FIGURES: dict[str, tuple[str, ...]] = {
    "fig01": ("daily_counts", "published_daily_requests", "published_reading_errors"),
    "fig02": ("daily_counts", "published_daily_requests", "published_reading_errors"),
    "fig03": _HOURLY,
    "fig04": _HOURLY,
    "fig05": ("burst_ratios", "doublings"),
    "fig06": ("gamma_profile",),
    "fig07": ("length_counts", "responses_length_counts", "length_fits", "responses_length_fits"),
    "fig08": (
        "response_by_request",
        "responses_response_by_request",
        "published_response_by_request",
        "published_reading_errors",
    ),
    "fig09": ("response_bins", "responses_response_bins"),
    "fig10": _HOURLY,
    "fig11": _HOURLY,
    "fig12": _HOURLY,
    "fig13": _HOURLY,
    "fig14": ("failures", "daily_failures"),
    "fig15": (),
    "fig16": ("mirror_conversation_timeline", "mirror_api_timeline"),
    "fig17": ("vary_alpha_summary", "vary_beta_summary", "vary_theta_summary"),
}
TABLES: dict[str, tuple[str, ...]] = {
    "table1": ("failures", "length_counts", "gamma_profile"),
    "table2": (),
    "table3": ("warmup_summary",),
}
# Exhibits beside the paper's own, where the engine is simulated; in the order in which they are shown.
VALIDATION_FIGURES: dict[str, tuple[str, ...]] = {
    "validation_gpu": ("validation_gpu_series",),
    "validation_log": ("validation_log_series",),
    "validation_kernels": ("validation_kernels",),
    "validation_cpu": ("validation_cpu_series",),
    "validation_published": ("validation_published",),
}
SIMULATION_FIGURES: dict[str, tuple[str, ...]] = {"sensitivity": ("sensitivity",)}
SIMULATION_TABLES: dict[str, tuple[str, ...]] = {"calibration": ("calibration",), "sensitivity": ("sensitivity",)}
VALIDATION_TABLES: dict[str, tuple[str, ...]] = {
    "validation_scheduler": ("validation_scheduler", "validation_scheduler_prefix_caching"),
    "validation_gpu": ("validation_gpu",),
    "validation_log": ("validation_log",),
    "validation_kernels": ("validation_kernels",),
    "validation_cpu": ("validation_cpu",),
    "validation_published": ("validation_published",),
}
# The supplement: what stands behind the figures of the workload.
SUPPLEMENT_FIGURES: dict[str, tuple[str, ...]] = {"figS01": ("trace_check",)}
SUPPLEMENT_TABLES: dict[str, tuple[str, ...]] = {
    "tableS01": ("trace_window",),
    "tableS02": ("periodicity",),
    "tableS03": ("doublings",),
    "tableS04": ("gamma_summary",),
    "tableS05": ("gamma_profile", "gamma_counts"),
    "tableS06": ("gamma_families",),
    "tableS07": ("recovery_gamma",),
    "tableS08": ("length_fits",),
    "tableS09": ("length_tests",),
    "tableS10": ("failures",),
    "tableS11": ("failure_loads",),
    "tableS12": ("sessions", "speed_loads"),
    "tableS13": ("trace_check",),
}
SCORECARD: tuple[str, ...] = (
    "daily_counts",
    "hourly_counts",
    "periodicity",
    "doublings",
    "gamma_windows",
    "gamma_profile",
    "gamma_families",
    "length_counts",
    "length_fits",
    "length_tests",
    "response_by_request",
    "failures",
    "responses_length_tests",
    "responses_length_fits",
    "responses_response_by_request",
    "warmup_cells",
    "warmup_summary",
    "mirror_conversation_timeline",
    "mirror_conversation_summary",
    "mirror_api_timeline",
    "mirror_api_summary",
    "vary_alpha_cells",
    "vary_alpha_summary",
    "vary_alpha_timeline",
    "vary_beta_summary",
    "vary_theta_summary",
)
_TABLES = TABLES | VALIDATION_TABLES | SIMULATION_TABLES | SUPPLEMENT_TABLES
_FIGURES = FIGURES | VALIDATION_FIGURES | SIMULATION_FIGURES | SUPPLEMENT_FIGURES


class Layout:
    """The paths of one study.

    Args:
        config: the checked configuration.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.root = f"results/{config['study']}"
        trace = config["trace"]
        # How the raw files are read; and the calendar of what is characterised: the whole, or a window of it.
        self.reading = {key: value for key, value in trace.items() if key not in ("source", "datasets", "twin")}
        self.calendar = {key: trace[key] for key in ("start", "days")}
        if window := trace.get("window"):
            first = date.fromisoformat(trace["start"]) + timedelta(days=window["from_day"] - 1)
            self.calendar = {"start": first.isoformat(), "days": window["to_day"] - window["from_day"] + 1}
        self.trace = f"{self.root}/trace/trace.parquet"
        self.datasets = read_registry(ROOT / "config/datasets.csv")
        self.models = load_yaml(ROOT / "config/models.yaml")
        self.gpus = load_yaml(ROOT / "config/gpus.yaml")
        prompts = config["prompts"]
        self.pool_settings = {key: prompts[key] for key in ("max_tokens", "buffer_tokens")} | {"seed": config["seed"]}

    @property
    def source(self) -> str:
        """What the artifacts say of the trace: one of `contracts.TRACES`; BurstGPT's data sets are named after it."""
        trace = self.config["trace"]
        own = all(name.startswith("burstgpt") for name in trace["datasets"])
        return "twin" if trace["source"] == "twin" else "real" if own else "other"

    @property
    def engine(self) -> str:
        """What the artifacts say of the engine: one of `contracts.ENGINES`."""
        on_cpu = self.config["engine"] == "vllm" and self.config["engines"]["vllm"]["device"] == "cpu"
        return "vllm-cpu" if on_cpu else str(self.config["engine"])

    def registry_row(self, name: str) -> str:
        """Return what the registry says of a data set, as JSON."""
        return as_json(dataclasses.asdict(self.datasets[name]))

    def dataset(self, name: str) -> str:
        """Return the fetched file of a row of the registry."""
        return f"data/raw/{name}/{self.datasets[name].file}"

    def trace_files(self) -> list[str]:
        """Return the raw files of the real trace."""
        return [self.dataset(name) for name in self.config["trace"]["datasets"]]

    def published_files(self) -> list[str]:
        """Return the committed tables of published numbers."""
        return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "data/published").glob("*.csv"))

    def path(self, name: str) -> str:
        """Return the path of a table by its name, for example ``gamma_profile`` or ``vary_alpha_summary``."""
        if self.source == "other" and name in (*PUBLISHED, "trace_check"):
            raise KeyError(f"no table {name!r}: what is published of BurstGPT says nothing of another trace")
        for committed in (PUBLISHED, VALIDATION):
            if name in committed:
                return committed[name]
        if name in VALIDATED:
            return f"{self.root}/validation/{name}.parquet"
        if name in TRACE_TABLES:
            return f"{self.root}/trace/{TRACE_TABLES[name]}.csv"
        if name in SIMULATION:
            if not self._repeats(name):
                raise KeyError(f"no table {name!r}: its cells cannot be repeated")
            return f"{self.root}/simulation/{name}.parquet"
        for tables in CHARACTERISE.values():
            if name in tables:
                return f"{self.root}/characterise/{name}.parquet"
        for experiment in self.config["experiments"]:
            if name.startswith(f"{experiment}_"):
                return f"{self.root}/metrics/{experiment}/{name.removeprefix(f'{experiment}_')}.parquet"
        raise KeyError(f"no table {name!r} in study {self.config['study']!r}")

    def has(self, name: str) -> bool:
        """Whether the study makes this table: an overlay may leave an experiment out."""
        try:
            self.path(name)
        except KeyError:
            return False
        return True

    def tables(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return name to path of those tables that the study makes."""
        return {name: self.path(name) for name in names if self.has(name)}

    def tables_made(self) -> list[str]:
        """Return every table of the trace and of the runs, shown or not.

        All of them are targets: Snakemake cannot tell that a file is out of date which nothing asks for.
        """
        runs = [f"{self.root}/metrics/{name}/summary.parquet" for name in self.config["experiments"]]
        trace = [self.path(name) for tables in CHARACTERISE.values() for name in tables]
        return [*self.tables(tuple(TRACE_TABLES)).values(), *trace, *runs]

    def check(self) -> list[str]:
        """Return the trace beside the published numbers, where it is BurstGPT or its twin."""
        return list(self.tables(("trace_check",)).values())

    def products(self) -> list[str]:
        """Return what the study is made for; its record and its crate, which are about these, stand beside them."""
        pages = [f"{self.root}/{name}" for name in ("paper.pdf", "report.html", "scorecard.md")]
        return [*pages, *self.tables_made(), *self.beside("figures"), *self.beside("tables")]

    def figure_tables(self, figure: str) -> dict[str, str]:
        """Return the tables that a figure is made from."""
        return self.tables(_FIGURES[figure])

    def made(self, exhibits: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Return the figures, or the tables, for which the study makes what they show."""
        found = {name: [self.has(table) for table in exhibits[name] if table not in PUBLISHED] for name in exhibits}
        return [name for name, has in found.items() if all(has) or (name == "fig16" and any(has))]  # of either stream

    def left_out(self) -> list[str]:
        """Return the paper's figures and tables that the study does not make, as an experiment was left out."""
        return [name for exhibits in (FIGURES, TABLES) for name in exhibits if name not in self.made(exhibits)]

    @property
    def simulated(self) -> bool:
        """Whether step times are the simulator's: then the artifacts say how well it does."""
        return self.config["engine"] in ("simulator", "vllm-emulated")

    def _phases(self, experiments: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return the phases of those of some experiments that the study has."""
        found = self.config["experiments"]
        return [phase for name in experiments if name in found for phase in found[name]["phases"]]

    def _repeats(self, name: str) -> bool:
        """Whether a table of `SIMULATION` is made: whether one process can repeat the cells that it stands beside.

        It has `initial`, not what a probe found, and of the trace no more than the fitted profile.
        """
        phases = self._phases(SIMULATION[name])
        if name == "calibration":  # plans a warm-up of its own: so many seconds, nothing varied
            return self._repeatable(phases) and all(phase.keys() == {"name", "seconds"} for phase in phases)
        return self._repeatable(phases)

    def _repeatable(self, phases: list[dict[str, Any]]) -> bool:
        if self.config["engine"] != "simulator" or "probe" in self.config["plan"] or not phases:
            return False
        return not any(follows_trace({key: phase[key] for key in phase.keys() - {"mirror"}}) for phase in phases)

    def _more_seeds(self, experiment: str) -> list[int]:
        """Return the seeds of an experiment that are simulated without files."""
        if not self._repeatable(self._phases((experiment,))):
            return []
        filed = {cell.seed for cell in cells(self.config, experiment)}
        return [seed for seed in self.config["simulation"]["seeds"] if seed not in filed]

    def repeat_tables(self, experiment: str) -> dict[str, str]:
        """Return the tables from which cells without files are simulated, by name."""
        if not self._more_seeds(experiment):
            return {}
        tables = {name: f"{self.root}/prompts/{name}.parquet" for name in ("pool_index", "replies")}
        if any("mirror" in phase for phase in self._phases((experiment,))):
            tables["gamma_profile"] = self.path("gamma_profile")
        return tables

    def repeat_options(self, experiment: str) -> str:
        """Return the options that name those tables."""
        return " ".join(f"--{name.replace('_', '-')} {path}" for name, path in self.repeat_tables(experiment).items())

    def repeat_files(self, experiment: str) -> list[str]:
        """Return the files that the settings of cells without files name."""
        if not self._more_seeds(experiment):
            return []
        return [*self.simulator_files(), *map(str, phase_files(self._phases((experiment,))))]

    def metrics_settings(self) -> dict[str, str]:
        """Return, by experiment, all that its metrics depend on beside the files, as JSON."""
        config, found = self.config, {}
        for experiment in config["experiments"]:
            seeds = self._more_seeds(experiment)
            repeat = {"seeds": seeds, "beta_kind": config["plan"]["beta_kind"]} | self._world((experiment,))
            found[experiment] = as_json(config["metrics"], {"repeat": repeat} if seeds else {}, seed=config["seed"])
        return found

    def simulation_files(self, name: str) -> list[str]:
        """Return the files that the settings of a table of `SIMULATION` name."""
        settings = self.config["simulation"]
        lengths = {
            "calibration": settings["calibration"]["response_lengths"],
            "sensitivity": [variant.get("response_lengths", {}) for variant in settings["sensitivity"]],
        }.get(name, [])
        measured = [part["file"] for part in lengths if "file" in part]
        functions = [str(path) for path in phase_files(self._phases(SIMULATION[name]))]
        return list(dict.fromkeys([*self.simulator_files(), *measured, *functions]))

    def _world(self, experiments: tuple[str, ...]) -> dict[str, Any]:
        """Return what the cells of some experiments are made from, and which they are, without their seeds."""
        config = self.config
        made = [name for name in experiments if name in config["experiments"]]
        rows = {(cell.experiment, cell.model, cell.gpu): None for name in made for cell in cells(config, name)}
        return {
            "root_seed": config["seed"],
            "cells": [list(row) for row in rows],
            "initial": config["initial"],
            "phases": {name: config["experiments"][name]["phases"] for name in made},
            "max_tokens": config["plan"]["max_tokens"],
            "prompt_max_tokens": config["prompts"]["max_tokens"],
            "models": {name: self.models[name] for name in sorted({row[1] for row in rows})},
            "gpus": {name: self.gpus.get(name) for name in sorted({row[2] for row in rows})},  # a CPU has no row
            "simulator": config["engines"]["simulator"],
        }

    def calibration_settings(self) -> str:
        """Return what the calibration of Table III depends on, as JSON."""
        config = self.config
        world = self._world(SIMULATION["calibration"])
        rows: dict[str, dict[str, Any]] = {}
        for _, model, gpu in world.pop("cells"):
            rows.setdefault(model, {})[gpu] = config["initial"][model][gpu]
        # The warm-up of Table III: the phases before anything varies.
        seconds = [phase["seconds"] for phase in world.pop("phases")["warmup"]]
        return as_json(
            world,
            config["simulation"]["calibration"],
            initial=rows,
            seeds=config["simulation"]["seeds"],
            seconds=sum(seconds),
        )

    def sensitivity_settings(self) -> str:
        """Return what the claims under other assumptions depend on, as JSON."""
        config, metrics = self.config, self.config["metrics"]
        return as_json(
            self._world(SIMULATION["sensitivity"]),
            seeds=config["simulation"]["seeds"],
            beta_kind=config["plan"]["beta_kind"],
            variants=config["simulation"]["sensitivity"],
            interval_s=metrics["interval_s"],
            bootstrap=metrics["bootstrap"],
            goodput=metrics["goodput"],
        )

    def validation_settings(self) -> str:
        """Return what the simulator is compared with measurements by, as JSON."""
        others = load_yaml(ROOT / "data/validation/models.yaml")
        return as_json(gpus=self.gpus, models=self.models | others)

    def cells(self, experiment: str) -> list[Cell]:
        """Return the cells of an experiment."""
        return cells(self.config, experiment)

    def pairs_of(self, gpu: str) -> str:
        """Return the pattern of ``<model>_<gpu>`` of one GPU."""
        return f"({'|'.join(map(re.escape, self.config['models']))})_{re.escape(gpu)}"

    def cells_of(self, gpu: str) -> str:
        """Return the pattern of the names of one GPU's cells."""
        return f"{self.pairs_of(gpu)}_s[0-9]+"

    def cell_folders(self, experiment: str) -> list[tuple[str, str]]:
        """Return (plan folder, serve folder) of each cell of an experiment."""
        return [
            (f"{self.root}/plan/{cell.folder}", f"{self.root}/serve/{cell.folder}") for cell in self.cells(experiment)
        ]

    def cell_files(self, experiment: str) -> list[str]:
        """Return what the metrics of an experiment are made from."""
        return [
            f"{folder}/{name}"
            for plan, serve in self.cell_folders(experiment)
            for folder, name in (
                (plan, "plan.parquet"),
                (plan, "plan.json"),
                (serve, "requests.parquet"),
                (serve, "intervals.parquet" if self.config["engine"] == "simulator" else "steps.parquet"),
                (serve, "run.json"),
            )
        ]

    def cell_options(self, experiment: str) -> str:
        """Return ``--cell PLAN SERVE`` for each cell of an experiment."""
        return " ".join(f"--cell {plan} {serve}" for plan, serve in self.cell_folders(experiment))

    def plan_tables(self, wildcards: Any) -> dict[str, str]:
        """Return the tables that an experiment's plan follows: only those that its phases name."""
        phases = self.config["experiments"][wildcards.experiment]["phases"]
        tables = {}
        if any("mirror" in phase for phase in phases):
            tables["gamma_profile"] = self.path("gamma_profile")
        if any(phase.get("lengths", {}).get("kind") == "trace" for phase in phases):
            tables["length_counts"] = self.path("length_counts")
        if any(map(needs_trace, phases)):
            tables["trace"] = self.trace
        return tables

    def plan_inputs(self, wildcards: Any) -> dict[str, Any]:
        """Return what a cell's plan is made from beside the prompts: tables, files of functions, the probe's record.

        One function for all of them: in a study of many cells, each call of Snakemake to a function costs.
        """
        csvs = [str(path) for path in phase_files(self.config["experiments"][wildcards.experiment]["phases"])]
        return {**self.plan_tables(wildcards), "csvs": csvs, "probe": self.probed(wildcards)}

    def plan_options(self, wildcards: Any) -> str:
        """Return the options that name those tables."""
        tables = [f"--{name.replace('_', '-')} {path}" for name, path in self.plan_tables(wildcards).items()]
        return " ".join(tables + [f"--probe {path}" for path in self.probed(wildcards)])

    def plan_settings(self) -> dict[str, dict[str, str]]:
        """Return, by experiment and cell, all that a plan depends on, as JSON."""
        config = self.config
        return self._by_cell(
            lambda cell: {
                "initial": config["initial"][cell.model][cell.gpu],
                "phases": config["experiments"][cell.experiment]["phases"],
                "max_tokens": config["plan"]["max_tokens"],
                "beta_kind": config["plan"]["beta_kind"],
                "prompt_max_tokens": config["prompts"]["max_tokens"],
            }
        )

    def simulator_settings(self) -> dict[str, dict[str, str]]:
        """Return, by experiment and cell, all that a simulated run depends on, as JSON."""
        return self._by_cell(
            lambda cell: {
                "model_row": self.models[cell.model],
                "gpu_row": self.gpus[cell.gpu],
                "simulator": self.config["engines"]["simulator"],
            }
        )

    def simulator_files(self) -> list[str]:
        """Return the files that the simulator's settings name: measured lengths, fitted or tabulated step times."""
        simulator = self.config["engines"]["simulator"]
        parts = [simulator["response_lengths"], simulator.get("step_time", {})]
        single = [part["file"] for part in parts if "file" in part]
        folders = [Path(part["folder"]) for part in parts if "folder" in part]
        return single + sorted(str(path) for folder in folders for path in folder.iterdir() if path.is_file())

    def vllm_settings(self) -> dict[str, dict[str, str]]:
        """Return, by experiment and cell, all that a run of vLLM depends on, as JSON."""
        emulated = self.config["engine"] == "vllm-emulated"
        return self._by_cell(
            lambda cell: (
                {
                    "engine": self.config["engine"],
                    "model_row": self.models[cell.model],
                    "gpu_row": self.gpus.get(cell.gpu),
                    "vllm": self.config["engines"]["vllm"]
                    | self.config["experiments"][cell.experiment].get("sampling", {}),
                }
                | ({"simulator": self.config["engines"]["simulator"]} if emulated else {})
            )
        )

    def probed(self, wildcards: Any) -> list[str]:
        """Return the probe's record that holds the beta of a cell; none where Table III's is taken."""
        pair = wildcards.cell.rpartition("_s")[0]
        return [f"{self.root}/probe/{pair}.json"] if "probe" in self.config["plan"] else []

    def probe_settings(self) -> dict[str, str]:
        """Return, by model and GPU, all that a probe depends on, as JSON."""
        config, found = self.config, {}
        simulated = config["engine"] == "simulator"
        engine = {"engine": config["engine"]}
        if config["engine"] != "vllm":
            engine["simulator"] = config["engines"]["simulator"]
        if not simulated:
            engine["vllm"] = config["engines"]["vllm"]
        for cell in cells(config):
            found[cell.folder.split("/")[1].rpartition("_s")[0]] = as_json(
                {"experiment": "warmup", "model": cell.model, "gpu": cell.gpu, "seed": config["seeds"][0]},
                {"model_row": self.models[cell.model], "gpu_row": self.gpus.get(cell.gpu)},
                {key: config["plan"][key] for key in ("max_tokens", "beta_kind")},
                engine,
                config["plan"].get("probe", {}),
                initial=config["initial"][cell.model][cell.gpu],
                prompt_max_tokens=config["prompts"]["max_tokens"],
                root_seed=config["seed"],
            )
        return found

    @property
    def has_templates(self) -> bool:
        """Whether an experiment sends its prompts in a chat template."""
        parts = [self.config["engines"]["vllm"]]
        parts += [experiment.get("sampling", {}) for experiment in self.config["experiments"].values()]
        return any(part.get("chat_template") for part in parts)

    def templated(self, wildcards: Any) -> list[str]:
        """Return the tokenizer that the chat template of an experiment is encoded with; none without a template."""
        experiment = self.config["experiments"].get(wildcards.get("experiment"), {})
        vllm = self.config["engines"]["vllm"] | experiment.get("sampling", {})
        return [self.dataset(self.config["prompts"]["tokenizer"])] if vllm["chat_template"] else []

    def template_options(self, wildcards: Any) -> str:
        """Return the option that names that tokenizer."""
        return " ".join(f"--tokenizer {path}" for path in self.templated(wildcards))

    def endpoint_settings(self) -> dict[str, dict[str, str]]:
        """Return, by experiment and cell, all that a run on a server of others depends on, as JSON."""
        endpoint = self.config["engines"]["endpoint"]
        return self._by_cell(lambda _: {key: value for key, value in endpoint.items() if key != "prompts"})

    def endpoint_tokenizer(self) -> list[str]:
        """Return the tokenizer, where prompts are sent to the endpoint as text."""
        as_text = self.config["engines"]["endpoint"]["prompts"] == "text"
        return [self.dataset(self.config["prompts"]["tokenizer"])] if as_text else []

    def _by_cell(self, settings: Callable[[Cell], dict[str, Any]]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for cell in cells(self.config):
            identity = {"experiment": cell.experiment, "model": cell.model, "gpu": cell.gpu, "seed": cell.seed}
            text = as_json(identity, settings(cell), root_seed=self.config["seed"])
            found.setdefault(cell.experiment, {})[cell.folder.split("/")[1]] = text
        return found

    def runs(self) -> list[str]:
        """Return the run records of all cells."""
        return [f"{self.root}/serve/{cell.folder}/run.json" for cell in cells(self.config)]

    def table_inputs(self, table: str) -> dict[str, Any]:
        """Return the inputs of a table, by name."""
        return self.tables(_TABLES[table]) | ({"runs": self.runs()} if table == "table2" else {})

    def table_options(self, table: str) -> str:
        """Return the options that name those inputs."""
        text = options("--table", self.tables(_TABLES[table]))
        return f"{text} --run {' '.join(self.runs())}" if table == "table2" else text

    def tables_of_runs(self) -> dict[str, str]:
        """Return the tables of the metrics room from which the page shows single runs, by name."""
        kinds = ("timeline", "cells", "summary")
        names = [f"{experiment}_{kind}" for experiment in self.config["experiments"] for kind in kinds]
        return {name: self.path(name) for name in names}

    def more_options(self) -> str:
        """Return the options that name the exhibits beside the paper's own."""
        named = {kind: dict.fromkeys(Path(file).stem for file in self.beside(kind)) for kind in ("figures", "tables")}
        more = [f"--more-{kind} {' '.join(names)}" for kind, names in named.items() if names]
        for flag, names in (("--left-out", self.left_out()), ("--check", self.check())):
            more += [f"{flag} {' '.join(names)}"] if names else []
        return " ".join(more)

    def artifacts(self, kind: str) -> list[str]:
        """Return every file of the paper's figures, or of its tables."""
        return self._files(kind, self.made({"figures": FIGURES, "tables": TABLES}[kind]))

    def simulation(self, kind: str) -> list[str]:
        """Return every file of the figures, or of the tables, that simulated runs are shown with."""
        exhibits = {"figures": SIMULATION_FIGURES, "tables": SIMULATION_TABLES}[kind]
        return self._files(kind, self.made(exhibits))

    def validation(self, kind: str) -> list[str]:
        """Return every file of the figures, or of the tables, that say how well the simulator does."""
        exhibits = {"figures": VALIDATION_FIGURES, "tables": VALIDATION_TABLES}[kind]
        return self._files(kind, list(exhibits) if self.simulated else [])

    def supplement(self, kind: str) -> list[str]:
        """Return every file of the figures, or of the tables, of the supplement."""
        return self._files(kind, self.made({"figures": SUPPLEMENT_FIGURES, "tables": SUPPLEMENT_TABLES}[kind]))

    def exhibits(self, kind: str) -> list[str]:
        """Return every file of all figures, or of all tables, that the paper and the page show."""
        return self.artifacts(kind) + self.beside(kind)

    def beside(self, kind: str) -> list[str]:
        """Return every file of the figures, or of the tables, beside the paper's own."""
        return self.validation(kind) + self.simulation(kind) + self.supplement(kind)

    def _files(self, kind: str, names: list[str]) -> list[str]:
        suffixes = {"figures": ("svg", "png", "csv", "json"), "tables": ("md", "tex", "csv", "json")}[kind]
        return [f"{self.root}/{kind}/{name}.{suffix}" for name in names for suffix in suffixes]

    def _follows_trace(self, name: str) -> bool:
        """Whether a table of runs rests on the trace, by the phases of the experiments that it shows."""
        own = tuple(run for run in self.config["experiments"] if name.startswith(f"{run}_"))
        return any(map(follows_trace, self._phases(SIMULATION.get(name, own))))

    def facts(self, names: tuple[str, ...] | None = None) -> str:
        """Return, as JSON, what an artifact must say of its inputs.

        Args:
            names: the tables it is made from; None for all. An artifact of the trace alone says nothing of the engine,
                so that another engine does not make it again; a run says the trace only where it follows it.
        """
        config = self.config
        facts: dict[str, Any] = {"study": config["study"]}
        if (
            names is None
            or any(name in tables for tables in (*CHARACTERISE.values(), TRACE_TABLES) for name in names)
            or any(map(self._follows_trace, names))
        ):
            real = config["trace"]["source"] == "real"
            rows = [self.datasets[name] for name in config["trace"]["datasets"]] if real else []
            sums = [" or ".join(identity.sha256 for identity in row.identities) for row in rows]
            facts |= {"trace": self.source, "trace_files": [row.file for row in rows]} | self.calendar
            if "window" in config["trace"]:
                facts["trace_window"] = config["trace"]["window"] | {"of_days": config["trace"]["days"]}
            if sums:
                facts["trace_sha256"] = "; ".join(sums)
        runs = [f"{run}_" for run in config["experiments"]]
        if names is None or any(name in SIMULATION or name.startswith(tuple(runs)) for name in names):
            prompts = config["prompts"]
            facts |= {"engine": self.engine, "prompts": prompts["dataset"], "tokenizer": prompts["tokenizer"]}
        return as_json(facts)

    def table_facts(self, table: str) -> str:
        """Return the facts of a table; Table II rests on the records of the runs, the first experiment's and on."""
        return self.facts(_TABLES[table] or (f"{next(iter(self.config['experiments']))}_summary",))


def as_json(*parts: dict[str, Any], **values: Any) -> str:
    """Return settings as one JSON text with sorted keys: a plain value, so that Snakemake sees each change."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part
    return json.dumps(merged | values, sort_keys=True)


def options(flag: str, named: dict[str, str]) -> str:
    """Return ``flag name=path`` for each entry, for a command line."""
    return " ".join(f"{flag} {name}={path}" for name, path in named.items())
