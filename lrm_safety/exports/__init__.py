"""Forms in which a measured run leaves: one file a form, contract in lrm_safety/export.py."""
