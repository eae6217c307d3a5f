"""Logs of other tools that come in as runs: one file a format, contract in lrm_safety/importing.py."""
