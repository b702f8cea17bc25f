"""A Triton that is started, watched and kept answering."""
