"""Plans and prompts for the tests of the load client."""

import numpy as np
from burstbench import contracts

PROMPT_TOKENS = 5


def plan(send_s, prompt_tokens=PROMPT_TOKENS, max_tokens=7):
    """A plan of requests at these times; lengths may be one for all or one each."""
    n = len(send_s)
    columns = {
        "request_id": np.arange(n),
        "phase": ["test"] * n,
        "step": np.zeros(n, int),
        "send_s": np.array(send_s, float),
        "prompt_tokens": np.broadcast_to(prompt_tokens, n),
        "prompt_id": np.arange(n) % 3,
        "alpha": np.ones(n),
        "beta": np.ones(n),
        "theta": np.ones(n),
        "max_tokens": np.broadcast_to(max_tokens, n),
    }
    return contracts.PLAN.validate(contracts.PLAN._from_mapping(columns, "plan"), "plan")


def prompt(prompt_id, n):
    """The n ids of a prompt, all different from another prompt's."""
    return 100 * (prompt_id + 1) + np.arange(n)
