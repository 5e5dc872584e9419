"""The pure core: words, rules and the rotation machine. Nothing here does I/O or reads a clock."""
