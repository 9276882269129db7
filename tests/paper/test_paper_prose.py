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
    assert "that of Llama-2-7b-chat on the A800 goes from 0 % to 40 % and back to 1 %" in text["varied"][0]
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
