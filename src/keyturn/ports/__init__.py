"""What the engine asks of the outside world, as Protocols. Adapters implement them; fakes too."""
