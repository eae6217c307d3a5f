"""Tools that show training curves: one file a tool, contract in lrm_safety/tracking.py."""
