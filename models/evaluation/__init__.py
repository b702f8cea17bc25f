"""Metrics, confidence intervals, paired tests, and the commands that judge models."""
