"""Engines, one file each; see services/inference/engine.py."""
