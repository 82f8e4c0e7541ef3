"""The loop of quarantine: look at rows that broke a contract, decide about them, let the tables follow."""
