"""Building blocks of sources: polls, lenient field reading, growing lists, jobs that end, archives."""
