"""What every stage stands on: errors, column names, JSON files, sealed folders, the run folder, progress."""
