"""MovieLens files to three tables: the datasets, where they are found, and a reader for each layout."""
