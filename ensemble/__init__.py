"""Trained models to answers: export, what runs inside Triton, the server, the gRPC client."""
