"""Contract suites and fakes that adapters, and their authors elsewhere, run."""
