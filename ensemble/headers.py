"""The headers that clients send beside a request."""

SECRET_HEADER = "marquee-secret"
GRPC_PREFIX = "triton-grpc-protocol-"  # before it, where Triton's own gRPC is asked
CANARY_HEADER = "marquee-canary"  # marks what is asked only to see whether there is an answer
