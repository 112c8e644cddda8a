"""The types of options: values, secrets, paths, and listening addresses."""
