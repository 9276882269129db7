"""What the trace is like: counts, bursts, lengths, failures."""
