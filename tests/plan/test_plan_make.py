"""Whole plans: phases one after the other, streams, records, and the command itself."""

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from burstbench.contracts import GAMMA_PROFILE, LENGTH_COUNTS, PLAN, POOL_INDEX
from burstbench.errors import UserError
from burstbench.files import sha256
from burstbench.plan import make
from scipy import stats

POOL = pa.table({"tokens": np.arange(1, 301), "prompt_id": np.arange(300)[::-1]}, schema=POOL_INDEX.schema)
CELL = {
    "experiment": "vary_alpha",
    "model": "llama-2-7b-chat",
    "gpu": "a800",
    "seed": 1,
    "root_seed": 20240303,
    "initial": {"alpha": 0.25, "beta": 2.0, "theta": 1.1},
    "max_tokens": 1024,
    "prompt_max_tokens": 200,
}


def plan(phases, profile=None, counts=None, trace=None, **changes):
    settings = {**CELL, "phases": phases, **changes}
    make.check_settings(settings)
    columns, facts = make.make(settings, POOL, profile, counts, trace)
    return PLAN.validate(pa.table({name: pa.array(values) for name, values in columns.items()}), "plan"), facts


def column(table, name):
    return table[name].to_numpy()


def profile_table(windows):
    nothing = [None] * (2 * len(windows))
    columns = {field.name: nothing for field in GAMMA_PROFILE.schema}
    rates = [rate for rate, _ in windows]
    columns |= {
        "service": ["conversation"] * len(windows) + ["api"] * len(windows),
        "model": ["ChatGPT"] * (2 * len(windows)),
        "window_s": [1200.0 * k for k in range(len(windows))] * 2,
        "width_s": [1200.0] * (2 * len(windows)),
        "windows": [40] * (2 * len(windows)),
        "rate_per_s": rates + [10 * rate for rate in rates],
        "alpha": [alpha for _, alpha in windows] * 2,
        "beta_scale_s": [None if alpha is None else 1 / rate / alpha for rate, alpha in windows] * 2,
    }
    return pa.table(columns, schema=GAMMA_PROFILE.schema)


def test_a_phase_of_seconds_ends_at_its_end_and_the_next_starts_there():
    table, facts = plan([{"name": "warmup", "seconds": 100}, {"name": "variation", "requests": 40, "every": 10}])
    names = table["phase"].to_pylist()
    first = names.index("variation")
    send = column(table, "send_s")
    assert names == ["warmup"] * first + ["variation"] * 40
    assert send[first - 1] < 100 <= send[first]
    assert column(table, "request_id").tolist() == list(range(first + 40))
    assert facts["phases"][0] | {"lengths": 0} == {
        "name": "warmup",
        "start_s": 0.0,
        "end_s": 100.0,
        "requests": first,
        "mean_rate_per_s": first / 100,
        "mean_prompt_tokens": pytest.approx(np.mean(column(table, "prompt_tokens")[:first])),
        "parameters_rate_per_s": pytest.approx(2.0),
        "lengths": 0,
    }
    assert facts["phases"][1]["start_s"] == 100
    assert facts["phases"][1]["end_s"] == facts["duration_s"] == send[-1]
    assert facts["requests"] == first + 40


def test_the_next_phase_does_not_hang_on_the_one_before():
    variation = {"name": "variation", "requests": 100, "every": 10, "theta": {"kind": "linear", "from": 1, "to": 2}}
    one, _ = plan([{"name": "warmup", "seconds": 100}, variation])
    other, _ = plan([{"name": "warmup", "seconds": 250, "beta": {"kind": "constant", "value": 0.1}}, variation])
    for name in ("prompt_tokens", "prompt_id", "step"):
        assert np.array_equal(column(one, name)[-100:], column(other, name)[-100:])
    gaps = [column(table, "send_s")[-100:] - start for table, start in ((one, 100), (other, 250))]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-9)


