"""Every request of a run, before it starts."""
