"""The tests of the paper's claims: `workload` for its section III (1-13), `serving` for its section V (14-19)."""
