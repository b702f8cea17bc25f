"""Where datasets come from, and their files read into the same three tables: a file for each layout."""
