"""The sentences of the paper: numbers as measured, none without a number, hits and misses told apart."""

import pytest
from burstbench.paper import prose


def number(label, value, unit="", low=None, high=None):
    return {"label": label, "value": value, "unit": unit, "low": low, "high": high}


def part(claim, name, holds, *numbers, published=""):
    return {"claim": claim, "part": name, "holds": holds, "published": published, "numbers": list(numbers)}


DOUBLINGS = [
    part(5, "5 minutes", False, number("", 32.79, "a day", 30.9, 34.8), published="65 a day"),
    part(5, "10 minutes", False, number("", 21.7, "a day"), published="38 a day"),
]


def test_a_sentence_quotes_numbers_with_unit_interval_and_the_papers_value():
    f = prose.Findings(DOUBLINGS)
    said = f.say("Here {5/5 minutes}, there {5/5 minutes:published}, bare {5/10 minutes:bare}, own {more}.", more="x")
    assert said == "Here 32.8 a day [30.9, 34.8], there 65 a day, bare 21.7, own x."


@pytest.mark.parametrize("place", ["5/1 minute", "5/5 minutes/peak", "9/a:published", "5/10 minutes/x:bare"])
def test_a_sentence_whose_number_was_not_measured_is_left_out(place):
    f = prose.Findings([*DOUBLINGS, part(9, "a", None, number("", None))])
    assert f.say("Kept {5/5 minutes:bare}.", "Dropped {%s}." % place) == "Kept 32.8."  # noqa: UP031


@pytest.mark.parametrize(("holds", "said"), [(True, "It does."), (False, "It does not."), (None, "")])
def test_hits_and_misses_read_differently(holds, said):
    f = prose.Findings([part(1, "x", holds)])
    assert f.either("1/x", "It does.", "It does not.") == said
    assert f.either("2/y", "It does.", "It does not.") == ""


def test_a_label_may_hold_a_slash_and_stand_twice():
    f = prose.Findings([part(2, "API", True, number("a workday/weekend", 1.5), number("p", 0.1), number("p", 0.2))])
    assert f.say("{2/API/a workday/weekend}") == "1.5"
    assert f.number("2/API", "a workday/weekend", 2)["value"] == 0.2
    assert f.number("2/API", "a workday/weekend", 3) is None


def test_the_text_follows_the_findings():
    rises = [number("llama-2-7b-chat a800 start", 0.0, "%"), number("peak", 40.0, "%"), number("end", 1.0, "%")]
    still = [number("llama-2-13b-chat a800 start", 0.0, "%"), number("peak", 0.0, "%"), number("end", 0.0, "%")]
    parts = [
        *DOUBLINGS,
        part(14, "7b on A800", False, number("llama-2-7b-chat a800", 8.0, "%"), published="30-40 %"),
        part(14, "13b on A800", True, number("llama-2-13b-chat a800", 35.0, "%"), published="30-40 %"),
        part(16, "failures jump", False, *rises, *still),
    ]
    text = prose.sections(parts, twin=True)
    assert "doublings 32.8 a day [30.9, 34.8], over 10 minutes 21.7 a day" in text["bursts"][0]
    assert "That is a miss" in text["bursts"][0]
    assert "our assumption" in text["bursts"][-1]
    assert "our assumption" not in " ".join(prose.sections(parts, twin=False)["bursts"])
    assert "8 % for Llama-2-7b-chat on the A800 and 35 % for Llama-2-13b-chat on the A800" in text["warmup"][0]
    assert "Of these 2 means 1 lies in the paper's band of 30-40 %." in text["warmup"][0]
    assert "that of Llama-2-7b-chat on the A800 goes from 0 % up to 40 % and ends at 1 %" in text["varied"][0]
    assert "that of Llama-2-13b-chat on the A800 does not rise" in text["varied"][0]
    assert "So it does not jump in every case." in text["varied"][0]


def test_nothing_measured_says_nothing():
    assert [paragraph for paragraphs in prose.sections([], twin=False).values() for paragraph in paragraphs] == []


