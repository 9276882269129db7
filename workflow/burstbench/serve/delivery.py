"""Proof of what was delivered: that the load which the server saw is the load that was planned.

Every run's record holds it under "delivery". A run that fails a check is written all the same, and then fails.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burstbench.contracts import OUTCOMES
from burstbench.errors import UserError
from burstbench.serve import client
from burstbench.serve.client import ClientRecords, Options

Int = NDArray[np.int64]

_STARVED = client.OUT_OF_SOCKETS
MESSAGES = 20  # most frequent messages of failures in a record


class DeliveryError(UserError):
    """A run is not what was planned, or was stopped; its records are written nevertheless."""


def ks_distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest distance of two samples' distribution functions (two-sample Kolmogorov-Smirnov); 0 for an empty one."""
    one, other = np.sort(one), np.sort(other)
    if not len(one) or not len(other):
        return 0.0
    both = np.concatenate([one, other])
    below = np.searchsorted(one, both, side="right") / len(one)
    return float(np.max(np.abs(below - np.searchsorted(other, both, side="right") / len(other))))


def timeliness(intended_ns: Int, actual_ns: Int) -> dict[str, Any]:
    """Compare times with those intended: at the client (sent), or at the server where it stamps arrivals.

    Args:
        intended_ns: shape (n,).
        actual_ns: of the same requests, shape (n,), from the same time 0; -1 where it never happened.

    Returns:
        n, lag_s (p50, p90, p99, max of actual - intended), intended and achieved rate in requests/s (over the span from
        the first to the last of the requests that happened) and its relative error, and the KS distance of the gaps
        between requests in time. (Where all intended gaps are equal, any jitter makes that distance large.) Numbers
        that need more requests than there are: None.
    """
    happened = actual_ns >= 0
    intended, actual = intended_ns[happened], actual_ns[happened]
    n = len(actual)
    lag = (actual - intended) / 1e9
    gaps, planned = np.diff(np.sort(actual)), np.diff(np.sort(intended))
    rate = (n - 1) / (gaps.sum() / 1e9) if n > 1 and gaps.sum() else None
    wanted = (n - 1) / (planned.sum() / 1e9) if n > 1 and planned.sum() else None
    names = ("p50", "p90", "p99", "max")
    return {
        "n": n,
        "lag_s": dict(zip(names, np.percentile(lag, (50, 90, 99, 100)).tolist(), strict=True)) if n else None,
        "intended_rate_per_s": wanted,
        "achieved_rate_per_s": rate,
        "rate_error": rate / wanted - 1 if rate and wanted else None,
        "gaps_ks_distance": ks_distance(planned, gaps) if n > 1 else None,
    }


def proof(records: ClientRecords, options: Options, planned_prompt_tokens: Int) -> dict[str, Any]:
    """What was delivered, for "delivery" of run.json.

    Args:
        records: of the run.
        options: of the run; holds the limit of the lag.
        planned_prompt_tokens: of the plan, shape (n,).

    Returns:
        `timeliness` of the sends, counts, the client's share of CPU, and `checks`: a list of name, passed and reason.
    """
    found = timeliness(records.intended_ns, records.sent_ns)
    p99 = found["lag_s"]["p99"] if found["lag_s"] else None
    counted = records.prompt_tokens >= 0
    exact = counted & (records.prompt_tokens == planned_prompt_tokens)
    wrong = np.flatnonzero(counted & ~exact)
    starved = sum(_STARVED in message for message in records.message)
    limit = options.lag_limit_s
    outcomes = {name: int((records.outcome == name).sum()) for name in OUTCOMES}
    checks = [
        {
            "name": "every_request_once",
            "passed": sum(outcomes.values()) == len(records.request_id),
            "reason": f"{sum(outcomes.values())} outcomes of {len(records.request_id)} planned requests",
        },
        {
            "name": "lag",
            "passed": p99 is None or limit is None or p99 <= limit,
            "reason": "nothing was sent"
            if p99 is None
            else f"99th percentile of sent - intended {1000 * p99:.3f} ms, "
            + ("only recorded (lag_limit_s is null)" if limit is None else f"limit {1000 * limit:g} ms (lag_limit_s)"),
        },
        {
            "name": "client_sockets",
            "passed": not starved,
            "reason": f"{starved} requests failed since this machine has no more sockets for the client (ulimit -n, "
            "net.ipv4.ip_local_port_range): that is not the server's failure",
        },
        {
            "name": "prompt_tokens",
            "passed": not len(wrong),
            "reason": f"{int(exact.sum())} of {int(counted.sum())} prompts that the server counted have the planned "
            "length"
            + (
                f"; request_id {records.request_id[wrong[0]]}: planned {planned_prompt_tokens[wrong[0]]} tokens, "
                f"the server counted {records.prompt_tokens[wrong[0]]}"
                if len(wrong)
                else ""
            ),
        },
    ]
    return {
        **found,
        "planned": len(records.request_id),
        "sent": int((records.sent_ns >= 0).sum()),
        "lag_limit_s": limit,
        "prompts_counted_by_server": int(counted.sum()),
        "prompts_of_planned_length": int(exact.sum()),
        "client_cpu_s": records.cpu_s,
        "client_cpu_share": records.cpu_s / (records.wall_s * options.processes) if records.wall_s else None,
        "client_processes": options.processes,
        "partial": records.partial,
        "checks": checks,
    }


def outcomes(records: ClientRecords) -> dict[str, Any]:
    """Counts for run.json: requests by outcome, by HTTP status (-1: no answer), and the most frequent messages."""
    failed = records.outcome != "ok"
    messages, counts = np.unique(records.message[failed].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MESSAGES]
    status, answers = np.unique(records.status, return_counts=True)
    return {
        "outcomes": {name: int((records.outcome == name).sum()) for name in OUTCOMES},
        "statuses": dict(zip(map(str, status.tolist()), answers.tolist(), strict=True)),
        "failure_messages": [{"message": str(messages[k]), "requests": int(counts[k])} for k in order],
    }


def demand(found: dict[str, Any], written: Iterable[Path]) -> None:
    """Fail unless the run was whole and every check of its `proof` passed; to be called after it was written.

    A failed job's outputs are deleted by Snakemake, so they are linked into the folder `failed` beside them first.

    Raises:
        DeliveryError: names each failed check.
    """
    reasons = [f"{check['name']}: {check['reason']}" for check in found["checks"] if not check["passed"]]
    if found["partial"]:
        reasons.insert(0, f"stopped: {found['sent']} of {found['planned']} requests were sent")
    if not reasons:
        return
    for path in written:
        kept = path.parent / "failed" / path.name
        kept.parent.mkdir(exist_ok=True)
        kept.unlink(missing_ok=True)
        os.link(path, kept)
    raise DeliveryError(f"{'; '.join(reasons)} (what was measured is in {kept.parent})")
