"""Tables I-III: pure functions of tables."""
