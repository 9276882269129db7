"""Step times from kernel tables: a small profile worked out by hand, wrong profiles, and a real server's log."""

import json

import numpy as np
import pytest
from burstbench.serve import kerneltable, scheduler, steptime
from burstbench.serve.kerneltable import ProfileError

KERNELS = (
    "embedding",
    "final_layernorm",
    "layernorm",
    "qkv_proj",
    "rotary_emb",
    "o_proj",
    "gate_up_proj",
    "act_fn",
    "down_proj",
)


def attention_us(chunk, context, decodes, length):
    """Linear in every axis, so that interpolation is exact between the nodes."""
    if chunk == 0 and decodes == 0:
        return None
    return 2 + 0.5 * chunk + (0.25 * context if chunk else 0) + 3 * decodes + (0.125 * decodes * length)


@pytest.fixture
def profile(tmp_path):
    dense = ["layer,tokens,time_us"]
    for place, name in enumerate(KERNELS):
        dense += [f"{name},{tokens},{(place + 1) * (10 + tokens)}" for tokens in (1, 5, 9)]
    (tmp_path / "profile_dense.csv").write_text("\n".join(dense) + "\n")
    rows = ["layer,sequences,time_us"]
    rows += [f"lm_head,{n},{100 + 10 * n}" for n in (1, 3)] + [f"sampler,{n},{n}" for n in (1, 3)]
    (tmp_path / "profile_per_sequence.csv").write_text("\n".join(rows) + "\n")
    rows = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"]
    for chunk in (0, 4, 8):
        for context in (0, 16) if chunk else (0,):
            for decodes in (0, 1, 2) if chunk < 8 else (0, 1):
                for length in (16, 32) if decodes else (0,):
                    time = attention_us(chunk, context, decodes, length)
                    if time is not None:
                        rows.append(f"{chunk},{context},{decodes},{length},{time}")
    (tmp_path / "profile_attention.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


SKEW = "regime,n,alpha\npure,2,0.25\npure,2,\npure,3,0.5\nmixed,2,9\n"


def seconds(times, *batch):
    return steptime.seconds(times.linear_s, times.head_s, times.attention, *batch) * 1e6


def test_a_decoding_step_by_hand(profile):
    times = kerneltable.table(kerneltable.read(profile), 3, 20, 4, host=(1e-3, 1e-5))
    # Two tokens: 12 µs times 1 + 2 once, and 2*3 + 4 + 5 + 6 + 7 + 8 + 9 = 45 in each of 3 layers. lm_head, sampler of
    # two rows: 120 + 2. Attention of 2 requests of 24 tokens: 2 + 6 + 6. Host 1000 + 20.
    assert seconds(times, 2, 2, 2, 48, 30, 0, 0.0) == pytest.approx(12 * (3 + 3 * 45) + 122 + 3 * 14 + 1020)


def test_a_mixed_step_by_hand(profile):
    times = kerneltable.table(kerneltable.read(profile), 1, 20, 4)
    # A chunk of 6 after 8 and a request of 20 tokens: 2 + 3 + 2 + 3 + 2.5 = 12.5 µs; 7 tokens: 17 * 48; two rows: 122.
    work = steptime.prefill_work(6, 8)
    assert seconds(times, 7, 2, 1, 20, 20, 1, work) == pytest.approx(17 * 48 + 122 + 12.5)
    # Two chunks of 2 after 9: together 4 tokens with the context that makes 2*(18 + 2) = 4*c + 8 pairs: 8.
    work = 2 * steptime.prefill_work(2, 9)
    assert seconds(times, 4, 2, 0, 0, 0, 2, work) == pytest.approx(14 * 48 + 122 + 2 + 2 + 2)
    # Two whole prompts of 4: 16 pairs, as one of sqrt(32) tokens.
    work = 2 * steptime.prefill_work(4, 0)
    assert seconds(times, 8, 2, 0, 0, 0, 2, work) == pytest.approx(18 * 48 + 122 + 2 + 0.5 * 32**0.5)


def test_rows_that_fill_a_cuda_graph_up_cost_no_attention(profile):
    times = kerneltable.table(kerneltable.read(profile), 3, 20, 4)
    linear_us = 1e6 * (times.linear_s[4] - times.linear_s[2])
    assert seconds(times, 4, 2, 2, 48, 32, 0, 0.0) == pytest.approx(seconds(times, 2, 2, 2, 48, 32, 0, 0.0) + linear_us)


def test_beyond_the_nodes_the_last_slope_goes_on(profile):
    read = kerneltable.read(profile)
    # Beside a chunk of 8, two decoding requests were not measured: contexts of the chunk 2, lengths 2.
    assert read.extrapolated == 4
    times = kerneltable.table(read, 1, 20, 4)
    work = steptime.prefill_work(8, 0)
    assert seconds(times, 10, 3, 2, 40, 20, 1, work) == pytest.approx(48 * 19 * 10 / 9 + 133 + 2 + 4 + 6 + 5)
    assert seconds(times, 2, 2, 2, 128, 64, 0, 0.0) == pytest.approx(48 * 12 + 122 + 2 + 6 + 16)


def test_graphs_pad_and_unequal_contexts_cost_more(profile):
    (profile / "profile_skew.csv").write_text("regime,alpha\npure,0.25\npure,0.75\npure,0.5\nmixed,9\n")
    read = kerneltable.read(profile)
    times = kerneltable.table(read, 1, 20, 4, graph_sizes=(1, 5))
    # Padded to 5 tokens: 15 µs. Contexts 16 and 32: half way from the time of the mean, 14, to that of the longest, 16.
    assert seconds(times, 2, 2, 2, 48, 32, 0, 0.0) == pytest.approx(48 * 15 + 122 + 15)
    times = kerneltable.table(read, 1, 20, 4, skew=False)
    assert seconds(times, 2, 2, 2, 48, 32, 0, 0.0) == pytest.approx(48 * 12 + 122 + 14)


def test_compiled_it_gives_the_same(profile):
    (profile / "profile_skew.csv").write_text("regime,alpha\npure,0.5\n")
    times = kerneltable.table(kerneltable.read(profile), 2, 16, 4)
    whole = [np.array(values) for values in ([0, 0, 0], [7, 12, 3], [4, 9, 6])]
    run = scheduler.simulate("v1", *whole, scheduler.Limits(20, 4, 16), times)
    # Step 0: prompts of 7, and 9 of 12 tokens. Step 1: one decodes (context 8); the rest of 3 after 9; 3 whole.
    first = seconds(times, 16, 2, 0, 0, 0, 2, steptime.prefill_work(7, 0) + steptime.prefill_work(9, 0))
    second = seconds(times, 7, 3, 1, 8, 8, 2, steptime.prefill_work(3, 9) + steptime.prefill_work(3, 0))
    assert run.steps[:2, scheduler.DURATION] == pytest.approx([first * 1e3, second * 1e3], abs=1)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("profile_dense.csv", "o_proj,5,", "x_proj,5,", None),
        ("profile_dense.csv", "o_proj", "x_proj", "layer 'o_proj' is missing"),
        ("profile_dense.csv", "tokens", "token", "column 'tokens' is missing"),
        ("profile_dense.csv", "embedding,5,15", "embedding,5,nan", "column 'time_us', row 1: found nan"),
        ("profile_dense.csv", "embedding,5,15", "embedding,1,15", "two times for one size"),
        ("profile_per_sequence.csv", "sampler,1,1", "sampler,1,-1", "row 2: found -1.0, expected a positive"),
        ("profile_attention.csv", "4,16,1,16,", "4,16,1,48,", "no time for prefill_chunk = 0, kv_prefill = 0"),
        (
            "profile_attention.csv",
            "4,16,1,16,",
            "4,16,1,32,",
            "rows .* two times for prefill_chunk = 4, kv_prefill = 16",
        ),
        ("profile_attention.csv", "time_us", "time_ms", "column 'time_us' is missing"),
        ("profile_attention.csv", "4,16,1,16,", "4,16,1,inf,", "column 'kv_decode', row .*: found inf"),
        ("profile_attention.csv", "4,16,1,16,", "4,16,one,16,", "column 'n_decode'"),
        ("profile_skew.csv", "alpha", "share", "column 'alpha' is missing"),
        ("profile_skew.csv", "pure", "mixed", "found no alpha of the regime 'pure'"),
    ],
)
def test_a_wrong_profile_is_refused(profile, file, old, new, message):
    (profile / "profile_skew.csv").write_text(SKEW)
    path = profile / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    if message is None:
        kerneltable.read(profile)
        return
    with pytest.raises(ProfileError, match=message) as caught:
        kerneltable.read(profile)
    assert file in str(caught.value)


