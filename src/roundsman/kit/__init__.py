"""Building blocks of sources: polls, lenient field reading, growing lists, tracking by id, archives."""
