"""Output that fits a terminal: columns, colours, local times, and an event as a line."""
