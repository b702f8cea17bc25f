"""Trained models to answers: export, what runs inside Triton, the server, the gRPC client."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before it is imported; `client` reports its errors in one line
