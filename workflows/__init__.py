"""Raw MovieLens files to features: datasets, splits, the NVTabular graphs, negatives."""
