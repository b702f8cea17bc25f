"""What every stage needs: errors, column names, JSON files, sealed folders, the run folder, progress."""