def test_parameters_are_held_for_every_so_many_requests():
    table, _ = plan(
        [
            {
                "name": "v",
                "requests": 11,
                "every": 4,
                "alpha": {"kind": "quadratic", "extreme": 0.5},
                "beta": {"kind": "linear", "from": 1, "to": 0.5},
            }
        ]
    )
    assert column(table, "step").tolist() == [0] * 4 + [1] * 4 + [2] * 3
    assert column(table, "alpha") == pytest.approx([0.25] * 4 + [0.125] * 4 + [0.25] * 3)
    assert column(table, "beta") == pytest.approx([2.0] * 4 + [1.5] * 4 + [1.0] * 3)
    assert column(table, "theta") == pytest.approx([1.1] * 11)
    assert set(column(table, "max_tokens")) == {1024}


def test_without_every_they_change_with_each_request():
    table, _ = plan([{"name": "v", "requests": 5, "theta": {"kind": "linear", "from": 1, "to": 2}}])
    assert column(table, "theta") == pytest.approx(1.1 * np.array([1, 1.25, 1.5, 1.75, 2]))
    assert set(column(table, "step")) == {0}


def test_one_request_is_a_phase():
    table, _ = plan([{"name": "v", "requests": 1, "alpha": {"kind": "linear", "from": 2, "to": 9}}])
    assert column(table, "alpha").tolist() == [0.5]


