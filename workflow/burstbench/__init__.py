"""BurstBench: from a raw trace of LLM requests to the artifacts of the BurstGPT paper."""

__version__ = "0.1.0"
