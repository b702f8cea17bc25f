"""Raw MovieLens files to features: datasets and their readers, splits, NVTabular's workflows, negatives."""
