"""One file for each network that has a twin in TensorFlow, called as the network is."""
