"""One file for each network that has a twin in TensorFlow, called as the network is."""

import core.gpu  # noqa: F401  before Merlin
