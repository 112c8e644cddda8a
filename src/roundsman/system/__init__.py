"""The machine: files, threads, logs."""
