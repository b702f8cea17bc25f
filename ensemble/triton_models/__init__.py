"""What runs inside Triton. Nothing here imports training, and nothing unpickles."""
