"""Speaking HTTP: what a plugin is given, the connections below it, and what answers mean."""
