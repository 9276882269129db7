"""A model without weights: the folder that vLLM needs to serve random ones, made from a row of config/models.yaml."""

from pathlib import Path
from typing import Any

from burstbench.files import write_json
from burstbench.serve.gpus import Model

EOS = 2
# With random weights every token is about as likely as any other. So many of the vocabulary end an answer that answers
# have about this many tokens on average, geometrically distributed, where max_tokens does not cut them.
MEAN_RESPONSE_TOKENS = 16


def config(model: Model) -> dict[str, Any]:
    """Return the config.json of a Llama of a row's shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab,
        "max_position_embeddings": model.max_model_len,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "torch_dtype": {2: "float16", 4: "float32"}[model.bytes_per_parameter],
    }


def write(folder: Path, model: Model, ends: list[int]) -> None:
    """Write config.json and generation_config.json.

    Args:
        folder: to make.
        model: its shape.
        ends: tokens that end an answer.
    """
    write_json(folder / "config.json", config(model))
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": ends})


def random_ends(model: Model) -> list[int]:
    """Return the tokens that end an answer of random weights: a share 1 / `MEAN_RESPONSE_TOKENS` of the vocabulary."""
    return list(range(EOS, EOS + model.vocab // MEAN_RESPONSE_TOKENS))
