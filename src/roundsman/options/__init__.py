"""What options are made of: values, secrets, paths, and where to listen."""
