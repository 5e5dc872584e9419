"""The command line: reads arguments, calls the engine, tells what became of it."""
