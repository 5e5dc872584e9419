"""Figures, as ratios within one run: bare asyncio with ccxt, the engine alone, the engine under Prefect."""
