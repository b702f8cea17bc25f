"""The page that asks Triton, and what people have rated there."""
