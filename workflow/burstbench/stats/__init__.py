"""Statistics shared by the rooms."""
