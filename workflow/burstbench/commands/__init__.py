"""Verbs without a room: `burstbench VERB`."""
