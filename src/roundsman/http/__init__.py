"""HTTP: the client that a plugin gets, the connections below it, and what answers mean."""
