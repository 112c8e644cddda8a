"""The rounds: whose turn it is, one visit after another, one delivery loop per sink; and stopping."""
