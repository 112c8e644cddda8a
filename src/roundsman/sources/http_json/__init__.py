"""`http.json`: a list of any JSON API, described in TOML alone."""
