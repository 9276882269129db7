"""Dialogues as token ids, indexed by their length."""
