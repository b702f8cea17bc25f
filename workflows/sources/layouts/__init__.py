"""The layouts that datasets are published in: a file for each."""
