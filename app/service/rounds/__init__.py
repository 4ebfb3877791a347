"""The state machine of rounds, from their opening to the cleanup behind them."""
