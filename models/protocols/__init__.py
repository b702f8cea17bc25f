"""The questions that models are judged by, a file each."""
