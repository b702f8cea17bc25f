"""The names of the files that say what a synthetic dataset was drawn from."""

SUMMARY = "synth.json"
TRUTH_USERS = "truth-users.parquet"
TRUTH_MOVIES = "truth-movies.parquet"
TRUTH_FILES = (SUMMARY, TRUTH_USERS, TRUTH_MOVIES)
