"""Raw traces, or their twin, as one table."""
