"""Engines that run a plan: simulated or real."""
