"""What a movie or a user is described by beside its ratings: a file for each side feature."""
