"""What the paper says of its results, in sentences: hits and misses alike, each number out of the scorecard.

A sentence stands only if every number in it was measured; which of two sentences stands is decided by whether the test
of that part holds. `@fig05` and `@table3` are references.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from burstbench.paper.claims.evidence import digits

_PLACE = re.compile(r"\{([^{}]+)\}")


class Findings:
    """The scorecard's parts, to be quoted.

    Args:
        parts: rows of scorecard.json; `numbers` and `holds` may be missing.
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self._parts = {f"{part['claim']}/{part['part']}": part for part in parts}

    def holds(self, part: str) -> bool | None:
        """Whether the test of a part ("5/10 minutes") holds; None where it could not tell, or there is no such part."""
        return self._parts.get(part, {}).get("holds")

    def numbers(self, part: str) -> list[dict[str, Any]]:
        """Return the numbers of a part that were measured."""
        return [number for number in self._parts.get(part, {}).get("numbers", ()) if number["value"] is not None]

    def number(self, part: str, label: str = "", after: int = 0) -> dict[str, Any] | None:
        """Return the number of a part with a label, or the one so many places after it."""
        found = self._parts.get(part, {}).get("numbers", ())
        for place, number in enumerate(found):
            if number["label"] == label and place + after < len(found):
                return found[place + after] if found[place + after]["value"] is not None else None
        return None

    def say(self, *sentences: str, **more: Any) -> str:
        """Return those sentences, joined, whose numbers were all measured.

        In braces stands ``claim/part`` or ``claim/part/label`` for a number with unit and interval, with ``:bare`` for
        the number alone, ``:published`` for what the paper says; or a name of `more`.
        """
        return " ".join(filter(None, (self._fill(sentence, more) for sentence in sentences)))

    def either(self, part: str, if_holds: str, if_not: str, untold: str = "", **more: Any) -> str:
        """Return one of two sentences, by whether the part's test holds; `untold` where it could not tell."""
        return self.say({True: if_holds, False: if_not, None: untold}[self.holds(part)], **more)

    def _fill(self, sentence: str, more: Mapping[str, Any]) -> str:
        missing = False

        def value(match: re.Match[str]) -> str:
            nonlocal missing
            name, _, form = match[1].partition(":")
            text = str(more[name] or "") if name in more else self._quoted(name, form)
            missing = missing or not text
            return text

        filled = _PLACE.sub(value, sentence)
        return "" if missing else filled

    def _quoted(self, name: str, form: str) -> str:
        claim, part, *label = name.split("/", 2)
        part = f"{claim}/{part}"
        if form == "published":
            return str(self._parts.get(part, {}).get("published") or "")
        number = self.number(part, label[0] if label else "")
        if number is None:
            return ""
        return digits(number["value"]) if form == "bare" else quoted(number)


def quoted(number: Mapping[str, Any]) -> str:
    """Return a number with its unit and 95 % interval: "5.8 % [5.6, 5.9]"."""
    unit = f" {number['unit']}" if number["unit"] else ""
    span = (
        ""
        if number["low"] is None or number["high"] is None
        else f" [{digits(number['low'])}, {digits(number['high'])}]"
    )
    return f"{digits(number['value'])}{unit}{span}"


