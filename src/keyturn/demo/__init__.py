"""`make demo`: three simulated exchanges, three live bots, one Prefect, and every key turned under way."""
