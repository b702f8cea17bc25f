"""The baselines that a network must beat: one file for each, which adds itself to the registry in `base`."""
