"""Failure rate, latency and throughput of runs."""
