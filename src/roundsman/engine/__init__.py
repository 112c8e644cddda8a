"""The engine: visits sources when they are due or ring, and delivers the log to each sink."""
