"""The use cases: the only code that calls the ports in an order. It knows no vendor and no Prefect."""