def test_order_of_rows_and_columns_and_other_columns_are_nothing(profile):
    (profile / "profile_skew.csv").write_text(SKEW)
    plain = kerneltable.read(profile)
    assert plain.skew == 0.375
    rng = np.random.default_rng()
    for path in profile.glob("profile_*.csv"):
        header, *rows = (line.split(",") for line in path.read_text().splitlines())
        columns = [*rng.permutation(len(header)), None]
        lines = [[header[at] if at is not None else "gpu" for at in columns]]
        lines += [[rows[row][at] if at is not None else "RTX" for at in columns] for row in rng.permutation(len(rows))]
        path.write_text("\n".join(map(",".join, lines)) + "\n")
    other = kerneltable.read(profile)
    assert (other.skew, other.extrapolated) == (plain.skew, plain.extrapolated)
    for name in ("once_s", "layer_s", "tokens", "head_s", "sequences", "attention_s"):
        assert (getattr(other, name) == getattr(plain, name)).all()


def test_what_lies_beyond_the_profile_is_said(profile):
    read = kerneltable.read(profile)
    assert kerneltable.validity(read, 9, 2, 32) == []
    assert [len(kerneltable.validity(read, *most)) for most in ((10, 2, 32), (9, 3, 32), (9, 2, 33))] == [1, 1, 1]


def test_a_real_server_is_predicted_within_two_percent(shared_data):
    folder = shared_data / "serving_logs/rtx4090_llama-3.1-8b"
    rows = [json.loads(line) for line in (folder / "vllm_requests.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: row["queued_ts"])
    column = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "request_id"}
    arrival = np.round((column["queued_ts"] - column["queued_ts"][0]) * 1e9).astype(np.int64)
    times = kerneltable.table(kerneltable.read(folder), 32, 2048, 256, skew=False)
    limits = scheduler.Limits(2587, 256, 2048)
    run = scheduler.simulate(
        "v1", arrival, column["input_toks"], column["output_toks"], limits, times, prefix_caching=True
    )
    decoded = column["output_toks"] - 1
    for found, measured in (
        (run.first_token_ns - arrival, column["first_token_ts"] - column["queued_ts"]),
        ((run.done_ns - run.first_token_ns) / decoded, (column["last_token_ts"] - column["first_token_ts"]) / decoded),
        (run.done_ns - arrival, column["last_token_ts"] - column["queued_ts"]),
    ):
        assert found.mean() / 1e9 == pytest.approx(measured.mean(), rel=0.02)
        assert np.quantile(found, 0.9) / 1e9 == pytest.approx(np.quantile(measured, 0.9), rel=0.05)
