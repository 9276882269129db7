"""Made-up tables of every kind that figures and tables are drawn from, through their contracts."""
# ruff: noqa: RUF005

import datetime
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from burstbench import contracts
from burstbench.figures.draw import FIGURES as OF_THE_PAPER
from burstbench.figures.draw import SUPPLEMENT
from burstbench.stats.intervals import wilson
from burstbench.stats.lengths import fit_rows

FIGURES = OF_THE_PAPER | SUPPLEMENT
ROOT = Path(__file__).parents[2]
LOOK = ROOT / "config/figures.yaml"
MATPLOTLIBRC = ROOT / "config/matplotlibrc"
PUBLISHED = {
    "published_daily_requests": ROOT / "data/published/daily_requests.csv",
    "published_hourly_boxes": ROOT / "data/published/hourly_boxes.csv",
    "published_response_by_request": ROOT / "data/published/response_by_request_tokens.csv",
    "published_reading_errors": ROOT / "data/published/reading_errors.csv",
}
FACTS = {
    "study": "trial",
    "trace": "twin",
    "trace_files": [],
    "engine": "simulator",
    "prompts": "sharegpt_subset",
    "tokenizer": "tokenizer_mistral_v1",
    "start": "2023-11-01",
    "days": 61,
}
START = datetime.date(2023, 11, 1)
DAYS = 61
MODELS = ("llama-2-7b-chat", "llama-2-13b-chat")
GPUS = ("a800", "a6000")
INITIAL = {
    ("llama-2-7b-chat", "a6000"): (0.25, 2.0, 1.1),
    ("llama-2-7b-chat", "a800"): (0.25, 1.0, 1.1),
    ("llama-2-13b-chat", "a6000"): (1.0, 5.0, 1.1),
    ("llama-2-13b-chat", "a800"): (0.5, 2.0, 1.1),
}
SHARES = {
    ("conversation", "ChatGPT"): 2000,
    ("conversation", "GPT-4"): 900,
    ("api", "ChatGPT"): 18000,
    ("api", "GPT-4"): 2700,
}


