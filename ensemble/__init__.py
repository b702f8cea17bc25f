"""Trained models to answers: export, what runs inside Triton, the server, the gRPC client."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before it is imported; `client` reports its errors in one line
# A process that is started while another thread asks over gRPC would crash in gRPC's fork handlers: one in three did.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