def test_the_validation_is_told_from_its_tables():
    scheduler = [["Steps", "Steps that differ", "Requests that differ"], ["1,000", "0", "0"], ["2,500", "0", "0"]]
    published = [["Model", "Step", "Error"], ["a", "decode", "-12.5 %"], ["b", "prefill", "+3.0 %"]]
    said = prose.sections([], False, {"validation_scheduler": scheduler, "validation_published": published})[
        "validation"
    ]
    assert "take 3,500 steps. Of these none differ, and no requests fare differently" in said[0]
    assert "Of 2 step times that others published 1 lie within 10 %" in said[1]
    assert "from -12.5 % (a, decode) to +3.0 % (b, prefill)" in said[1]


def test_what_stands_under_all_assumptions_is_told_from_the_table():
    header = ["Claim", "Part", "Holds under", "Stands"]
    rows = [
        ["15", "beta", "3 of 3", "under all"],
        ["15", "degradation", "2 of 3", "wherever it can be tested"],
        ["16", "jump", "1 of 3", "under some"],
        ["16", "spread", "2 of 3", "under some"],
        ["17", "latency", "0 of 3", "under none"],
        ["19", "sudden", "0 of 3", "nothing to test"],
    ]
    (said,) = prose.sections([], False, {"sensitivity": [header, *rows]})["validation"]
    assert said.startswith("Of the 6 parts of claims 14 to 19, asked under 3 sets of assumptions")
    assert "1 holds under all of them (15 (beta)), 1 holds under all that let it be tested (15 (degradation))" in said
    assert "2 hold under some and not under others (16 (jump); 16 (spread)), 1 holds under none (17 (lat" in said
    assert "and 1 has nothing to test under any (19 (sudden)) (@table_sensitivity, @sensitivity)." in said


CASE = "llama-2-13b-chat a800"
HOURS = [number(f"{model} {lag}", 0.95) for model in ("ChatGPT", "GPT-4") for lag in ("24h", "168h")]
TOKENS = [number(f"ChatGPT {kind} tokens {lag}", 0.95) for kind in ("request", "response") for lag in ("24h", "168h")]
API_FAILS = [number(f"{CASE} api", 39.0, "%"), number("longest spell", 1010.0, "s")]
RISES = [number(f"{CASE} start", 1.0), number("peak", 40.0), number("end", 2.0)]


@pytest.mark.parametrize(
    ("section", "name", "numbers", "if_holds", "if_not", "always"),
    [
        ("concurrency", "3/conversation repeats", HOURS, "The hours of conversation repeat.",
         "That the hours of conversation repeat does not hold", "correlate by 0.95"),
        ("concurrency", "3/API is irregular", HOURS, "The API does not follow the clock in this way",
         "That the API does not follow the clock does not hold", "0.95 and 0.95 for ChatGPT"),
        ("concurrency", "3/API's days differ more",
         [number("ChatGPT api", 1.2), number("ChatGPT conversation", 0.3)],
         "Days of the API differ more than days of conversation.", "does not hold for both models", "1.2 in the API"),
        ("concurrency", "2/API", [number(f"{model} workday/weekend", 1.5) for model in ("ChatGPT", "GPT-4")],
         "there is no weekly pattern", "cannot be excluded", "1.5 and 1.5"),
        ("bursts", "6/against other families", [], "In conversation Gamma wins",
         "In conversation Gamma does not win", ""),
        ("bursts", "6/API, against other families", [], "In the API Gamma wins", "In the API Gamma does not win", ""),
        ("lengths", "8/ChatGPT", [number("Zipf KS distance", 0.2), number("powerlaw_cutoff minus zipf", -3.0, "nats")],
         "No other family tried fits significantly better.", "Another family fits significantly better.", "is -3 nats"),
        ("lengths", "10/ChatGPT", [number("slope", -0.2), number("R² of the bins' means", 0.9)],
         "they grow linearly", "they do not grow linearly", "change by -0.2 tokens"),
        ("traffic", "12/conversation repeats", TOKENS, "Tokens of conversation repeat.",
         "That tokens of conversation repeat does not hold", "by 0.95 and with"),
        ("traffic", "12/API is irregular", TOKENS, "The API's do not repeat",
         "That the API's do not repeat does not hold",
         "0.95 and 0.95 after a day"),
        ("mirrored", "15/lasting failures in the API", API_FAILS, "The API stream fails lastingly:",
         "That the API stream fails lastingly does not hold", "39 % of the API's requests fail"),
        ("varied", "16/latency spread jumps", RISES, "That is a jump in every case.",
         "That is not a jump in every case.",
         "is 40 for Llama-2-13b-chat"),
        ("varied", "18/throughput falls slightly", [number(CASE, -40.0)], "That is slight.", "not every fall is slight",
         "moves by -40 %"),
    ],
)  # fmt: skip
def test_a_conclusion_stands_only_where_the_test_drew_it(section, name, numbers, if_holds, if_not, always):
    claim, part_name = name.split("/")
    for holds, stands in ((True, if_holds), (False, if_not), (None, None)):
        text = " ".join(prose.sections([part(int(claim), part_name, holds, *numbers)], False)[section])
        assert always in text
        assert [said for said in (if_holds, if_not) if said in text] == ([stands] if stands else [])


