"""The rotation's protocol as a small model, of which every reachable state is looked at."""
