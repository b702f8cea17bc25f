"""Which rating trains, which validates, which tests: a file for each split."""
