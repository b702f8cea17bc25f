"""The server that clients talk to: it checks, bounds and schedules their requests before Triton sees them."""