def rows_table(contract: contracts.Contract, rows: list[tuple]) -> dict[str, list]:
    names = [column.name for column in contract.columns]
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def daily_counts(rng: np.random.Generator) -> dict:
    rows = []
    for day in range(DAYS):
        date = START + datetime.timedelta(days=day)
        _, week, weekday = date.isocalendar()
        for (service, model), mean in SHARES.items():
            busy = 0.45 if weekday > 5 and service == "conversation" else 1.0
            count = int(mean * busy * rng.gamma(20 if service == "conversation" else 0.9) / 20)
            count = count * (20 if service == "api" else 1)
            rows.append((day + 1, date.isoformat(), week, weekday, service, model, count, count // 40))
    return rows_table(contracts.DAILY_COUNTS, rows)


def hourly_counts(rng: np.random.Generator) -> dict:
    rows = []
    for day in range(DAYS):
        weekday = (START + datetime.timedelta(days=day)).isoweekday()
        for (service, model), mean in SHARES.items():
            for hour in range(24):
                shape = np.exp(-(((hour - 15) / 6) ** 2)) + 0.05
                spread = rng.gamma(8) / 8 if service == "conversation" else rng.gamma(0.4) / 0.4
                count = int(mean / 12 * shape * spread)
                rows.append((day + 1, weekday, hour, service, model, count, count // 50, count * 580, count * 120))
    return rows_table(contracts.HOURLY_COUNTS, rows)


def bursts(rng: np.random.Generator) -> tuple[dict, dict]:
    ratios, doublings = [], []
    for width, base in ((300, 52.0), (600, 26.0)):
        bars = [base / 2.2 ** (ratio - 2) for ratio in range(2, 11)]
        ratios += [(width, ratio, ratio == 10, bar) for ratio, bar in zip(range(2, 11), bars, strict=True)]
        for alignment in ("aligned", "sliding"):
            for zero in ("skip", "count"):
                for service in ("conversation", "api", "all"):
                    drawn = (alignment, zero, service) == ("aligned", "skip", "all")
                    value = sum(bars) if drawn else sum(bars) * rng.uniform(0.5, 1.9)
                    paper = {300: 65.0, 600: 38.0}[width]
                    for day_type in ("workday", "weekend"):
                        doublings.append(
                            (
                                width,
                                alignment,
                                zero,
                                service,
                                "ChatGPT",
                                day_type,
                                value,
                                value * 0.95,
                                value * 1.05,
                                43,
                            )
                            + (paper if day_type == "workday" else None,)
                        )
    return rows_table(contracts.BURST_RATIOS, ratios), rows_table(contracts.DOUBLINGS, doublings)


def gamma_profile(rng: np.random.Generator) -> dict:
    rows = []
    for service in ("conversation", "api"):
        for index in range(24, 66):
            start = index * 1200.0
            if index in {30, 31}:
                rows.append((service, "ChatGPT", start, 1200.0, 0, 0.01, *[None] * 9))
                continue
            alpha, beta = rng.uniform(0.4, 0.8), rng.uniform(20, 60)
            rows.append(
                (service, "ChatGPT", start, 1200.0, 40, 0.03, alpha, alpha * 0.8, alpha * 1.3)
                + (beta, beta * 0.6, beta * 1.5, 1 / beta, 1 / beta / 1.5, 1 / beta / 0.6)
            )
    return rows_table(contracts.GAMMA_PROFILE, rows)


def lengths(rng: np.random.Generator, sources: tuple[str, ...]) -> dict[str, dict]:
    counts, fits, by_request, bins = [], [], [], []
    for source in sources:
        request = np.minimum(rng.lognormal(4.6, 1.3, 8000).astype(int) + 1, 3000)
        response = np.where(rng.random(8000) < 0.4, rng.normal(60, 30, 8000), rng.normal(420, 170, 8000))
        response = np.clip(response, 1, 1024).astype(int)
        for quantity, values in (("request", request), ("response", response)):
            tokens, number = np.unique(values, return_counts=True)
            counts += [(source, quantity, int(t), int(n)) for t, n in zip(tokens, number, strict=True)]
            for row in fit_rows(tokens, number):
                fits.append(tuple({"source": source, "quantity": quantity, **row}.values()))
        for low in range(0, 2400, 20):
            inside = response[(request >= low) & (request < low + 20)]
            if len(inside):
                quantiles = np.quantile(inside, [0.05, 0.95])
                by_request.append(
                    (source, float(low), low + 20.0, len(inside), float(np.median(inside)), float(inside.mean()))
                    + tuple(map(float, quantiles))
                )
        edges = (1, 100, 250, 500, 1000, 2000, 4000)
        for low, high in pairwise(edges):
            inside = response[(request >= low) & (request < high)]
            number, _ = np.histogram(inside, np.arange(0, 1051, 25))
            bins += [(source, float(low), float(high), 25.0 * i, 25.0 * i + 25, int(n)) for i, n in enumerate(number)]
    names = [column.name for column in contracts.LENGTH_FITS.columns]
    order = [
        "source",
        "quantity",
        "family",
        "n",
        "n_max",
        "parameters",
        "log_likelihood",
        "aic",
        "ratio",
        "p_value",
        "ks",
    ]
    assert names == order
    return {
        "length_counts": rows_table(contracts.LENGTH_COUNTS, counts),
        "length_fits": rows_table(contracts.LENGTH_FITS, fits),
        "response_by_request": rows_table(contracts.RESPONSE_BY_REQUEST, by_request),
        "response_bins": rows_table(contracts.RESPONSE_BINS, bins),
    }


def failure_tables(rng: np.random.Generator) -> tuple[dict, dict]:
    cells = {
        ("conversation", "ChatGPT"): (103_000, 6_500),
        ("conversation", "GPT-4"): (51_000, 2_000),
        ("api", "ChatGPT"): (1_106_000, 14_400),
        ("api", "GPT-4"): (168_000, 2_500),
    }
    rows, days = [], []
    for service in ("conversation", "api", "all"):
        for model in ("ChatGPT", "GPT-4", "all"):
            parts = [v for (s, m), v in cells.items() if service in (s, "all") and model in (m, "all")]
            n, failed = sum(p[0] for p in parts), sum(p[1] for p in parts)
            rate = failed / n
            half = 1.96 * np.sqrt(rate * (1 - rate) / n)
            rows.append((service, model, n, failed, rate, rate - half, rate + half))
    for (service, model), (n, failed) in cells.items():
        for day in range(DAYS):
            requests = max(int(n / DAYS * rng.gamma(0.8)), 3)
            bad = int(rng.binomial(requests, min(failed / n * rng.gamma(1.2) / 1.2, 1)))
            days.append((day + 1, service, model, requests, bad, bad / requests, *wilson(bad, requests)))
    return rows_table(contracts.FAILURES, rows), rows_table(contracts.DAILY_FAILURES, days)


def timeline(rng: np.random.Generator, experiment: str, api: bool) -> dict:
    rows = []
    for gpu in GPUS:
        for seed in (1, 2):
            for index in range(532):
                time = index * 10.0
                warm = time < 1000
                window = int((time - 1000) // 60)
                alpha = 0.5 if warm else 0.4 + 0.3 * np.sin(window / 5) ** 2
                beta = 2.0 if warm else (0.8 if api else 4) * (1.4 + np.sin(window / 9))
                load = min(
                    1.0, (0.3 if gpu == "a800" else 0.6) * (2 if api and not warm else 1) * rng.uniform(0.6, 1.4)
                )
                arrivals = int(rng.poisson(8))
                failed = int(rng.binomial(arrivals, 0.4)) if load > 0.9 else 0
                done = arrivals - failed
                rows.append(
                    (experiment, MODELS[1], gpu, seed, time, 10.0, "warmup" if warm else "mirrored", alpha, beta)
                    + (arrivals, done, failed, failed / arrivals if arrivals else None)
                    + (8 + 30 * load**3 if done else None, 0.03 if done else None, 900 * load, load, 20.0, 2.0)
                )
    return rows_table(contracts.TIMELINE, rows)


METRICS = {
    "latency_mean": ("s", 12.0),
    "latency_p90": ("s", 25.0),
    "token_latency_mean": ("s", 0.04),
    "throughput_tokens": ("tokens/s", 700.0),
    "failure_rate": ("1", 0.05),
    "kv_usage_mean": ("1", 0.35),
    "kv_usage_p10": ("1", 0.2),
    "kv_usage_p90": ("1", 0.5),
}


def summary(rng: np.random.Generator, experiment: str, varied: str) -> dict:
    rows = []
    for model in MODELS:
        for gpu in GPUS:
            alpha, beta, theta = INITIAL[model, gpu]
            parts = [("warmup", -1, 1.0)]
            if varied:
                curve = {
                    "alpha": lambda s: 0.25 + 0.75 * (s / 5 - 1) ** 2,
                    "beta": lambda s: 1 - 0.075 * s,
                    "theta": lambda s: 1 + 0.05 * s,
                }[varied]
                parts += [("variation", -1, 1.0)] + [("variation", step, curve(step)) for step in range(11)]
            for phase, step, factor in parts:
                of = {
                    "alpha": alpha * (factor if varied == "alpha" else 1),
                    "beta": beta * (factor if varied == "beta" else 1),
                    "theta": theta * (factor if varied == "theta" else 1),
                }
                for metric, (unit, level) in METRICS.items():
                    value = level * rng.uniform(0.8, 1.2)
                    missing = metric == "latency_p90" and step == 3 and gpu == "a6000" and model == MODELS[1]
                    rows.append(
                        (experiment, model, gpu, phase, step, of["alpha"], of["beta"], of["theta"], metric, unit)
                        + ((None, None, None, 0) if missing else (value, value * 0.93, value * 1.07, 2))
                    )
    return rows_table(contracts.SUMMARY, rows)


def trace_check(rng: np.random.Generator) -> dict:
    """Some numbers of each published table, one beyond the edge and one that is a lower limit only."""
    items = [("moments", "requests: all", 1.4e6), ("moments", "gaps: median", 1.0)]
    for model in ("ChatGPT", "GPT-4"):
        for stream, level in ((f"conversation {model}", 1000.0), (f"api {model}", 20_000.0)):
            items += [("daily_requests", f"2023-11-{day:02d} {stream} requests", level) for day in range(6, 26)]
            for quantity in ("request_count", "request_tokens", "response_tokens"):
                items += [
                    ("hourly_boxes", f"hourly_{quantity} {stream} {hour} h {corner}", level * (hour + 1))
                    for hour in range(24)
                    for corner in ("q1", "median")
                ]
        items += [
            ("response_by_request_tokens", f"{model} response_{name} at {n} request tokens", 100.0 + n)
            for n in range(10, 800, 10)
            for name in ("median", "p95")
        ]
    error = rng.normal(0, 0.05, len(items))
    error[0] = 3.0
    rows = [
        (table, item, "requests", value, value * (1 + off), off, 1.0, number == 5)
        for number, ((table, item, value), off) in enumerate(zip(items, error, strict=True))
    ]
    return rows_table(contracts.TRACE_CHECK, rows)


def write_tables(folder: Path, seed: int = 7) -> dict[str, Path]:
    """Write every table that any figure takes, and return paths by name."""
    rng = np.random.default_rng(seed)
    ratios, doublings = bursts(rng)
    rates, daily = failure_tables(rng)
    services = ("trace conversation ChatGPT", "trace conversation GPT-4", "trace api ChatGPT", "trace api GPT-4")
    tables = {
        "daily_counts": daily_counts(rng),
        "hourly_counts": hourly_counts(rng),
        "burst_ratios": ratios,
        "doublings": doublings,
        "gamma_profile": gamma_profile(rng),
        **lengths(rng, services),
        **{f"responses_{name}": table for name, table in lengths(rng, ("run llama-2-13b-chat a800",)).items()},
        "failures": rates,
        "daily_failures": daily,
        "mirror_conversation_timeline": timeline(rng, "mirror_conversation", False),
        "mirror_api_timeline": timeline(rng, "mirror_api", True),
        **{f"vary_{name}_summary": summary(rng, f"vary_{name}", name) for name in ("alpha", "beta", "theta")},
        "warmup_summary": summary(rng, "warmup", ""),
        "trace_check": trace_check(rng),
    }
    known = {
        name: contract
        for artifact, _ in FIGURES.values()
        for name, contract in (artifact.required | artifact.optional).items()
    }
    known["warmup_summary"] = contracts.SUMMARY
    paths = {}
    for name, table in tables.items():
        paths[name] = folder / f"{name}.parquet"
        known[name].write(table, paths[name])
    return paths | PUBLISHED


def tables_of(figure: str, paths: dict[str, Path]) -> dict[str, Path]:
    artifact, _ = FIGURES[figure]
    return {name: paths[name] for name in (*artifact.required, *artifact.optional)}


def facts_text() -> str:
    return json.dumps(FACTS)
