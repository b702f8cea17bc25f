"""What pictures of the comparison show, as functions of arrays: formula, source and an example each."""
