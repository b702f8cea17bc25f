"""The exported repository: its versions, and the releases that a server takes from it."""
