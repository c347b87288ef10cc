"""What runs: Prefect flows around prefdata, and the bundled recipes."""