def test_a_recovery_is_told_only_where_it_was_tested():
    jumps = part(16, "failures jump", False, *RISES)
    for holds, said in ((True, "Where it jumps, it recovers."), (False, "Not everywhere it jumps does it recover.")):
        assert said in prose.sections([jumps, part(16, "failures recover", holds)], False)["varied"][0]
    assert "recover" not in prose.sections([jumps, part(16, "failures recover", None)], False)["varied"][0]


@pytest.mark.parametrize(
    ("five", "ten", "said"),
    [
        (True, True, "The two agree within the tolerance."),
        (False, False, "That is a miss under"),
        (True, False, "The counts over 5 minutes agree within the tolerance, those over 10 minutes do not;"),
        (False, True, "The counts over 10 minutes agree within the tolerance, those over 5 minutes do not;"),
        (None, None, ""),
    ],
)
def test_the_two_counts_of_doublings_are_judged_apart(five, ten, said):
    parts = [row | {"holds": holds} for row, holds in zip(DOUBLINGS, (five, ten), strict=True)]
    text = prose.sections(parts, False)["bursts"][0]
    assert said in text
    assert five is not None or text.endswith("38 a day.")


@pytest.mark.parametrize(
    ("chatgpt", "gpt4", "within", "turns"),
    [(1.7, 2.0, True, True), (1.7, 2.0, False, False), (2.0, 1.9, True, False)],
)
def test_simpsons_paradox_is_told_only_where_the_order_turns(chatgpt, gpt4, within, turns):
    parts = [
        part(1, "ChatGPT API", True, number("", 9.0)),
        part(1, "ChatGPT conversation", True, number("", 1.0)),
        *(part(13, f"ChatGPT above GPT-4, {service}", within) for service in ("conversation", "API")),
        part(13, "conversation above API, ChatGPT", True),
        part(13, "ChatGPT above GPT-4, pooled", False, number("ChatGPT all", chatgpt), number("GPT-4 all", gpt4)),
    ]
    text = prose.sections(parts, False)["reliability"][0]
    assert f"GPT-4 fails in {gpt4:g} of its requests, ChatGPT in {chatgpt:g}" in text
    assert ("the order turns round" in text) is turns
    assert ("Simpson" in text) is turns


def test_a_mean_that_was_not_judged_is_no_miss():
    row = number("llama-2-7b-chat a800", 8.0, "%")
    text = prose.sections([part(14, "7b on A800", None, row, published="30-40 %")], False)["warmup"][0]
    assert text == "The KV cache is in use, on average over the warm-up, by 8 % for Llama-2-7b-chat on the A800."
