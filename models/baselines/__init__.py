"""What a network must beat: a file for each baseline that is fitted at once."""