def listed(items: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def case_name(label: str) -> str:
    """Return "Llama-2-7b-chat on the A800" for "llama-2-7b-chat a800"."""
    model, _, gpu = label.partition(" ")
    return f"{model[:1].upper()}{model[1:]}" + (f" on the {gpu.upper()}" if gpu else "")


def sections(
    parts: Sequence[Mapping[str, Any]], twin: bool, tables: Mapping[str, Sequence[Sequence[str]]] | None = None
) -> dict[str, list[str]]:
    """Return the paragraphs on the results, by section of the paper.

    Args:
        parts: rows of scorecard.json.
        twin: whether the trace is the twin.
        tables: cells of the tables beside the paper's own, header first, by id.
    """
    f = Findings(parts)
    made = {
        "overview": _overview(f, twin),
        "concurrency": _concurrency(f),
        "bursts": _bursts(f, twin),
        "lengths": _lengths(f),
        "traffic": _traffic(f),
        "reliability": _reliability(f),
        "warmup": _warmup(f),
        "mirrored": _mirrored(f),
        "varied": _varied(f),
        "validation": _validation(tables or {}),
    }
    # A paragraph of which no sentence stands is none.
    joined = {name: [" ".join(paragraph.split()) for paragraph in paragraphs] for name, paragraphs in made.items()}
    return {name: [paragraph for paragraph in paragraphs if paragraph] for name, paragraphs in joined.items()}


def _overview(f: Findings, twin: bool) -> list[str]:
    trace = "twin" if twin else "trace"
    return [
        f.say(
            "The {trace} holds {1/all requests} in {days} days.",
            "ChatGPT answered {1/ChatGPT API:bare} of them through the API and {1/ChatGPT conversation:bare} in"
            " conversation, GPT-4 {1/GPT-4 API:bare} and {1/GPT-4 conversation:bare}.",
            "That is {1/ChatGPT API rate} to ChatGPT's API on average and {1/ChatGPT conversation rate} of conversation"
            " (the paper: {1/ChatGPT API rate:published} and {1/ChatGPT conversation rate:published}).",
            trace=trace,
            days=next((digits(number["value"]) for number in f.numbers("1/period")), None),
        )
    ]


_API_HOURS = (
    "{3/API is irregular/ChatGPT 24h} and {3/API is irregular/ChatGPT 168h} for ChatGPT,"
    " {3/API is irregular/GPT-4 24h} and {3/API is irregular/GPT-4 168h} for GPT-4"
)


def _concurrency(f: Findings) -> list[str]:
    return [
        f.say(
            "A workday brings {2/conversation/ChatGPT} times as many conversations with ChatGPT as a day of the"
            " weekend,"
            " and {2/conversation/GPT-4} times as many with GPT-4 (in brackets here and below: 95 % intervals).",
        )
        + " "
        + f.either(
            "2/API",
            "In the API the same ratios, {2/API/ChatGPT workday/weekend} and {2/API/GPT-4 workday/weekend}, cannot"
            " be told"
            " from one: there is no weekly pattern.",
            "The API's ratios are {2/API/ChatGPT workday/weekend} and {2/API/GPT-4 workday/weekend}, so that a weekly"
            " pattern cannot be excluded.",
            "The API's ratios are {2/API/ChatGPT workday/weekend} and {2/API/GPT-4 workday/weekend}.",
        ),
        " ".join(
            (
                f.either(
                    "3/conversation repeats",
                    "The hours of conversation repeat.",
                    "That the hours of conversation repeat does not hold for both models.",
                ),
                f.say(
                    "With ChatGPT the hourly counts of conversation correlate by {3/conversation repeats/ChatGPT 24h}"
                    " with those of the day before and by {3/conversation repeats/ChatGPT 168h} with those of the week"
                    " before, with GPT-4 by {3/conversation repeats/GPT-4 24h} and {3/conversation repeats/GPT-4 168h}."
                ),
                f.either(
                    "3/API is irregular",
                    f"The API does not follow the clock in this way ({_API_HOURS}).",
                    f"That the API does not follow the clock does not hold for both models ({_API_HOURS}).",
                    f"The API's correlations are {_API_HOURS}.",
                ),
                f.say(
                    "Working hours hold {3/conversation, day above night/ChatGPT} times the night's conversations with"
                    " ChatGPT and {3/conversation, day above night/GPT-4} times those with GPT-4."
                ),
                f.either(
                    "3/API's days differ more",
                    "Days of the API differ more than days of conversation.",
                    "That days of the API differ more than days of conversation does not hold for both models.",
                ),
                f.say(
                    "The coefficient of variation of ChatGPT's daily totals is {3/API's days differ more/ChatGPT api}"
                    " in the API against {3/API's days differ more/ChatGPT conversation} in conversation.",
                    "GPT-4 had {4/conversation/GPT-4:bare} conversations, ChatGPT {4/conversation/ChatGPT:bare}; GPT-4"
                    " had fewer on {4/conversation/fewer on}.",
                ),
            )
        ),
    ]


def _bursts(f: Findings, twin: bool) -> list[str]:
    first = f.say(
        "Over 5 minutes we count doublings {5/5 minutes}, over 10 minutes {5/10 minutes}; the paper counts"
        " {5/5 minutes:published} and {5/10 minutes:published}."
    )
    tested = {minutes: f.holds(f"5/{minutes} minutes") for minutes in (5, 10)}
    met = [minutes for minutes, holds in tested.items() if holds is True]
    missed = [minutes for minutes, holds in tested.items() if holds is False]
    other = "@fig05 shows what other readings of the paper's sentence give."
    miss = ""
    if met and missed:
        miss = (
            f"The counts over {met[0]} minutes agree within the tolerance, those over {missed[0]} minutes do not;"
            f" {other}"
        )
    elif missed:
        miss = f"That is a miss under the definition that we hold for the most natural one; {other}"
    elif met:
        miss = "The two agree within the tolerance."
    said = [
        f"{first} {miss}",
        f.say(
            "Among the families tried, Gamma has the lowest AIC in {6/against other families/gamma} of"
            " conversation's windows"
            " and {6/API, against other families/gamma} of the API's, Weibull in"
            " {6/against other families/weibull} and {6/API, against other families/weibull}."
        )
        + " "
        + f.either(
            "6/against other families",
            "In conversation Gamma wins most often.",
            "In conversation Gamma does not win most often.",
        )
        + " "
        + f.either(
            "6/API, against other families",
            "In the API Gamma wins most often.",
            "In the API Gamma does not win most often.",
        )
        + " "
        + f.say(
            "A test at the 5 % level passes Gamma in {6/goodness of fit/pass}, with a power of"
            " {6/goodness of fit/power against lognormal} against a log-normal law.",
        ),
        f.say("Within a day the shape moves by a factor of {7/moves sharply/factor} between low and high windows.")
        + " "
        + f.either(
            "7/moves sharply",
            "By the tolerance set beforehand, that is sharp.",
            "By the tolerance set beforehand, that is not sharp.",
        )
        + " "
        + f.say(
            "The spread of ln α within a workday, without the error of the fits, is"
            " {7/conversation is steadier/conversation} in conversation and {7/conversation is steadier/api} in the"
            " API;"
            " conversation was the steadier on {7/conversation is steadier/steadier on}."
        ),
    ]
    if twin:
        said.append(
            "On a twin none of this can confirm the paper: the twin's gaps are Gamma because we drew them so, and"
            " how far"
            " their shape moves is our assumption."
        )
    return said


def _lengths(f: Findings) -> list[str]:
    return [
        f.say(
            "A Zipf law lies a Kolmogorov–Smirnov distance of {8/ChatGPT/Zipf KS distance} from the request lengths of"
            " conversation with ChatGPT; the log-likelihood of a power law with an exponential cut-off, less that of"
            " the Zipf law, is {8/ChatGPT/powerlaw_cutoff minus zipf}."
        )
        + " "
        + f.either(
            "8/ChatGPT", "No other family tried fits significantly better.", "Another family fits significantly better."
        )
        + " "
        + f.say(
            "The dip statistic of ChatGPT's response lengths is {9/ChatGPT/dip} (p = {9/ChatGPT/p}).",
            "Of the run's answers, {9/Llama-2-13b-chat/near the limit} lie within a tenth of the limit of"
            " {9/Llama-2-13b-chat/longest}.",
        ),
        f.say(
            "ChatGPT's responses change by {10/ChatGPT/slope} tokens for each token of the request; a straight line"
            " explains"
            " {r2} % of the variance of the bins' means.",
            r2=_percent(f.number("10/ChatGPT", "R² of the bins' means")),
        )
        + " "
        + f.either(
            "10/ChatGPT",
            "By the tolerance set beforehand, they grow linearly.",
            "By the tolerance set beforehand, they do not grow linearly.",
        )
        + " "
        + f.say(
            "In the run the slope is {10/Llama-2-13b-chat/slope}.",
            "ChatGPT's answers have {11/means/trace conversation ChatGPT} on average,",
            "those of the run {run}.",
            run=next((quoted(number) for number in f.numbers("11/means")[1:]), None),
        ),
    ]


def _percent(number: Mapping[str, Any] | None) -> str | None:
    return None if number is None else digits(100 * number["value"])


def _traffic(f: Findings) -> list[str]:
    api = (
        "{12/API is irregular/ChatGPT request tokens 24h} and {12/API is irregular/ChatGPT response tokens 24h}"
        " after a day with ChatGPT"
    )
    return [
        f.either(
            "12/conversation repeats",
            "Tokens of conversation repeat.",
            "That tokens of conversation repeat does not hold for every model and kind of token.",
        )
        + " "
        + f.say(
            "Request tokens of conversation with ChatGPT correlate with those of the day before by"
            " {12/conversation repeats/ChatGPT request tokens 24h} and with those of the week before by"
            " {12/conversation repeats/ChatGPT request tokens 168h}, response tokens by"
            " {12/conversation repeats/ChatGPT response tokens 24h} and"
            " {12/conversation repeats/ChatGPT response tokens 168h}.",
        )
        + " "
        + f.either(
            "12/API is irregular",
            f"The API's do not repeat ({api}).",
            f"That the API's do not repeat does not hold for every model and kind of token ({api}).",
            f"The API's correlations are {api}.",
        )
        + " "
        + f.say(
            "At its three busiest hours GPT-4's request tokens spread over the days by"
            " {12/GPT-4's peaks spread wider/GPT-4 request tokens} of their median, ChatGPT's by"
            " {12/GPT-4's peaks spread wider/ChatGPT request tokens}; for response tokens the two are"
            " {12/GPT-4's peaks spread wider/GPT-4 response tokens} and"
            " {12/GPT-4's peaks spread wider/ChatGPT response tokens}.",
        )
    ]


def _apart(low: Mapping[str, Any] | None, high: Mapping[str, Any] | None) -> bool:
    """Whether `high` was measured above `low`, with no overlap of their intervals where they have some."""
    if low is None or high is None:
        return False
    top, bottom = (one["value"] if one[end] is None else one[end] for one, end in ((low, "high"), (high, "low")))
    return bool(bottom > top)


def _reliability(f: Findings) -> list[str]:
    part = "13/ChatGPT above GPT-4, pooled"
    rates = "GPT-4 fails in {%s/GPT-4 all} of its requests, ChatGPT in {%s/ChatGPT all}." % (part, part)  # noqa: UP031
    parted = [f.holds(f"13/ChatGPT above GPT-4, {service}") for service in ("conversation", "API")]
    turned = f"Pooled over the services {rates}"
    if all(parted) and _apart(f.number(part, "ChatGPT all"), f.number(part, "GPT-4 all")):
        turned = f"Pooled over the services the order turns round: {rates}"
        if f.holds("13/conversation above API, ChatGPT") and _apart(
            f.number("1/ChatGPT conversation"), f.number("1/ChatGPT API")
        ):
            turned += " Most of ChatGPT's requests come through the API, where fewer fail (Simpson's paradox)."
    pooled = f.either(
        part,
        "Pooled over the services ChatGPT fails more: {13/ChatGPT above GPT-4, pooled/ChatGPT all} against"
        " {13/ChatGPT above GPT-4, pooled/GPT-4 all}.",
        turned,
        f"Pooled over the services {rates}",
    )
    return [
        f.say(
            "In conversation {13/ChatGPT above GPT-4, conversation/ChatGPT conversation} of ChatGPT's requests fail and"
            " {13/ChatGPT above GPT-4, conversation/GPT-4 conversation} of GPT-4's; in the API"
            " {13/ChatGPT above GPT-4, API/ChatGPT api} and {13/ChatGPT above GPT-4, API/GPT-4 api}."
        )
        + f" {pooled}"
    ]


def _warmup(f: Findings) -> list[str]:
    parts = [
        part for part in ("14/7b on A6000", "14/7b on A800", "14/13b on A6000", "14/13b on A800") if f.numbers(part)
    ]
    if not parts:
        return []
    means = [f"{quoted(f.numbers(part)[0])} for {case_name(f.numbers(part)[0]['label'])}" for part in parts]
    told = [f.holds(part) for part in parts if f.holds(part) is not None]
    kept = sum(holds is True for holds in told)
    published = f.say(f"{{{parts[0]}:published}}")
    end = ""
    if told and kept == len(told) == len(parts):
        end = "All lie in the paper's band."
    elif told:
        end = (
            f"Of these {len(told)} means {kept or 'none'} lie{'s' if kept == 1 else ''} in the paper's band of"
            f" {published}."
            " Longer answers or a smaller cache would raise these, the reverse would lower them; nothing was tuned to"
            " meet the band."
        )
    return [f"The KV cache is in use, on average over the warm-up, by {listed(means)}. {end}"]


def _mirrored(f: Findings) -> list[str]:
    rates, slow = [], []
    for number in f.numbers("15/lasting failures in the API"):
        if number["label"].endswith(" api"):
            case = number["label"].removesuffix(" api")
            spell = f.number("15/lasting failures in the API", number["label"], 1)
            lasting = f" (longest spell {quoted(spell)})" if spell else ""
            rates.append(f"{quoted(number)} of the API's requests fail for {case_name(case)}{lasting}")
    for number in f.numbers("15/degradation in the API"):
        if number["label"].endswith(" api"):
            other = f.number("15/degradation in the API", number["label"].removesuffix("api") + "conversation")
            if other and other["value"]:
                gpu = number["label"].split()[1].upper()
                slow.append(f"{digits(number['value'] / other['value'])} ({gpu})")
    served = f.either(
        "15/few failures in conversation",
        "The conversation stream is served without lasting harm, also where α dips.",
        "The conversation stream fails more often than the tolerance allows.",
    )
    said = served
    if rates:
        lasting = f.either(
            "15/lasting failures in the API",
            "The API stream fails lastingly",
            "That the API stream fails lastingly does not hold in every case",
            "The API stream beside it",
        )
        said += f" {lasting}: {listed(rates)}."
    if slow:
        said += f" Each token of the API stream takes {listed(slow)} times as long as one of the conversation stream."
    return [
        said,
        "The two streams share one factor of scale, so that the API keeps its larger volume: what overloads the"
        " server may be"
        " volume as much as burstiness, and this comparison alone cannot tell them apart."
        if f.holds("15/lasting failures in the API")
        else "",
    ]


def _varied(f: Findings) -> list[str]:
    said = []
    peaks, still = [], []
    for number in f.numbers("16/failures jump"):
        if number["label"].endswith(" start"):
            case = case_name(number["label"].removesuffix(" start"))
            peak = f.number("16/failures jump", number["label"], 1)
            end = f.number("16/failures jump", number["label"], 2)
            if peak and end and peak["value"] > number["value"]:
                peaks.append(
                    f"that of {case} goes from {quoted(number)} up to {quoted(peak)} and ends at {quoted(end)}"
                )
            elif peak:
                still.append(case)
    if peaks or still:
        rates = peaks + ([f"that of {listed(still)} does not rise"] if still else [])
        jump = f.either("16/failures jump", "It jumps in every case.", "So it does not jump in every case.")
        recover = f.either(
            "16/failures recover", "Where it jumps, it recovers.", "Not everywhere it jumps does it recover."
        )
        said.append(f"How the failure rate follows α as it falls and rises again: {'; '.join(rates)}. {jump} {recover}")
    spreads = []
    for number in f.numbers("16/latency spread jumps"):
        if number["label"].endswith(" start"):
            peak = f.number("16/latency spread jumps", number["label"], 1)
            if peak and number["value"]:
                case = case_name(number["label"].removesuffix(" start"))
                spreads.append(f"{digits(peak['value'] / number['value'])} for {case}")
    if spreads:
        jump = f.either("16/latency spread jumps", "That is a jump in every case.", "That is not a jump in every case.")
        said.append(f"The ratio of the peak of latency's standard deviation to its start is {listed(spreads)}. {jump}")
    rises = []
    for number in f.numbers("17/mean latency"):
        if number["label"].endswith(" from"):
            to = f.number("17/mean latency", number["label"], 1)
            rank = f.number("17/mean latency", number["label"], 2)
            if to and rank:
                case = case_name(number["label"].removesuffix(" from"))
                rises.append(f"{case} from {quoted(number)} to {quoted(to)} (rank correlation {digits(rank['value'])})")
    if rises:
        gradual = f.either(
            "17/mean latency", "This is gradual in every case.", "Not every case is gradual by the tolerance."
        )
        said.append(f"As β falls, mean latency goes for {listed(rises)}. {gradual}")
    falls = f.numbers("18/throughput falls slightly")
    if falls:
        named = listed([f"{digits(number['value'])} % for {case_name(number['label'])}" for number in falls])
        latency = listed([f"{digits(number['value'])} %" for number in f.numbers("18/latency rises slightly")])
        miss = "The direction is the paper's, but not every fall is slight."
        if any(number["value"] >= 0 for number in falls):
            miss = "The paper's slight fall is not found in every case."
        slight = f.either("18/throughput falls slightly", "That is slight.", miss)
        opposite = f.either("18/latency rises slightly", "That is a slight rise.", "The paper has it rise slightly.")
        smaller = f.either(
            "18/smaller effect on latency",
            "On latency θ has the smaller effect than α and β, as the paper has it.",
            "On latency θ has not in every case the smaller effect than α and β.",
        )
        said.append(
            f"As θ rises, prompts become shorter: token throughput moves by {named}. {slight} Mean latency moves by"
            f" {latency}, "
            f"in the same order. {opposite} {smaller}"
        )
    sudden_ones = [number for number in f.numbers("19/sudden failures") if number["label"].endswith(" failures")]
    if sudden_ones:
        worst = max(sudden_ones, key=lambda number: number["value"])
        moved = [f.number("19/sudden failures", worst["label"], after) for after in (1, 2)]
        found = f"The largest jump of failures over a small change of α is {quoted(worst)}"
        found += f" for {case_name(worst['label'].removesuffix(' failures'))}"
        if moved[0] and moved[1]:
            found += f", where mean latency changes by {quoted(moved[0])} and throughput by {quoted(moved[1])}"
        sudden = f.either(
            "19/sudden failures",
            "So failures can set in while the means hold, as the paper warns.",
            "A sudden onset of failures that the means do not show, as the paper warns of, is not found in every case.",
        )
        said.append(f"{found}. {sudden}")
    return said


def _rows(table: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    header, *rows = table
    return [dict(zip(header, row, strict=True)) for row in rows]


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


def _sensitivity(rows: Sequence[Mapping[str, str]]) -> str:
    """Say which parts of the claims stand under all assumptions, which under some, which under none."""
    tried = rows[0]["Holds under"].rpartition(" ")[2]
    parts: dict[str, list[str]] = {}
    for row in rows:
        parts.setdefault(row["Stands"], []).append(f"{row['Claim']} ({row['Part']})")
    said = [
        f"{len(parts[stands])} {(one if len(parts[stands]) == 1 else more)} {under} ({'; '.join(parts[stands])})"
        for stands, one, more, under in (
            ("under all", "holds", "hold", "under all of them"),
            ("wherever it can be tested", "holds", "hold", "under all that let it be tested"),
            ("under some", "holds", "hold", "under some and not under others"),
            ("under none", "holds", "hold", "under none"),
            ("nothing to test", "has", "have", "nothing to test under any"),
        )
        if stands in parts
    ]
    return (
        f"Of the {len(rows)} parts of claims 14 to 19, asked under {tried} sets of assumptions (kind of timeout,"
        f" scheduler, host time, response lengths, reading of β, and some together), {listed(said)}"
        " (@table_sensitivity, @sensitivity)."
    )


def _validation(tables: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    said = []
    if "validation_scheduler" in tables:
        rows = _rows(tables["validation_scheduler"])
        steps, differ = (sum(_whole(row[name]) for row in rows) for name in ("Steps", "Steps that differ"))
        requests = sum(_whole(row["Requests that differ"]) for row in rows)
        apart = f"{differ or 'none'} differ{'s' if differ == 1 else ''}"
        fares = f"{requests or 'no'} request{' fares' if requests == 1 else 's fare'} differently"
        said.append(
            "Given the same requests and step times, the simulator's scheduler and vLLM's take"
            f" {steps:,} steps. Of these {apart}, and {fares} (@table_validation_scheduler)."
        )
    if "validation_gpu" in tables:
        own, sheet = _rows(tables["validation_gpu"])[1:3]
        said.append(
            "Beside a real vLLM that this pipeline ran on an H100, and with nothing but kernel times measured on one,"
            f" the simulator's mean time per output token is off by {own['TPOT, mean']}, its mean latency by"
            f" {own['Latency, mean']} and its mean time to the first token by {own['TTFT, mean']}; with the GPU's data"
            f" sheet and another GPU's efficiencies by {sheet['TPOT, mean']}, {sheet['Latency, mean']} and"
            f" {sheet['TTFT, mean']} (@table_validation_gpu, @validation_gpu)."
        )
    if "validation_log" in tables:
        rows = [row for row in _rows(tables["validation_log"]) if row["Variant"] == "kernel times"]
        for row in rows:
            means, tails = (
                [row[f"{name}, {kind}"] for name in ("TTFT", "TPOT", "Latency")] for kind in ("mean", "p90")
            )
            said.append(
                "Beside the log of a real server, and with kernel times measured on the same GPU, the simulator's mean"
                f" time to the first token is off by {means[0]}, its mean time per output token by {means[1]} and its"
                f" mean latency by {means[2]}; the 90th percentiles are off by {listed(tails)}"
                " (@table_validation_log, @validation_log)."
            )
    if "validation_published" in tables:
        rows = _rows(tables["validation_published"])
        errors = [(float(row["Error"].rstrip(" %").replace("−", "-")), row) for row in rows]
        low, high = min(errors, key=lambda pair: pair[0]), max(errors, key=lambda pair: pair[0])
        within = sum(abs(error) <= 10 for error, _ in errors)
        ends = [f"{pair[1]['Error']} ({pair[1]['Model']}, {pair[1]['Step']})" for pair in (low, high)]
        said.append(
            "The analytic step times of this study's GPUs are set beside published ones."
            f" Of {len(rows)} step times that others published {within} lie within 10 %;"
            f" the errors reach from {ends[0]} to {ends[1]} (@table_validation_published,"
            " @validation_published)."
        )
    if "validation_kernels" in tables:
        said.append("@validation_kernels and @table_validation_kernels show the errors by operator and size.")
    if "sensitivity" in tables:
        said.append(_sensitivity(_rows(tables["sensitivity"])))
    return said
