"""Features to trained models and their metrics: DLRM, NCF, baselines, training, evaluation."""
