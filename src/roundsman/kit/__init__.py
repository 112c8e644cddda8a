"""What sources are built from: polls in the making, lenient reading, lists that grow, things that end, archives."""
