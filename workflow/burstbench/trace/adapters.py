"""Which columns a raw trace has, and what they mean: one small table per kind of trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from burstbench.contracts import SERVICES
from burstbench.errors import UserError

REQUIRED = ("time_s", "request_tokens", "response_tokens")
OPTIONAL = ("service", "model", "total_tokens", "session_id", "elapsed_s")


@dataclass(frozen=True)
class Adapter:
    """How the columns of a raw trace become those of `contracts.TRACE`.

    Attributes:
        name: what it is called in messages.
        columns: what is read, and the header it stands under: `REQUIRED` and any of `OPTIONAL`.
        closed: whether the header holds these columns in this order and no others.
        clock: "seconds" since 0:00 of day 1, or "datetime" (ISO 8601; the date of day 1 is a setting).
        services: the labels of the service column, and the service each stands for.
        models: the labels that the model column may hold; empty for any.
        service: the service of all rows, where there is no such column.
        model: the model of all rows, where there is no such column.
        quotes: whether fields may stand in double quotes.
    """

    name: str
    columns: Mapping[str, str]
    closed: bool
    clock: str = "seconds"
    services: Mapping[str, str] = field(default_factory=lambda: {name: name for name in SERVICES})
    models: tuple[str, ...] = ()
    service: str = ""
    model: str = ""
    quotes: bool = False

    def fits(self, header: Sequence[str]) -> bool:
        """Say whether a file with this header can be read."""
        wanted = list(self.columns.values())
        if self.closed:
            return list(header) == wanted
        return all(header.count(name) == 1 for name in wanted)


_BURSTGPT_LABELS: dict[str, Any] = {
    "services": {"Conversation log": "conversation", "API log": "api"},
    "models": ("ChatGPT", "GPT-4"),
}
_BURSTGPT_COLUMNS = {
    "time_s": "Timestamp",
    "model": "Model",
    "request_tokens": "Request tokens",
    "response_tokens": "Response tokens",
    "total_tokens": "Total tokens",
    "service": "Log Type",
}
BURSTGPT_V1 = Adapter("BurstGPT v1", _BURSTGPT_COLUMNS, closed=True, **_BURSTGPT_LABELS)
BURSTGPT_V2 = Adapter(
    "BurstGPT v2",
    {"time_s": "Timestamp", "session_id": "Session ID", "elapsed_s": "Elapsed time", **_BURSTGPT_COLUMNS},
    closed=True,
    **_BURSTGPT_LABELS,
)
AZURE_COLUMNS = {"time_s": "TIMESTAMP", "request_tokens": "ContextTokens", "response_tokens": "GeneratedTokens"}


def adapters_of(settings: Mapping[str, Any]) -> tuple[Adapter, ...]:
    """Return the adapters that a configuration allows, of which a file's header chooses.

    Args:
        settings: `adapter`, one of
            "burstgpt" (the default): release v1 or v2, by the header;
            "azure": the Azure LLM inference traces of 2023 and 2024; needs `model`, takes `service` (default "api");
            "columns": any CSV; needs `columns`, a map of `REQUIRED` and any of `OPTIONAL` to headers, `service` and
            `model` where no column holds them, and takes `clock` and `services`, as in `Adapter`.

    Raises:
        UserError: an unknown adapter or column, or one that is missing.
    """
    name = settings.get("adapter", "burstgpt")
    if name == "burstgpt":
        return BURSTGPT_V1, BURSTGPT_V2
    if name not in {"azure", "columns"}:
        raise UserError(f"adapter: found {name!r}, expected burstgpt, azure or columns")
    columns = dict(AZURE_COLUMNS if name == "azure" else settings.get("columns", {}))
    for column in columns:
        if column not in (*REQUIRED, *OPTIONAL):
            raise UserError(f"columns: found {column!r}, expected some of {', '.join((*REQUIRED, *OPTIONAL))}")
    for column in REQUIRED:
        if column not in columns:
            raise UserError(f"columns: {column!r} is missing")
    if len(set(columns.values())) != len(columns):
        raise UserError("columns: one header stands for two columns")
    service = settings.get("service", "api" if name == "azure" else "")
    model = settings.get("model", "")
    services = dict(settings.get("services", {service: service for service in SERVICES}))
    for found in (*([] if "service" in columns else [service]), *services.values()):
        if found not in SERVICES:
            raise UserError(f"service: found {found!r}, expected {' or '.join(SERVICES)}")
    if "model" not in columns and not model:
        raise UserError(f"model: the adapter {name!r} needs the name of the model")
    clock = settings.get("clock", "datetime" if name == "azure" else "seconds")
    if clock not in {"seconds", "datetime"}:
        raise UserError(f"clock: found {clock!r}, expected seconds or datetime")
    return (
        Adapter(
            name,
            columns,
            closed=name == "azure",
            clock=clock,
            services=services,
            service="" if "service" in columns else service,
            model="" if "model" in columns else model,
            quotes=name == "columns",
        ),
    )
