"""Scorecard, PDF and web page."""
