"""The grammar of phases: what is right passes, what is wrong is refused by its key path."""

from pathlib import Path

import pytest
import yaml
from burstbench.errors import UserError
from burstbench.plan import phases

MIRROR = {"service": "api", "model": "ChatGPT", "compressed_s": 60, "scaled_to": "conversation"}
SECONDS = {"name": "a", "seconds": 10}
REQUESTS = {"name": "a", "requests": 10}
TWICE = {"kind": "linear", "from": 1, "to": 2}


def test_the_default_study_is_right(root):
    study = yaml.safe_load((root / "config" / "study.yaml").read_text())
    for experiment in study["experiments"].values():
        phases.validate(experiment["phases"], prompt_max_tokens=study["prompts"]["max_tokens"])


@pytest.mark.parametrize(
    "phase",
    [
        SECONDS,
        REQUESTS,
        {**SECONDS, "every_s": 2.5, "beta": TWICE, "theta": TWICE, "alpha": {"kind": "constant", "value": 1}},
        {**REQUESTS, "every": 4, "alpha": {"kind": "sweep", "reading": "mean_rate"}},
        {**REQUESTS, "every": 4, "alpha": {"kind": "steps", "factors": [1, 2, 3]}},
        {**SECONDS, "every_s": 5, "alpha": {"kind": "steps", "factors": [1, 2]}},
        {**SECONDS, "alpha": {"kind": "steps", "factors": [1, 2], "every_s": 5}},
        {**REQUESTS, "lengths": {"kind": "constant", "tokens": 100}},
        {**REQUESTS, "lengths": {"kind": "trace", "service": "api", "model": "GPT-4"}},
        {**REQUESTS, "lengths": {"kind": "zipf"}, "theta": TWICE},
        {"name": "a", "mirror": MIRROR},
        {"name": "a", "mirror": {**MIRROR, "kind": "scale"}, "theta": TWICE},
    ],
)
def test_right_phases_pass(phase):
    phases.validate([phase], prompt_max_tokens=100)


WRONG = [
    ({}, ": found {}, expected a list"),
    ([], ": found [], expected a list"),
    (["warmup"], "[0]: found 'warmup', expected a mapping"),
    ([{"seconds": 5}], "[0].name: missing"),
    ([{"name": "", "seconds": 5}], "[0].name: found ''"),
    ([{"name": 3, "seconds": 5}], "[0].name: found 3"),
    ([{"name": "a"}], "[0]: found none of seconds, requests, mirror"),
    ([{**SECONDS, "requests": 5}], "[0]: found seconds and requests of"),
    ([{**SECONDS, "mirror": MIRROR}], "[0]: found seconds and mirror of"),
    ([SECONDS, SECONDS], "[1].name: found 'a', expected a name of its own"),
    ([{"name": "a", "seconds": 0}], "[0].seconds: found 0, expected a number > 0"),
    ([{"name": "a", "seconds": -5}], "[0].seconds: found -5"),
    ([{"name": "a", "seconds": "5 s"}], "[0].seconds: found '5 s'"),
    ([{"name": "a", "seconds": None}], "[0].seconds: found None"),
    ([{"name": "a", "requests": 0}], "[0].requests: found 0, expected a whole number >= 1"),
    ([{"name": "a", "requests": 2.5}], "[0].requests: found 2.5"),
    ([{"name": "a", "requests": True}], "[0].requests: found True"),
    ([{**REQUESTS, "every": 0}], "[0].every: found 0"),
    ([{**REQUESTS, "every": 11}], "[0].every: found 11, expected at most the whole phase, 10"),
    ([{**REQUESTS, "every_s": 2}], "[0].every_s: unknown key in a phase of `requests`"),
    ([{**SECONDS, "every": 2}], "[0].every: unknown key in a phase of `seconds`"),
    ([{**SECONDS, "every_s": -2}], "[0].every_s: found -2"),
    ([{**SECONDS, "aplha": TWICE}], "[0].aplha: unknown key in a phase of `seconds`; known here: name, seconds, theta"),
    ([{**SECONDS, "alpha": 0.5}], "[0].alpha: found 0.5, expected a function"),
    ([SECONDS, {"name": "b", "requests": 5, "beta": {"kind": "linear", "from": 1, "to": 0}}], "[1].beta.to: found 0"),
    ([{**REQUESTS, "theta": {"kind": "constant", "value": -1}}], "[0].theta.value: found -1"),
    ([{**REQUESTS, "lengths": "zipf"}], "[0].lengths: found 'zipf'"),
    ([{**REQUESTS, "lengths": {"kind": "normal"}}], "[0].lengths.kind: found 'normal'"),
    ([{**REQUESTS, "lengths": {"kind": "zipf", "theta": 1}}], "[0].lengths.theta: unknown key for kind 'zipf'"),
    ([{**REQUESTS, "lengths": {"kind": "trace", "service": "api"}}], "[0].lengths.model: missing"),
    ([{**REQUESTS, "lengths": {"kind": "trace", "service": "a", "model": "b"}}], "[0].lengths.service: found 'a'"),
    ([{**REQUESTS, "lengths": {"kind": "constant", "tokens": 0}}], "[0].lengths.tokens: found 0"),
    ([{**REQUESTS, "lengths": {"kind": "constant", "tokens": 101}}], "expected at most the longest prompt, 100 tokens"),
    ([{**REQUESTS, "lengths": {"kind": "constant", "tokens": 9}, "theta": TWICE}], "[0].theta: found"),
    ([{"name": "a", "mirror": MIRROR, "alpha": TWICE}], "[0].alpha: unknown key in a phase of `mirror`"),
    (
        [{"name": "a", "mirror": {**MIRROR, "kind": "both"}}],
        "[0].mirror.kind: found 'both', expected one of rate, scale",
    ),
    ([{"name": "a", "mirror": {**MIRROR, "compressed_s": 0}}], "[0].mirror.compressed_s: found 0"),
    ([{"name": "a", "mirror": {**MIRROR, "service": "chat"}}], "[0].mirror.service: found 'chat'"),
    ([{"name": "a", "mirror": {**MIRROR, "scaled_to": 1}}], "[0].mirror.scaled_to: found 1"),
    ([{"name": "a", "mirror": {**MIRROR, "factor": 2}}], "[0].mirror.factor: unknown key"),
    ([{"name": "a", "mirror": {"service": "api"}}], "[0].mirror.model: missing"),
    ([{"name": "a", "mirror": "api"}], "[0].mirror: found 'api', expected a mapping"),
]


@pytest.mark.parametrize(("wrong", "named"), WRONG, ids=[named[:40] for _, named in WRONG])
def test_wrong_phases_are_refused_by_key_path(wrong, named):
    with pytest.raises(UserError) as caught:
        phases.validate(wrong, "experiments.x.phases", prompt_max_tokens=100)
    assert str(caught.value).startswith("experiments.x.phases")
    assert named in str(caught.value)


def test_files_of_the_tables():
    table = {"kind": "table", "csv": "a.csv"}
    listed = [{**REQUESTS, "alpha": table, "beta": {"kind": "table", "csv": "b.csv"}}, {**SECONDS, "theta": table}]
    assert phases.files(listed) == [Path("a.csv"), Path("b.csv")]
