"""Fetch what the registry names, checked."""