def test_time_steps():
    table, facts = plan(
        [{"name": "v", "seconds": 95, "every_s": 10, "beta": {"kind": "linear", "from": 0.1, "to": 0.01}}]
    )
    step = column(table, "step")
    assert set(step) == set(range(10))
    assert column(table, "beta") == pytest.approx(2 * (0.1 - 0.09 * step / 9))
    begins = np.concatenate([[0], column(table, "send_s")[:-1]])
    assert np.array_equal(step, (begins // 10).astype(int))
    assert facts["phases"][0]["parameters_held_s"] == 10


def test_time_without_steps_is_held_for_a_thousandth():
    table, facts = plan([{"name": "v", "seconds": 50, "beta": {"kind": "expression", "text": "0.1 + t / 100"}}])
    begins = np.concatenate([[0], column(table, "send_s")[:-1]])
    assert np.abs(column(table, "beta") - (0.1 + begins / 100)).max() <= 0.05 / 100 * 1.001
    assert set(column(table, "step")) == {0}
    assert facts["phases"][0]["parameters_held_s"] == 0.05


@pytest.mark.parametrize(
    ("beta_kind", "beta", "scale"), [("scale", 4.0, 4.0), ("rate", 0.25, 4.0), ("mean_gap", 1.0, 4.0)]
)
def test_readings_of_beta(beta_kind, beta, scale):
    initial = {"alpha": 0.25, "beta": beta, "theta": 1.1}
    table, facts = plan([{"name": "v", "requests": 10}], initial=initial, beta_kind=beta_kind)
    assert column(table, "beta") == pytest.approx([scale] * 10)
    assert facts["phases"][0]["parameters_rate_per_s"] == pytest.approx(1.0)


def test_a_sweep_at_the_mean_rate_keeps_the_mean_gap_while_alpha_moves():
    alpha = {"kind": "sweep", "reading": "mean_rate", "extreme": 0.1}
    table, facts = plan(
        [{"name": "v", "requests": 101, "alpha": alpha, "beta": {"kind": "linear", "from": 1, "to": 2}}]
    )
    mean = column(table, "alpha") * column(table, "beta")
    assert mean == pytest.approx(0.25 * 2 * np.linspace(1, 2, 101))
    assert column(table, "alpha").min() == pytest.approx(0.025)
    still, facts = plan([{"name": "v", "requests": 101, "alpha": alpha}], beta_kind="mean_gap")
    assert column(still, "alpha") * column(still, "beta") == pytest.approx([2.0] * 101)
    assert facts["phases"][0]["parameters_rate_per_s"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reading", "lowest", "rate_rises"),
    [("quadratic", 1 / 4, True), ("mean_rate", 1 / 4, False), ("cv_steps", 4 / 64**2, True)],
)
def test_the_three_readings_of_fig17_differ_by_one_word(reading, lowest, rate_rises):
    phase = {"name": "v", "requests": 2200, "every": 200, "alpha": {"kind": "sweep", "reading": reading}}
    table, _ = plan([phase])
    alpha, gap = column(table, "alpha")[::200], (column(table, "alpha") * column(table, "beta"))[::200]
    assert len(alpha) == 11
    assert [alpha[0], alpha[-1]] == pytest.approx([0.25, 0.25])  # both begin and end at CV 2
    assert alpha.min() == pytest.approx(0.25 * lowest)
    assert (gap.min() < 0.3 * gap[0]) == rate_rises
    assert (gap == pytest.approx(gap[0])) != rate_rises


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_whole_plan_has_the_laws_it_names(seed):
    phases = [
        {"name": "warmup", "seconds": 2000},
        {
            "name": "variation",
            "requests": 6000,
            "every": 200,
            "alpha": {"kind": "linear", "from": 1, "to": 8},
            "theta": {"kind": "linear", "from": 0.5, "to": 2},
        },
    ]
    table, facts = plan(phases, seed=seed)
    assert facts["phases"][0]["requests"] == pytest.approx(4000, abs=4 * 2 * 4000**0.5)
    alpha, beta, theta = (column(table, name)[-6000:] for name in ("alpha", "beta", "theta"))
    gaps = np.diff(column(table, "send_s"))[-5999:]
    pit = stats.gamma.cdf(gaps, alpha[1:], scale=beta[1:])
    assert stats.kstest(pit, "uniform").pvalue > 1e-4
    tokens = column(table, "prompt_tokens")[-6000:]
    first = np.array([1 / np.sum(np.arange(1, 201) ** -exponent) for exponent in theta])
    excess = (tokens == 1).sum() - first.sum()
    assert abs(excess) < 4 * np.sum(first * (1 - first)) ** 0.5
    assert abs(stats.spearmanr(pit, tokens[1:]).statistic) < 4 / 5999**0.5


def test_prompts_are_long_enough_and_any_of_them():
    table, _ = plan([{"name": "v", "requests": 4000, "lengths": {"kind": "constant", "tokens": 199}}])
    # Prompt p of the pool has 300 - p tokens: 0 to 101 have at least 199.
    chosen = np.bincount(column(table, "prompt_id"), minlength=300)
    assert chosen[102:].sum() == 0
    assert stats.chisquare(chosen[:102]).pvalue > 1e-4
    assert table["theta"].null_count == 4000


def test_lengths_of_the_trace():
    counts = pa.table(
        {
            "source": ["trace api GPT-4"] * 3,
            "quantity": ["request"] * 3,
            "tokens": [0, 7, 201],
            "requests": [1, 6, 3],
        },
        schema=LENGTH_COUNTS.schema,
    )
    phase = {"name": "v", "requests": 20, "lengths": {"kind": "trace", "service": "api", "model": "GPT-4"}}
    table, facts = plan([phase], counts=counts)
    assert set(column(table, "prompt_tokens")) == {7}
    assert facts["phases"][0]["lengths"] == {
        "kind": "trace",
        "n_max": 200,
        "requests_in_trace": 6,
        "share_empty_left_out": pytest.approx(0.1),
        "share_above_n_max_left_out": pytest.approx(0.3),
    }
    with pytest.raises(UserError, match=r"phases\[0\].lengths: needs length_counts; give --length-counts"):
        plan([phase])


def test_a_mirrored_phase_follows_the_profile():
    windows = [(0.05, 0.5), (0.2, 2.0), (0.0, None), (0.15, 0.25)]  # mean rate 0.1 /s, warm-up 2 /s: factor 20
    mirror = {"service": "api", "model": "ChatGPT", "compressed_s": 500, "scaled_to": "conversation"}
    phases = [{"name": "warmup", "seconds": 10}, {"name": "mirrored", "mirror": mirror}]
    table, facts = plan(phases, profile=profile_table(windows))
    fact = facts["phases"][1]
    assert (fact["start_s"], fact["end_s"]) == (10, 2010)
    assert fact["parameters_rate_per_s"] == pytest.approx(20)
    assert fact["mirror"]["windows_without_fit"] == 1
    assert fact["mirror"]["windows_silent"] == 1
    send = column(table, "send_s")[-fact["requests"] :] - 10
    step = column(table, "step")[-fact["requests"] :]
    counts = np.histogram(send, [0, 500, 1000, 1500, 2000])[0]
    expected = 500 * np.array([10, 40, 0, 30])
    spread = 4 * (expected / np.array([0.5, 2.0, 1.0, 0.25])) ** 0.5 + 4
    assert np.all(np.abs(counts - expected) < spread)
    assert set(step) == {0, 1, 3}
    assert column(table, "alpha")[-fact["requests"] :] == pytest.approx(np.array([0.5, 2.0, 9.9, 0.25])[step])
    with pytest.raises(UserError, match=r"phases\[1\].mirror: needs gamma_profile; give --gamma-profile"):
        plan(phases)


def test_a_mirrored_phase_may_move_theta():
    mirror = {"service": "api", "model": "ChatGPT", "compressed_s": 5, "scaled_to": "conversation"}
    phase = {"name": "m", "mirror": mirror, "theta": {"kind": "linear", "from": 1, "to": 2}}
    table, _ = plan([phase], profile=profile_table([(0.1, 1.0)] * 3))
    assert column(table, "theta") == pytest.approx(1.1 * (1 + column(table, "step") / 2))


def test_streams_differ_by_cell_seed_and_purpose():
    phases = [{"name": "v", "requests": 50}]
    base, _ = plan(phases)
    for change in ({"seed": 2}, {"gpu": "a6000"}, {"model": "x"}, {"experiment": "x"}, {"root_seed": 1}):
        other, _ = plan(phases, **change)
        for name in ("send_s", "prompt_tokens", "prompt_id"):
            assert not np.array_equal(column(base, name), column(other, name)), change


def test_no_two_draws_share_a_stream(monkeypatch):
    # Gaps and lengths of one stream would be correlated (a peer's are, at 0.98).
    asked = []
    original = make.seeds.generator
    monkeypatch.setattr(make.seeds, "generator", lambda *key: asked.append(key) or original(*key))
    for seed in (1, 2):
        plan([{"name": "warmup", "seconds": 10}, {"name": "variation", "requests": 10}], seed=seed)
    assert len(asked) == 2 * 2 * 3
    assert len({original(*key).integers(2**63) for key in asked}) == len(asked)


def digest():
    """SHA-256 of the numbers of a plan that uses all there is of mathematics: logarithms, powers, exp, sin."""
    phases = [
        {"name": "warmup", "seconds": 3000},
        {
            "name": "variation",
            "requests": 10_000,
            "alpha": {"kind": "expression", "text": "initial * exp(sin(i / 50))"},
            "theta": {"kind": "linear", "from": 1, "to": 2},
        },
    ]
    table, _ = plan(phases)
    total = hashlib.sha256()
    for name in ("send_s", "prompt_tokens", "prompt_id", "step", "alpha", "beta", "theta"):
        total.update(column(table, name).tobytes())
    return total.hexdigest()


def test_same_seed_same_plan():
    # A change of this number changes every plan and so every result: it belongs into the changelog.
    assert digest() == "90fd2012d2b2fe56345741955553d4944facec674eaf5fe32bb4594289ae2f84"


@pytest.mark.parametrize(
    "machine",
    [
        {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},  # NumPy without AVX2 and AVX-512
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable"},  # a C library without FMA
    ],
    ids=["numpy", "libm"],
)
def test_same_plan_on_a_machine_with_another_processor(machine):
    # Their exp, log and pow differ in the last bit from this machine's; standard_gamma's too.
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_plan_make as t; print(t.digest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **machine}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest()


WRONG = [
    ({"initial": {"alpha": 0, "beta": 1, "theta": 1}}, "initial.alpha: found 0, expected a number > 0"),
    ({"initial": {"alpha": 1, "beta": -1, "theta": 1}}, "initial.beta: found -1"),
    ({"initial": {"alpha": 1, "beta": 1}}, "initial.theta: missing"),
    ({"initial": {"alpha": 1, "beta": 1, "theta": 1, "gamma": 1}}, "initial.gamma: unknown key"),
    ({"seed": -1}, "seed: found -1"),
    ({"root_seed": 1.5}, "root_seed: found 1.5"),
    ({"max_tokens": 0}, "max_tokens: found 0"),
    ({"prompt_max_tokens": "all"}, "prompt_max_tokens: found 'all'"),
    ({"prompt_max_tokens": 301}, "prompt_max_tokens: found 301, expected at most 300"),
    ({"model": ""}, "model: found ''"),
    ({"beta_kind": "shape"}, "beta_kind: found 'shape', expected one of scale, rate, mean_gap"),
    ({"betas": 1}, "settings.betas: unknown key"),
    ({"phases": []}, "phases: found []"),
    (
        {"phases": [{"name": "v", "requests": 20_000_001}]},
        "phases[0].requests: found 20000001, expected at most 20000000",
    ),
    ({"phases": [{"name": "v", "seconds": 1e-9}]}, "phases: no request falls into them"),
    (
        {"phases": [{"name": "v", "requests": 3, "beta": {"kind": "expression", "text": "1 - u"}}]},
        "phases[0].beta: found 0.0, expected a finite value > 0 everywhere (it fails at request 2 of the phase, u = 1",
    ),
]


@pytest.mark.parametrize(("change", "named"), WRONG, ids=[named[:40] for _, named in WRONG])
def test_wrong_settings_are_refused(change, named):
    with pytest.raises(UserError) as caught:
        plan(**{"phases": [{"name": "v", "requests": 10}], **change})
    assert named in str(caught.value)


def test_a_missing_setting_is_refused():
    for key in [*CELL, "phases"]:
        settings = {**CELL, "phases": [{"name": "v", "requests": 10}]}
        del settings[key]
        with pytest.raises(UserError, match=rf"{key}: missing"):
            make.check_settings(settings)


def command(folder, settings, *options):
    return subprocess.run(
        [
            *(sys.executable, "-m", "burstbench", "plan", "make", "--settings", json.dumps(settings)),
            *(
                "--pool-index",
                "pool_index.parquet",
                "--plan",
                "out/plan.parquet",
                "--record",
                "out/plan.json",
                *options,
            ),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_writes_the_same_bytes_twice(tmp_path):
    mirror = {"service": "conversation", "model": "ChatGPT", "compressed_s": 60, "scaled_to": "conversation"}
    table = {"kind": "table", "csv": "beta.csv"}
    settings = {
        **CELL,
        "phases": [{"name": "warmup", "seconds": 50, "beta": table}, {"name": "mirrored", "mirror": mirror}],
    }
    profile = profile_table([(0.1, 0.5), (0.2, 0.7)])
    written = []
    for place in ("one", "two"):
        folder = tmp_path / place
        folder.mkdir()
        POOL_INDEX.write(POOL, folder / "pool_index.parquet")
        GAMMA_PROFILE.write(profile, folder / "gamma_profile.parquet")
        (folder / "beta.csv").write_text("time_s,factor\n0,1\n20,0.5\n")
        before = copy.deepcopy(settings)
        done = command(folder, settings, "--gamma-profile", "gamma_profile.parquet")
        assert (done.returncode, done.stderr) == (0, "")
        assert settings == before
        written.append([(folder / "out" / name).read_bytes() for name in ("plan.parquet", "plan.json")])
    assert written[0] == written[1]
    record = json.loads(written[0][1])
    out = tmp_path / "one"
    assert record["settings"] == settings
    assert {key: record[key] for key in ("experiment", "model", "gpu", "seed")} == {
        key: CELL[key] for key in ("experiment", "model", "gpu", "seed")
    }
    assert record["plan_sha256"] == sha256(out / "out" / "plan.parquet")
    assert record["inputs_sha256"] == {
        "pool_index": sha256(out / "pool_index.parquet"),
        "gamma_profile": sha256(out / "gamma_profile.parquet"),
        "beta.csv": sha256(out / "beta.csv"),
    }
    assert record["requests"] == PLAN.read(out / "out" / "plan.parquet").num_rows


def test_the_command_refuses_in_one_sentence(tmp_path):
    POOL_INDEX.write(POOL, tmp_path / "pool_index.parquet")
    done = command(tmp_path, {**CELL, "phases": [{"name": "warmup", "seconds": 0}]})
    assert done.returncode == 2
    assert done.stderr == "burstbench plan make: phases[0].seconds: found 0, expected a number > 0\n"
    assert not (tmp_path / "out").exists()


def test_the_command_starts_without_heavy_imports():
    code = (
        "import sys, burstbench.plan.make; "
        "print([name for name in ('pandas', 'scipy', 'matplotlib', 'numba') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
